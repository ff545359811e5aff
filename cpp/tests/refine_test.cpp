// SPDX-License-Identifier: Apache-2.0
#include "wavefix/refine.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "plane_wave_model.hpp"
#include "wavefix/error.hpp"

namespace {

using namespace wavefix;

TEST_CASE("refine returns to the truth") {
  const ChannelModel model = testing::plane_wave_model();
  const auto truth = testing::random_positions(model, 20);
  const auto channels = testing::synthesize(model, truth);
  Refiner refiner(model, {});
  for (std::size_t row = 0; row < 20; ++row) {
    const double* position = truth.data() + 3 * row;
    const double start[3] = {position[0] + 0.006, position[1] - 0.004, position[2]};
    const Refinement result = refiner.refine(channels.data() + row * 96, start);
    CHECK(result.converged);
    CHECK(std::hypot(result.position[0] - position[0], result.position[1] - position[1]) < 1e-6);
    CHECK(result.position[2] == position[2]);  // a height is not searched
    CHECK(refiner.cost(channels.data() + row * 96, result.position.data()) == result.cost);
  }
}

TEST_CASE("covariance is the inverse information within the region and zero across it") {
  Region region;
  region.basis = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0};
  region.lower = region.upper = {0.0, 0.0};
  const auto spread = covariance({4.0, 0.0, 1.0, 0.0, 2.0, 1.0, 1.0, 1.0, 9.0}, region, 2.0);
  const std::array<double, 9> wanted{0.25, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0};
  for (std::size_t i = 0; i < 9; ++i) CHECK(spread[i] == doctest::Approx(wanted[i]));
  CHECK(std::isnan(covariance({4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}, region, 2.0)[0]));
}

TEST_CASE("options outside their range are refused") {
  const ChannelModel model = testing::plane_wave_model();
  RefineOptions options;
  options.initial_damping = 0.0;
  CHECK_THROWS_AS(Refiner(model, options), ShapeError);
}

}  // namespace
