// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels.hpp"

namespace {

using namespace wavefix;

TEST_CASE("every level multiplies pairs exactly") {
  constexpr std::size_t levels = 70, most = 11;
  std::mt19937 generator(3);
  std::uniform_int_distribution<int> integers(-32767, 32767);
  std::vector<short> block(levels * screened_rows), columns(most * levels);
  for (short& value : block) value = static_cast<short>(integers(generator) / 8);
  for (short& value : columns) value = static_cast<short>(integers(generator) / 8);
  const auto at = [&](std::size_t row, std::size_t level) {
    return static_cast<std::int64_t>(block[(level / 2 * screened_rows + row) * 2 + level % 2]);
  };
  const Kernels* list[most_levels];
  for (std::size_t index = 0, count = usable_kernels(list); index < count; ++index) {
    const Kernels& kernels = *list[index];
    CAPTURE(kernels.level);
    for (const std::size_t n : {std::size_t{1}, std::size_t{2}, std::size_t{5}, most}) {
      std::vector<float> products(most * screened_rows, -1.0f);
      std::vector<const short*> from;
      std::vector<float*> to;
      for (std::size_t c = 0; c < n; ++c) {
        from.push_back(&columns[c * levels]);
        to.push_back(&products[c * screened_rows]);
      }
      kernels.pair_products(
          {{block.data(), block.data() + 30 * screened_rows}, {30, levels - 30}, from.data(), to.data(), n});
      bool right = true;
      for (std::size_t c = 0; c < n; ++c) {
        for (std::size_t row = 0; row < screened_rows; ++row) {
          std::int64_t sum = 0;
          for (std::size_t level = 0; level < levels; ++level) sum += at(row, level) * columns[c * levels + level];
          right = right && products[c * screened_rows + row] == static_cast<float>(sum);
        }
      }
      CHECK(right);
    }
  }
}

TEST_CASE("levels that multiply bytes do so exactly, also where a sum overflows on its way") {
  constexpr std::size_t first = 2 * byte_step, levels = 1 << 18, most = 15;
  std::mt19937 generator(6);
  std::uniform_int_distribution<int> integers(-127, 127);
  std::vector<unsigned char> block(levels * screened_rows);
  std::vector<signed char> columns(most * levels);
  std::vector<float> scales(screened_rows);
  for (unsigned char& value : block) value = static_cast<unsigned char>(128 + integers(generator));
  for (signed char& value : columns) value = static_cast<signed char>(integers(generator));
  std::fill_n(&columns[levels], levels, static_cast<signed char>(127));
  for (std::size_t row = 0; row < screened_rows; ++row) scales[row] = std::ldexp(1.0f, static_cast<int>(row) - 9);
  const auto sum = [&](std::size_t row, std::size_t column, std::size_t depth) {
    std::int64_t total = 0;
    for (std::size_t level = 0; level < depth; ++level) {
      total += (block[(level / 4 * screened_rows + row) * 4 + level % 4] - 128) * columns[column * levels + level];
    }
    return total;
  };
  const Kernels* list[most_levels];
  for (std::size_t index = 0, count = usable_kernels(list); index < count; ++index) {
    if (list[index]->byte_products == nullptr) continue;
    CAPTURE(list[index]->level);
    for (const std::size_t depth : {first, first + byte_step, levels}) {
      for (const std::size_t n : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{5}, most}) {
        std::vector<float> products(most * screened_rows, -1.0f);
        std::vector<const signed char*> from;
        std::vector<float*> to;
        std::vector<int> starts;
        for (std::size_t c = 0; c < n; ++c) {
          from.push_back(&columns[c * levels]), to.push_back(&products[c * screened_rows]);
          starts.push_back(
              static_cast<int>(0u - 128u * static_cast<unsigned>(std::accumulate(from[c], from[c] + depth, 0))));
        }
        list[index]->byte_products({{block.data(), block.data() + first * screened_rows},
                                    {first, depth - first},
                                    scales.data(),
                                    from.data(),
                                    starts.data(),
                                    to.data(),
                                    n});
        bool right = true;
        for (std::size_t c = 0; c < n; c += depth < levels ? 1 : 4) {
          for (std::size_t row = 0; row < screened_rows; row += depth < levels ? 1 : 7) {
            right = right && products[c * screened_rows + row] ==
                                 scales[row] * static_cast<float>(static_cast<std::int32_t>(sum(row, c, depth)));
          }
        }
        CHECK(right);
      }
    }
  }
}

