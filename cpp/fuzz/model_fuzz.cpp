// SPDX-License-Identifier: Apache-2.0
// One input of the model fuzzer: a file either is refused as ModelFormatError, or it loads, and then it answers. Any
// other exception, a sanitizer's report or an answer that takes too long is a finding. The entry is that of libFuzzer:
// driver.cpp is an engine for compilers without one.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "wavefix/channel_model.hpp"
#include "wavefix/error.hpp"
#include "wavefix/localizer.hpp"
#include "wavefix/parallel.hpp"

// 0: refused, 1: answered; the reason of a refusal, which tells the driver how far an input got.
int wavefix_fuzz_outcome = 0;
std::string wavefix_fuzz_reason;

namespace {

using wavefix::cfloat;
using wavefix::ChannelModel;

constexpr std::size_t largest_synthesis = std::size_t{1} << 22;  // entries times atoms
constexpr std::size_t largest_localizer = std::size_t{1} << 12;

[[noreturn]] void finding(const char* what) {
  std::fprintf(stderr, "model_fuzz: %s\n", what);
  std::abort();
}

/// A channel there, where the model was fitted and far away; both halves of the answer are used.
std::vector<cfloat> synthesize(const ChannelModel& model) {
  const std::size_t entries = model.n_antennas() * model.n_subcarriers();
  std::vector<cfloat> channels(2 * entries), jacobian(6 * entries);
  const auto& origin = model.region().origin;
  const double positions[6] = {origin[0], origin[1], origin[2], origin[0] + 1.0, 1e6, -3.0};
  model.synthesize({positions, {2, 3}}, {channels.data(), {2, model.n_antennas(), model.n_subcarriers()}},
                   {jacobian.data(), {2, 3, model.n_antennas(), model.n_subcarriers()}}, {1, {}});
  channels.resize(entries);
  return channels;
}

/// Plans and locates under an interrupt after a while; not answering it is a finding. Counted is the processor's time,
/// which other processes do not lengthen.
void locate(const ChannelModel& model, std::vector<cfloat>& channel) {
  const std::clock_t begin = std::clock();
  const auto seconds = [&] { return double(std::clock() - begin) / CLOCKS_PER_SEC; };
  const wavefix::Execution execution{1, [&] { return seconds() > 0.1; }};
  std::array<double, 3> position{};
  std::array<double, 9> covariance{};
  std::array<double, 2> numbers{};
  std::uint8_t status = 255;
  try {
    wavefix::parallel_for(1, execution, [&](std::size_t, int) {
      const wavefix::Localizer localizer(model);
      localizer.locate({channel.data(), {1, model.n_antennas(), model.n_subcarriers()}},
                       {{position.data(), {1, 3}},
                        {covariance.data(), {1, 3, 3}},
                        {&status, {1}},
                        {&numbers[0], {1}},
                        {&numbers[1], {1}}},
                       execution);
    });
    if (status > 4) finding("a query without a status");
  } catch (const wavefix::Interrupted&) {
  }
  if (seconds() > 5.0) finding("an interrupt was not answered");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  wavefix_fuzz_outcome = 0;
  try {
    const ChannelModel model = ChannelModel::from_bytes(data, size);
    wavefix_fuzz_outcome = 1;
    wavefix_fuzz_reason.clear();
    const std::size_t work = model.n_antennas() * model.n_subcarriers() * model.n_atoms();
    if (work > largest_synthesis) return 0;
    std::vector<cfloat> channel = synthesize(model);
    if (work > largest_localizer) return 0;
    try {
      locate(model, channel);
    } catch (const wavefix::Error& error) {  // more than is supported
      wavefix_fuzz_reason = error.what();
    }
  } catch (const wavefix::ModelFormatError& error) {
    wavefix_fuzz_reason = error.what();
  }
  return 0;
}
