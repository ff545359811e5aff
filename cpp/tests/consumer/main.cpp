// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <complex>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <vector>
#include <wavefix/channel_model.hpp>
#include <wavefix/error.hpp>
#include <wavefix/localizer.hpp>
#include <wavefix/parallel.hpp>
#include <wavefix/propagation.hpp>
#include <wavefix/version.hpp>

#include "model_file.hpp"

#if __has_include(<Eigen/Core>)
#error "a consumer of wavefix must not see Eigen through it"
#endif

namespace {

bool loops() {
  std::vector<double> storage(12, 0.0);
  const wavefix::View<double, 2> view(storage.data(), {4, 3});
  wavefix::parallel_for(view.shape[0], {}, [&](std::size_t row, int) { view.row(row)[1] = 1.0 + double(row); });
  return std::accumulate(storage.begin(), storage.end(), 0.0) == 10.0;
}

/// A thrown type has to be the same one on both sides of a shared library.
bool errors_cross_the_library() {
  try {
    wavefix::ChannelModel::from_bytes("not a model", 11);
  } catch (const wavefix::ModelFormatError&) {
    return true;
  }
  return false;
}

bool simulates() {
  wavefix::Scene scene;
  scene.antennas = {{0.0, 0.0, 3.0}};
  scene.subcarriers = 4;
  const std::vector<double> position{10.0, 0.0, 3.0};
  std::vector<wavefix::cfloat> channel(4);
  wavefix::simulate(scene, {position.data(), {1, 3}}, {channel.data(), {1, 1, 4}}, {});
  return std::abs(std::abs(channel[0]) - wavelength / (4 * M_PI * 10.0)) < 1e-3F * std::abs(channel[0]);
}

/// (2) by hand, along the line of model_file().
std::complex<double> expected_channel(double x, int j, int k) {
  double total = 0.0;
  for (const float gain : gains) total += std::exp(double(gain));
  std::complex<double> sum = 0.0;
  for (int i = 0; i < n_atoms; ++i) {
    const double turns = (-cosines[i] * x + slopes[i] * antenna(j)) / wavelength - offset(k) * lengths[i] / light;
    sum += std::polar(double(gains[i]) * std::exp(double(gains[i])) / total, 2 * M_PI * turns);
  }
  return sum;
}

bool synthesizes(const wavefix::ChannelModel& model, double x) {
  const std::vector<double> position{x, 0.0, 1.5};
  std::vector<wavefix::cfloat> channel(n_antennas * n_subcarriers);
  model.synthesize({position.data(), {1, 3}}, {channel.data(), {1, n_antennas, n_subcarriers}});
  for (int j = 0; j < n_antennas; ++j)
    for (int k = 0; k < n_subcarriers; ++k)
      if (std::abs(std::complex<double>(channel[j * n_subcarriers + k]) - expected_channel(x, j, k)) > 1e-5)
        return false;
  return model.n_atoms() == n_atoms && model.kind() == "planar";
}

bool locates(const wavefix::ChannelModel& model, double x) {
  std::vector<wavefix::cfloat> channel;
  for (int j = 0; j < n_antennas; ++j)
    for (int k = 0; k < n_subcarriers; ++k) channel.emplace_back(expected_channel(x, j, k));
  std::vector<double> position(3), covariance(9);
  std::uint8_t status = 255;
  double residual = 1.0, ambiguity = -1.0;
  wavefix::Fixes fixes;
  fixes.position = {position.data(), {1, 3}};
  fixes.covariance = {covariance.data(), {1, 3, 3}};
  fixes.status = {&status, {1}};
  fixes.residual = {&residual, {1}};
  fixes.ambiguity = {&ambiguity, {1}};
  wavefix::LocalizerOptions options;
  options.strategy = "off_grid_naive";  // three paths on a line: up to a common phase, many positions look alike
  const wavefix::Localizer localizer(model, options);
  localizer.locate({channel.data(), {1, n_antennas, n_subcarriers}}, fixes);
  std::printf("at %.6f m: fix %.6f m, status %d, residual %.1e\n", x, position[0], int(status), residual);
  return std::abs(position[0] - x) < 1e-4 && status == std::uint8_t(wavefix::Status::ok) && residual < 1e-6;
}

}  // namespace

#define REQUIRE(condition)                            \
  if (!(condition)) {                                 \
    std::fprintf(stderr, "failed: " #condition "\n"); \
    return 1;                                         \
  }

/// Argument, if any: where to write the model file.
int main(int argc, char** argv) {
  REQUIRE(loops());
  REQUIRE(errors_cross_the_library());
  REQUIRE(simulates());
  const std::string file = model_file();
  const wavefix::ChannelModel model = wavefix::ChannelModel::from_bytes(file.data(), file.size());
  if (argc > 1) std::ofstream(argv[1], std::ios::binary).write(file.data(), std::streamsize(file.size()));
  REQUIRE(synthesizes(model, 0.123));
  REQUIRE(locates(model, 0.123));
  std::printf("wavefix %s: consumer ok\n", WAVEFIX_VERSION);
  return 0;
}