TEST_CASE("every level gives the same bits of distances and inner products in float64") {
  std::mt19937 generator(8);
  std::normal_distribution<float> normal;
  std::vector<float> a(142), b(142);
  for (auto* const values : {&a, &b}) {
    for (float& value : *values) value = std::exp(3.0f * normal(generator)) * normal(generator);
  }
  const Kernels* list[most_levels];
  const std::size_t levels = usable_kernels(list);
  for (const std::size_t size : {std::size_t{0}, std::size_t{2}, std::size_t{32}, std::size_t{64}, a.size()}) {
    long double distance = 0, re = 0, im = 0, magnitudes = 0;
    for (std::size_t i = 0; i < size; i += 2) {
      const long double ar = a[i], ai = a[i + 1], br = b[i], bi = b[i + 1];
      distance += (ar - br) * (ar - br) + (ai - bi) * (ai - bi);
      re += ar * br + ai * bi, im += ar * bi - ai * br, magnitudes += (ar * ar + ai * ai) + (br * br + bi * bi);
    }
    double wanted_re_im[2];
    generic_kernels.inner_product(a.data(), b.data(), size, wanted_re_im);
    const double wanted = generic_kernels.squared_distance(a.data(), b.data(), size);
    const double tolerance = 1e-14 * static_cast<double>(magnitudes);
    CHECK(std::abs(wanted - static_cast<double>(distance)) <= tolerance);
    CHECK(std::abs(wanted_re_im[0] - static_cast<double>(re)) <= tolerance);
    CHECK(std::abs(wanted_re_im[1] - static_cast<double>(im)) <= tolerance);
    for (std::size_t index = 0; index < levels; ++index) {
      CAPTURE(list[index]->level);
      double re_im[2];
      list[index]->inner_product(a.data(), b.data(), size, re_im);
      CHECK(re_im[0] == wanted_re_im[0]);
      CHECK(re_im[1] == wanted_re_im[1]);
      CHECK(list[index]->squared_distance(a.data(), b.data(), size) == wanted);
      CHECK(list[index]->squared_distance(a.data(), a.data(), size) == 0.0);
    }
  }
}

TEST_CASE("every level excludes what is below the bounds, and nothing that is no number") {
  std::mt19937 generator(4);
  std::normal_distribution<float> normal;
  std::vector<float> u(screened_rows), v(screened_rows), w(screened_rows), products(4 * screened_rows);
  for (auto* const values : {&u, &v, &w, &products}) {
    for (float& value : *values) value = normal(generator);
  }
  u[5] = products[9] = std::numeric_limits<float>::quiet_NaN();
  const ScreenBounds bounds[2] = {{0.5f, -1.0f, 0.25f, 0.125f}, {0.0f, 0.5f, -0.5f, 1.0f}};
  const ScreenBounds* const each[2] = {&bounds[0], &bounds[1]};
  const float* const from[2] = {products.data(), products.data() + 2 * screened_rows};
  const Kernels* list[most_levels];
  for (std::size_t index = 0, count = usable_kernels(list); index < count; ++index) {
    CAPTURE(list[index]->level);
    for (const bool magnitudes : {false, true}) {
      unsigned wanted[2] = {0, 0};
      list[index]->screen({u.data(), v.data(), w.data(), from, each, 2, magnitudes, wanted});
      for (std::size_t query = 0; query < 2; ++query) {
        unsigned expected = 0;
        for (std::size_t row = 0; row < screened_rows; ++row) {
          const ScreenBounds& b = bounds[query];
          const double least = double{b.a} * u[row] + double{b.b} * v[row] + double{b.c} * w[row] + b.d;
          const double re = from[query][row], im = from[query][screened_rows + row];
          const bool excluded = magnitudes ? least > 0.0 && re * re + im * im < least * least : re < least;
          if (!excluded) expected |= 1u << row;
        }
        CHECK(wanted[query] == expected);
        CHECK(expected != 0);
        CHECK(expected != ~0u);
      }
    }
  }
}

TEST_CASE("every level scores a block by its best row, above all others where a row is no number") {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  std::vector<float> u(screened_rows), w(screened_rows), products(4 * screened_rows);
  for (auto* const values : {&u, &w, &products}) {
    for (float& value : *values) value = normal(generator);
  }
  for (float& value : u) value = 0.5f + std::abs(value);
  const ScreenBounds bounds[2] = {{0.5f, 0.0f, -0.25f, -0.125f}, {1.0f, 0.0f, -0.5f, 0.5f}};
  const float* const from[2] = {products.data(), products.data() + 2 * screened_rows};
  const Kernels* list[most_levels];
  for (std::size_t index = 0, count = usable_kernels(list); index < count; ++index) {
    CAPTURE(list[index]->level);
    for (const bool magnitudes : {false, true}) {
      float scores[2];
      list[index]->score({u.data(), w.data(), from, bounds, 2, magnitudes, scores});
      for (std::size_t query = 0; query < 2; ++query) {
        const ScreenBounds& b = bounds[query];
        double best = -std::numeric_limits<double>::infinity();
        for (std::size_t row = 0; row < screened_rows; ++row) {
          const double re = from[query][row], im = from[query][screened_rows + row];
          const double beside = double{b.c} * w[row] + b.d;
          const double score =
              magnitudes ? std::hypot(re, im) - beside : (re - (double{b.a} * u[row] + beside)) * u[row];
          best = std::max(best, score);
        }
        CHECK(scores[query] == doctest::Approx(best).epsilon(1e-6));
      }
      const float kept = products[7];
      products[7] = std::numeric_limits<float>::quiet_NaN();
      list[index]->score({u.data(), w.data(), from, bounds, 2, magnitudes, scores});
      CHECK(scores[0] == std::numeric_limits<float>::infinity());
      CHECK(scores[1] < std::numeric_limits<float>::infinity());
      products[7] = kept;
    }
  }
}

}  // namespace
