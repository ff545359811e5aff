// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <complex>
#include <vector>

#include "kernels.hpp"

namespace {

using namespace wavefix;

constexpr double tau = 6.283185307179586476925286766559;

/// Sources seen from a block of antennas: two gated by one cell, one by two leaves, the others open.
struct Scene {
  static constexpr std::size_t sources = 20, terms = 6;
  std::vector<double> at, variables;
  std::vector<float> coefficients;
  std::vector<GateLine> lines;
  std::vector<std::size_t> cells{0, 1, 3, 4, 6};

  Scene() {
    for (std::size_t l = 0; l < sources; ++l) {
      const double angle = 0.4 * static_cast<double>(l);
      for (std::size_t axis = 0; axis < 3; ++axis) {
        for (std::size_t j = 0; j < source_lanes; ++j) {
          const double base = axis == 0 ? 12 * std::cos(angle) : axis == 1 ? 9 * std::sin(angle) : 3.0;
          at.push_back(base + (axis == l % 3 ? 0.04 * static_cast<double>(j) : 0.0));
        }
      }
      for (int index = 0; index < 8; ++index) variables.push_back(std::sin(angle + index));
      for (std::size_t index = 0; index < 2 * terms; ++index) {
        coefficients.push_back(static_cast<float>(std::cos(static_cast<double>(index) - angle)));
      }
    }
    for (int line = 0; line < 5; ++line) lines.push_back({{0.3, -0.2 * line, 0.1}, {0.02, 0.1, -0.05 * line}});
    lines.push_back({{-0.3, 0.6, -0.1}, {-0.02, -0.1, 0.15}});  // the other side of the fourth
  }
};

/// The block's channel and derivatives, [4, antennas, K] complex.
std::vector<float> evaluate(const Kernels& kernels, const Scene& scene, std::size_t antennas, std::size_t subcarriers,
                            bool equal) {
  const SegmentShape shape = segment_shape(subcarriers, equal);
  std::vector<double> distances(Scene::sources * source_lanes), wavenumbers;
  std::vector<float> amplitudes(Scene::sources * source_sets * 2 * source_lanes), offsets;
  std::vector<float> row_table(source_chunk * shape.rows * 2 * source_lanes),
      phasors(Scene::sources * 4 * source_lanes);
  std::vector<float> pair_table(Scene::sources * shape.pairs * 2 * source_lanes),
      sums(4 * source_segment * source_lanes);
  for (std::size_t k = 0; k < subcarriers; ++k) {
    const double offset = 1e6 * (static_cast<double>(k) + (equal ? 0.0 : 0.3 * std::sin(static_cast<double>(k))));
    wavenumbers.push_back((3.5e9 + offset) / 299792458.0), offsets.push_back(static_cast<float>(offset));
  }
  std::size_t seen = 0;
  for (std::size_t l = 0; l < Scene::sources; ++l) {
    const std::size_t first = l == 4 ? 2 : l == 3 ? 1 : 0, count = l == 4 ? 2 : l == 0 || l == 3 ? 1 : 0;
    const SourceTrace trace{&scene.at[3 * l * source_lanes],
                            source_lanes,
                            {0.3, -0.2, 0.1},
                            &scene.variables[8 * l],
                            &scene.coefficients[2 * l * Scene::terms],
                            2,
                            Scene::terms,
                            scene.lines.data(),
                            &scene.cells[first],
                            count,
                            tau * wavenumbers[0],
                            tau / 299792458.0,
                            true,
                            &distances[seen * source_lanes],
                            &amplitudes[seen * source_sets * 2 * source_lanes]};
    if (kernels.trace_source(trace)) ++seen;
  }
  CHECK(seen == Scene::sources);
  std::vector<float> out(4 * antennas * subcarriers * 2);
  const std::size_t part = 2 * antennas * subcarriers;
  kernels.sum_sources({seen, distances.data(), amplitudes.data(), source_sets, subcarriers, wavenumbers.data(),
                       offsets.data(), equal, 1e6 / 299792458.0, shape.rows, shape.pairs, row_table.data(),
                       pair_table.data(), phasors.data(), sums.data(), antennas, out.data(), out.data() + part, part});
  return out;
}

TEST_CASE("every level sums sources to the same channels and slopes, to rounding") {
  const Scene scene;
  const Kernels* levels[wavefix::most_levels];
  const std::size_t usable = usable_kernels(levels);
  for (const bool equal : {true, false}) {
    for (const std::size_t antennas : {std::size_t{1}, std::size_t{11}, source_lanes}) {
      for (const std::size_t subcarriers : {std::size_t{1}, std::size_t{21}, source_segment}) {
        const auto wanted = evaluate(*levels[0], scene, antennas, subcarriers, equal);
        for (std::size_t level = 1; level < usable; ++level) {
          CAPTURE(levels[level]->level);
          const auto got = evaluate(*levels[level], scene, antennas, subcarriers, equal);
          double error[2] = {0, 0}, size[2] = {0, 0};
          for (std::size_t index = 0; index < got.size(); ++index) {
            const std::size_t slope = index >= got.size() / 4 ? 1 : 0;
            error[slope] += std::pow(static_cast<double>(got[index]) - wanted[index], 2);
            size[slope] += std::pow(static_cast<double>(wanted[index]), 2);
          }
          CHECK(error[0] < 1e-12 * size[0]);  // each level is right to 1e-6
          CHECK(error[1] < 1e-12 * size[1]);
          CHECK(size[1] > 0);
        }
      }
    }
  }
}

}  // namespace
