// SPDX-License-Identifier: Apache-2.0
#include "wavefix/propagation.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "wavefix/error.hpp"

namespace {

using wavefix::cfloat;
using wavefix::Material;
using wavefix::Scene;
using wavefix::View;

constexpr double pi = 3.14159265358979323846;
const Material concrete{5.24, 0.123, 0.0};

wavefix::Wall upright(double x0, double y0, double x1, double y1, const Material& material) {
  return {{{x0, y0, -50}, {x1, y1, -50}, {x1, y1, 50}, {x0, y0, 50}}, material};
}

Scene corner() {
  Scene scene;
  scene.walls = {upright(0, 0, 50, 0, concrete), upright(0, 0, 0, 50, concrete)};
  scene.antennas = {{3, 2, 0}, {3.04, 2, 0}};
  scene.subcarriers = 11;
  return scene;
}

struct Channels {
  std::vector<cfloat> values;
  std::unique_ptr<bool[]> line_of_sight;
};

Channels run(const Scene& scene, const std::vector<double>& positions, int threads = 1, int bounces = 3) {
  const std::size_t n = positions.size() / 3;
  Channels out{std::vector<cfloat>(n * scene.antennas.size() * scene.subcarriers), std::make_unique<bool[]>(n)};
  wavefix::simulate(scene, {positions.data(), {n, 3}},
                    {out.values.data(), {n, scene.antennas.size(), scene.subcarriers}}, {out.line_of_sight.get(), {n}},
                    {bounces}, {threads, {}});
  return out;
}

TEST_CASE("free space is the closed form") {
  Scene scene = corner();
  scene.walls.clear();
  const Channels got = run(scene, {40, 30, 0});
  CHECK(got.line_of_sight[0]);
  const auto frequencies = wavefix::frequencies_of(scene);
  for (std::size_t antenna = 0; antenna < 2; ++antenna) {
    const double d = std::hypot(40 - scene.antennas[antenna][0], 30 - scene.antennas[antenna][1]);
    for (std::size_t k = 0; k < 11; ++k) {
      const std::complex<double> want = std::polar(wavefix::speed_of_light / scene.carrier / (4 * pi * d),
                                                   -2 * pi * frequencies[k] * d / wavefix::speed_of_light);
      CHECK(std::abs(std::complex<double>(got.values[antenna * 11 + k]) - want) <= 1e-6 * std::abs(want));
    }
  }
}

TEST_CASE("a corner has its three images, and the paths sum to the channel") {
  const Scene scene = corner();
  const auto paths = wavefix::trace(scene, {5, 7, 0.2});
  REQUIRE(paths.size() == 4);
  CHECK(paths[0].walls.empty());
  CHECK(paths[3].walls.size() == 2);
  CHECK(paths[1].sources[0][1] == doctest::Approx(-2));
  CHECK(paths[2].sources[0][0] == doctest::Approx(-3));
  CHECK(paths[3].sources[0][0] == doctest::Approx(-3));
  CHECK(paths[3].sources[0][1] == doctest::Approx(-2));
  const auto frequencies = wavefix::frequencies_of(scene);
  const Channels got = run(scene, {5, 7, 0.2});
  std::complex<double> sum = 0;
  for (const auto& path : paths) {
    const auto& s = path.sources[1];
    const double d = std::sqrt((5 - s[0]) * (5 - s[0]) + (7 - s[1]) * (7 - s[1]) + (0.2 - s[2]) * (0.2 - s[2]));
    sum += path.gains[1] / d * std::polar(1.0, -2 * pi * frequencies[4] * d / wavefix::speed_of_light);
  }
  CHECK(std::abs(std::complex<double>(got.values[11 + 4]) - sum) <= 1e-6 * std::abs(sum));
}

TEST_CASE("Fresnel coefficients at normal, grazing and Brewster incidence") {
  const auto normal = wavefix::reflection({4, 0, 0}, 3.5e9, 1.0);
  CHECK(normal.te.real() == doctest::Approx(-1.0 / 3));
  CHECK(normal.tm.real() == doctest::Approx(1.0 / 3));
  CHECK(std::abs(wavefix::reflection(concrete, 3.5e9, 1e-9).te + 1.0) < 1e-6);
  CHECK(std::abs(wavefix::reflection({4, 0, 0}, 3.5e9, std::cos(std::atan(2.0))).tm) < 1e-15);
  CHECK(wavefix::transmission(concrete, 3.5e9, 0.5).te == 0.0);
}

TEST_CASE("an opaque wall blocks, a slab does not, and neither is line of sight") {
  Scene scene = corner();
  scene.walls = {upright(20, -30, 20, 30, concrete)};
  Channels got = run(scene, {40, 3, 1});
  CHECK(std::abs(got.values[0]) == 0);
  CHECK_FALSE(got.line_of_sight[0]);
  scene.walls[0].material.thickness = 0.05;
  got = run(scene, {40, 3, 1});
  CHECK(std::abs(got.values[0]) > 0);
  CHECK_FALSE(got.line_of_sight[0]);
}

TEST_CASE("results depend neither on threads nor on the batch") {
  const Scene scene = corner();
  std::vector<double> positions;
  for (int i = 0; i < 50; ++i) positions.insert(positions.end(), {5 + 0.37 * i, 20 - 0.21 * i, 0.01 * i});
  const Channels one = run(scene, positions, 1), four = run(scene, positions, 4);
  CHECK(one.values == four.values);
  const Channels alone = run(scene, {positions.begin() + 30, positions.begin() + 33});
  CHECK(std::equal(alone.values.begin(), alone.values.end(), one.values.begin() + 10 * 22));
}

TEST_CASE("bad scenes are refused by name") {
  Scene scene = corner();
  scene.walls[1].corners[2][0] = 1;
  CHECK_THROWS_WITH_AS(run(scene, {1, 1, 1}), "walls[1].corners: expected all corners in one plane",
                       wavefix::DataError);
  scene = corner();
  scene.walls[0].material.conductivity = -1;
  CHECK_THROWS_AS(run(scene, {1, 1, 1}), wavefix::DataError);
  CHECK_THROWS_AS(run(corner(), {1, 1, std::numeric_limits<double>::quiet_NaN()}), wavefix::DataError);
  CHECK_THROWS_AS(run(corner(), {3, 2, 0}), wavefix::DataError);
  CHECK_THROWS_AS(run(corner(), {1, 1, 1}, 1, 9), wavefix::DataError);
  scene = corner();
  std::vector<cfloat> few(3);
  const double position[3] = {1, 1, 1};
  CHECK_THROWS_WITH_AS(wavefix::simulate(scene, {position, {1, 3}}, {few.data(), {1, 1, 3}}, {}),
                       "channels: expected (1, 2, 11), got (1, 1, 3)", wavefix::ShapeError);
}

TEST_CASE("an explosion of wall sequences is refused, not attempted") {
  Scene scene;
  scene.antennas.assign(64, {0, 0, 0});  // they share one limit
  for (int i = 0; i < 60; ++i) scene.walls.push_back(upright(i - 30.5, -900, i - 30.5, 900, concrete));
  CHECK_THROWS_AS(run(scene, {1, 1, 1}, 1, 8), wavefix::DataError);
}

}  // namespace
