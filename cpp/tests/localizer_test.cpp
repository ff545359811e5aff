// SPDX-License-Identifier: Apache-2.0
#include "wavefix/localizer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <thread>

#include "plane_wave_model.hpp"
#include "wavefix/error.hpp"

namespace {

using namespace wavefix;

struct FixArrays {
  explicit FixArrays(std::size_t n)
      : position(3 * n),
        covariance(9 * n),
        residual(n),
        ambiguity(n),
        status(n),
        views{View<double, 2>(position.data(), {n, 3}), View<double, 3>(covariance.data(), {n, 3, 3}),
              View<std::uint8_t, 1>(status.data(), {n}), View<double, 1>(residual.data(), {n}),
              View<double, 1>(ambiguity.data(), {n})} {}
  std::vector<double> position, covariance, residual, ambiguity;
  std::vector<std::uint8_t> status;
  Fixes views;  // into the vectors, so not to be copied
  FixArrays(const FixArrays&) = delete;
};

TEST_CASE("users are located, invalid queries are marked") {
  const ChannelModel model = testing::plane_wave_model();
  const auto truth = testing::random_positions(model, 10);
  auto channels = testing::synthesize(model, truth);
  std::fill_n(channels.begin() + 3 * 96, 96, cfloat(0.0f));
  FixArrays fixes(10);
  Localizer(model).locate(View<const cfloat, 3>(channels.data(), {10, 8, 12}), fixes.views);
  int right = 0;
  for (std::size_t row = 0; row < 10; ++row) {
    const double error =
        std::hypot(fixes.position[3 * row] - truth[3 * row], fixes.position[3 * row + 1] - truth[3 * row + 1]);
    if (row == 3) {
      CHECK(std::isnan(error));
      CHECK(fixes.status[row] == static_cast<std::uint8_t>(Status::invalid_input));
    } else {
      right += error < 1e-5;
    }
  }
  CHECK(right >= 8);  // of nine; the paper's strategy may end in a neighboring minimum
}

TEST_CASE("one localizer serves many threads") {
  const ChannelModel model = testing::plane_wave_model(4, 6, 8, 3.0);
  const Localizer localizer(model);
  const auto channels = testing::synthesize(model, testing::random_positions(model, 4));
  const View<const cfloat, 3> queries(channels.data(), {4, 4, 6});
  FixArrays wanted(4);
  localizer.locate(queries, wanted.views, {1, {}});
  std::vector<std::unique_ptr<FixArrays>> found;
  for (int i = 0; i < 4; ++i) found.push_back(std::make_unique<FixArrays>(4));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int repeat = 0; repeat < 3; ++repeat)
        localizer.locate(queries, found[static_cast<std::size_t>(i)]->views, {1, {}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& fixes : found) CHECK(fixes->position == wanted.position);
}

TEST_CASE("unknown strategies and shapes that do not fit are refused") {
  const ChannelModel model = testing::plane_wave_model();
  LocalizerOptions options;
  options.strategy = "off_grid";
  CHECK_THROWS_AS(Localizer(model, options), ShapeError);
  FixArrays fixes(2);
  const std::vector<cfloat> channels(96);
  CHECK_THROWS_AS(Localizer(model).locate(View<const cfloat, 3>(channels.data(), {1, 8, 12}), fixes.views), ShapeError);
}

}  // namespace
