// SPDX-License-Identifier: Apache-2.0
#include "wavefix/dictionary.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "plane_wave_model.hpp"
#include "wavefix/error.hpp"

namespace {

using namespace wavefix;

TEST_CASE("a grid covers its region, centered, last axis fastest") {
  Region region;
  region.origin = {1.0, 2.0, 3.0};
  region.basis = {1.0, 0.0, 0.0, 0.0, 0.0, 1.0};
  region.lower = {-1.0, 0.0};
  region.upper = {1.0, 0.25};
  const Grid grid = Grid::over(region, 0.5);
  CHECK(grid.size() == 5);
  double xyz[3];
  grid.position(4, xyz);
  CHECK(xyz[0] == doctest::Approx(2.0));
  CHECK(xyz[1] == 2.0);
  CHECK(xyz[2] == doctest::Approx(3.125));
  CHECK_THROWS_AS(Grid::over(region, 0.0), ShapeError);
  CHECK_THROWS_AS(Grid::over(region, 1e-13), ShapeError);
}

TEST_CASE("entries of a model are found again, whatever the tile") {
  const ChannelModel model = testing::plane_wave_model();
  const Grid grid = Grid::over(model.region(), 0.25 * model.wavelength());
  for (const std::size_t limit : {std::size_t{1}, std::size_t{100000}, Dictionary::default_memory_limit}) {
    const Dictionary dictionary = Dictionary::from_model(model, grid, limit);
    std::vector<double> positions;
    for (const std::size_t index : {0u, 17u, 300u}) {
      double xyz[3];
      dictionary.position(index, xyz);
      positions.insert(positions.end(), xyz, xyz + 3);
    }
    const auto queries = testing::synthesize(model, positions);
    std::vector<std::int64_t> indices(3);
    std::vector<double> distances(3);
    dictionary.search(View<const cfloat, 3>(queries.data(), {3, 8, 12}), Similarity::phase_sensitive,
                      View<std::int64_t, 2>(indices.data(), {3, 1}), View<double, 2>(distances.data(), {3, 1}));
    CHECK(indices == std::vector<std::int64_t>{0, 17, 300});
    for (const double distance : distances) CHECK(distance == 0.0);
  }
}

TEST_CASE("measurements that are not finite are refused") {
  const double position[3] = {0.0, 0.0, 0.0};
  cfloat channel[2] = {{1.0f, 0.0f}, {std::numeric_limits<float>::quiet_NaN(), 0.0f}};
  CHECK_THROWS_AS(
      Dictionary::from_measurements(View<const double, 2>(position, {1, 3}), View<const cfloat, 3>(channel, {1, 1, 2})),
      DataError);
  CHECK_THROWS_AS(
      Dictionary::from_measurements(View<const double, 2>(position, {1, 3}), View<const cfloat, 3>(channel, {1, 0, 2})),
      ShapeError);
}

TEST_CASE("stored entries give the same answers, ties included, for any threads, batch and order of queries") {
  constexpr std::size_t size = 64, count = 3000, directions = 12, n = 100, k = 3;
  std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  const auto random = [&] { return cfloat(normal(generator), normal(generator)); };
  std::vector<cfloat> basis(directions * size), entries(count * size);
  for (cfloat& value : basis) value = random();
  for (std::size_t entry = 0; entry < count; ++entry) {
    for (std::size_t at = 0; at < size; ++at) entries[entry * size + at] = 0.02f * random();
    for (std::size_t d = 0; d < directions; ++d) {
      const cfloat weight = random();
      for (std::size_t at = 0; at < size; ++at) entries[entry * size + at] += weight * basis[d * size + at];
    }
  }
  for (std::size_t entry = 10; entry < count; entry += 700)
    std::copy_n(&entries[3 * size], size, &entries[entry * size]);
  std::vector<cfloat> queries(entries.begin(), entries.begin() + n * size);
  for (std::size_t at = n / 2 * size; at < n * size; ++at) queries[at] += random();
  const std::vector<double> positions(3 * count);
  for (const bool subspace : {true, false}) {
    const Dictionary dictionary =
        Dictionary::from_measurements(View<const double, 2>(positions.data(), {count, 3}),
                                      View<const cfloat, 3>(entries.data(), {count, 8, 8}), subspace);
    CHECK((dictionary.rank() > 0) == subspace);
    for (const Similarity similarity : {Similarity::phase_sensitive, Similarity::phase_insensitive}) {
      std::vector<std::int64_t> wanted(n * k), found(n * k);
      std::vector<double> distances(n * k), again(n * k);
      const auto search = [&](std::size_t first, std::size_t rows, int threads, std::vector<std::int64_t>& indices,
                              std::vector<double>& at) {
        dictionary.search(View<const cfloat, 3>(queries.data() + first * size, {rows, 8, 8}), similarity,
                          View<std::int64_t, 2>(indices.data() + first * k, {rows, k}),
                          View<double, 2>(at.data() + first * k, {rows, k}), {threads, {}});
      };
      search(0, n, 1, wanted, distances);
      CHECK(std::vector<std::int64_t>(&wanted[3 * k], &wanted[4 * k]) == std::vector<std::int64_t>{3, 10, 710});
      for (const int threads : {1, 2, 3, 8}) {
        for (const std::size_t batch : {std::size_t{1}, std::size_t{7}, n}) {
          for (std::size_t left = n; left > 0; left -= std::min(left, batch)) {  // the last ones first
            search(left - std::min(left, batch), std::min(left, batch), threads, found, again);
          }
          CHECK(found == wanted);
          CHECK(again == distances);
        }
      }
    }
  }
}

}  // namespace
