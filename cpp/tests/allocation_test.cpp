// SPDX-License-Identifier: Apache-2.0
// Counts what is allocated where nothing may be. Eigen calls malloc itself, so malloc is counted where it can be
// replaced (glibc without a sanitizer, which needs it) and operator new elsewhere.
#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "plane_wave_model.hpp"
#include "virtual_source_model.hpp"
#include "wavefix/localizer.hpp"

namespace {

std::atomic<std::size_t> allocations{0};

}  // namespace

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define WAVEFIX_SANITIZED
#endif
#endif

#if defined(__GLIBC__) && !defined(WAVEFIX_SANITIZED) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" void* __libc_malloc(std::size_t size);
extern "C" void* malloc(std::size_t size) noexcept {
  ++allocations;
  return __libc_malloc(size);
}
#else
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size != 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size != 0 ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace {

using namespace wavefix;

TEST_CASE("allocations are counted") {
  const std::size_t before = allocations;
  std::vector<double>* volatile kept = new std::vector<double>(100);  // volatile: or the compiler drops both
  delete kept;
  CHECK(allocations >= before + 2);
}

TEST_CASE("synthesis of one position allocates nothing in the steady state") {
  for (const ChannelModel& model : {testing::plane_wave_model(19, 12), testing::spherical_model(19, 12, true)}) {
    CAPTURE(model.kind());
    const auto positions = testing::random_positions(model, 20);
    std::vector<cfloat> channel(19 * 12), jacobian(3 * channel.size());
    const auto workspace = model.make_workspace();
    const auto run = [&](std::size_t row) {
      const double* position = positions.data() + 3 * row;
      model.synthesize_one(position, channel.data(), nullptr, *workspace);
      model.synthesize_one(position, channel.data(), jacobian.data(), *workspace);
      model.synthesize({position, {1, 3}}, {channel.data(), {1, 19, 12}});
      model.synthesize({position, {1, 3}}, {channel.data(), {1, 19, 12}}, {jacobian.data(), {1, 3, 19, 12}});
    };
    run(0);  // makes what later calls use
    const std::size_t before = allocations;
    for (std::size_t row = 1; row < 20; ++row) run(row);
    CHECK(allocations == before);
  }
}

TEST_CASE("a fix, refined, allocates nothing in the steady state") {
  const ChannelModel model = testing::spherical_model(19, 12, true);
  const auto positions = testing::random_positions(model, 20);
  const auto channels = testing::synthesize(model, positions);
  const Localizer localizer(model);
  double x[3], covariance[9], residual, ambiguity;
  std::uint8_t status;
  const Fixes fix{{x, {1, 3}}, {covariance, {1, 3, 3}}, {&status, {1}}, {&residual, {1}}, {&ambiguity, {1}}};
  Execution alone;
  alone.threads = 1;
  const auto run = [&](std::size_t row) {
    localizer.locate({channels.data() + row * 19 * 12, {1, 19, 12}}, fix, alone);
  };
  for (std::size_t row = 0; row < 20; ++row) run(row);
  const std::size_t before = allocations;
  for (std::size_t row = 0; row < 20; ++row) run(row);
  CHECK(allocations == before);
}

}  // namespace
