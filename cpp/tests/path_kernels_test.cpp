// SPDX-License-Identifier: Apache-2.0
// The kernels of the float and fix steps at every level against plain sums in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <random>
#include <vector>

#include "kernels.hpp"

namespace {

using namespace wavefix;
using Sum = std::complex<double>;

constexpr double tau = 6.283185307179586476925286766559;

template <class Check>
void at_every_level(const Check& check) {
  const Kernels* list[most_levels];
  for (std::size_t index = 0, count = usable_kernels(list); index < count; ++index) {
    CAPTURE(list[index]->level);
    check(*list[index]);
  }
}

std::vector<float> noise(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

/// Value or slope of the cubic through four points at 0, 1, 2, 3; `at` is counted from the first.
double cubic(double at, std::size_t tap, bool slope) {
  const auto weight = [&](double x) {
    double product = 1.0;
    for (std::size_t other = 0; other < 4; ++other) {
      if (other != tap) product *= (x - double(other)) / (double(tap) - double(other));
    }
    return product;
  };
  return slope ? (weight(at + 1e-4) - weight(at - 1e-4)) / 2e-4 : weight(at);
}

Sum look_up(const float* row, double at, bool slope) {
  Sum sum = 0.0;
  const auto cell = static_cast<std::size_t>(at) - 1;
  for (std::size_t tap = 0; tap < 4; ++tap) {
    sum += cubic(at - double(cell), tap, slope) * Sum(row[2 * (cell + tap)], row[2 * (cell + tap) + 1]);
  }
  return sum;
}

TEST_CASE("every level computes products of paths, and slopes, with a query") {
  constexpr std::size_t antennas = 21, nodes = 30, group = 4, vectors = 3, groups = (antennas + group - 1) / group;
  const auto real = noise(vectors * antennas, 1), imag = noise(vectors * antennas, 2);
  const auto profile = noise(2 * antennas * nodes, 3), later = noise((vectors - 1) * groups, 4);
  std::vector<float> delay(antennas);
  for (std::size_t j = 0; j < antennas; ++j) delay[j] = 2.3f + 1.17f * static_cast<float>(j);
  Sum wanted[vectors];
  for (std::size_t j = 0; j < antennas; ++j) {
    const Sum z = look_up(profile.data() + 2 * j * nodes, delay[j], false);
    const Sum dz = look_up(profile.data() + 2 * j * nodes, delay[j], true), shape(real[j], -imag[j]);
    wanted[0] += shape * z;
    for (std::size_t c = 1; c < vectors; ++c) {
      const Sum moved(real[c * antennas + j], -imag[c * antennas + j]);
      wanted[c] += moved * z + double(later[(c - 1) * groups + j / group]) * shape * dz;
    }
  }
  at_every_level([&](const Kernels& kernels) {
    const PathProduct path{real.data(), imag.data(), delay.data(), profile.data(), antennas, nodes};
    float product[2], slopes[2 * vectors];
    kernels.path_product(path, product);
    CHECK(std::abs(Sum(product[0], product[1]) - wanted[0]) < 2e-5);
    kernels.path_slopes({path, later.data(), vectors, group}, slopes);
    for (std::size_t c = 0; c < vectors; ++c) {
      CHECK(std::abs(Sum(slopes[2 * c], slopes[2 * c + 1]) - wanted[c]) < 1e-4);
    }
  });
}

TEST_CASE("every level sums pairs of paths") {
  constexpr std::size_t vectors = 3, group = 3, groups = 5, shifts = 40, size = vectors * group * group_lanes;
  const auto l_real = noise(size, 1), l_imag = noise(size, 2), m_real = noise(size, 3), m_imag = noise(size, 4);
  const auto l_later = noise(2 * group_lanes, 5), m_later = noise(2 * group_lanes, 6);
  const auto overlaps = noise(shifts * overlap_width, 7);
  std::vector<float> l_delay(group_lanes, 1.0f), m_delay(group_lanes);
  for (std::size_t g = 0; g < group_lanes; ++g) m_delay[g] = 4.2f * static_cast<float>(g) - 11.5f;
  Sum wanted[vectors][vectors];
  for (std::size_t g = 0; g < groups; ++g) {
    Sum k[3];
    const double at = m_delay[g] - l_delay[g] + 20.0f;
    const auto cell = static_cast<std::size_t>(at) - 1;
    for (std::size_t tap = 0; tap < 4; ++tap) {
      const float* entry = overlaps.data() + (cell + tap) * overlap_width;
      for (std::size_t i = 0; i < 3; ++i)
        k[i] += cubic(at - double(cell), tap, false) * Sum(entry[2 * i], entry[2 * i + 1]);
    }
    Sum s[vectors][vectors];
    for (std::size_t c = 0; c < vectors; ++c) {
      for (std::size_t e = 0; e < vectors; ++e) {
        for (std::size_t i = 0; i < group; ++i) {
          const std::size_t a = (c * group + i) * group_lanes + g, b = (e * group + i) * group_lanes + g;
          s[c][e] += Sum(l_real[a], -l_imag[a]) * Sum(m_real[b], m_imag[b]);
        }
      }
    }
    for (std::size_t c = 0; c < vectors; ++c) {
      for (std::size_t e = 0; e < vectors; ++e) {
        const double l = c > 0 ? l_later[(c - 1) * group_lanes + g] : 0.0;
        const double m = e > 0 ? m_later[(e - 1) * group_lanes + g] : 0.0;
        wanted[c][e] += k[0] * s[c][e] + m * k[1] * s[c][0] - l * k[1] * s[0][e] - l * m * k[2] * s[0][0];
      }
    }
  }
  at_every_level([&](const Kernels& kernels) {
    float sums[2 * vectors * vectors];
    kernels.pair_sums({{l_real.data(), l_imag.data(), l_delay.data(), l_later.data()},
                       {m_real.data(), m_imag.data(), m_delay.data(), m_later.data()},
                       vectors,
                       group,
                       group_lanes,
                       groups,
                       overlaps.data(),
                       shifts,
                       20.0f},
                      sums);
    for (std::size_t i = 0; i < vectors * vectors; ++i) {
      CHECK(std::abs(Sum(sums[2 * i], sums[2 * i + 1]) - wanted[i / vectors][i % vectors]) < 2e-4);
    }
  });
}

TEST_CASE("every level explains a query by whitened products") {
  constexpr std::size_t count = 6, antennas = 10, group = 4, groups = 3, nodes = 12;
  const auto real = noise(count * antennas, 1), imag = noise(count * antennas, 2), whitener = noise(8 * (4 + 6), 4);
  const auto profile = noise(2 * antennas * nodes, 3);
  std::vector<GroupTaps> taps(count * groups);
  for (std::size_t i = 0; i < taps.size(); ++i) taps[i] = {{-0.1f, 0.7f, 0.5f, -0.1f}, static_cast<int>(i % 9)};
  Sum products[count];
  for (std::size_t l = 0; l < count; ++l) {
    for (std::size_t j = 0; j < antennas; ++j) {
      const GroupTaps& at = taps[l * groups + j / group];
      for (std::size_t tap = 0; tap < 4; ++tap) {
        const float* z = profile.data() + 2 * (j * nodes + static_cast<std::size_t>(at.first) + tap);
        products[l] += Sum(real[l * antennas + j], -imag[l * antennas + j]) * double(at.weight[tap]) * Sum(z[0], z[1]);
      }
    }
  }
  double wanted = 0.0;
  const float* from = whitener.data();
  for (std::size_t first = 0; first < count; first += 4) {
    Sum rows[4];
    for (std::size_t m = 0; m < std::min(first + 4, count); ++m, from += 8) {
      for (std::size_t i = 0; i < 4; ++i) rows[i] += Sum(from[i], from[4 + i]) * products[m];
    }
    for (const Sum& row : rows) wanted += std::norm(row);
  }
  at_every_level([&](const Kernels& kernels) {
    const float got = kernels.explained_energy({count, real.data(), imag.data(), taps.data(), antennas, groups,
                                                antennas, group, profile.data(), nodes, whitener.data()});
    CHECK(double(got) == doctest::Approx(wanted).epsilon(1e-5));
  });
}

TEST_CASE("every level turns carriers and sums normal equations") {
  constexpr std::size_t points = 19, parts = 70;
  const auto measured = noise(parts, 1), channel = noise(parts, 2), jacobian = noise(3 * parts, 3);
  at_every_level([&](const Kernels& kernels) {
    float real[2 * carrier_lanes], imag[2 * carrier_lanes];
    kernels.fill_carrier({1234.7, -11.3, 0.8, -0.4, 0.05, points, real, imag});
    for (std::size_t i = 0; i < points; ++i) {
      const double t = -0.4 + 0.05 * double(i), phase = tau * (1234.7 - 11.3 * t + 0.8 * t * t);
      CHECK(std::abs(Sum(real[i], imag[i]) - std::polar(1.0, phase)) < 1e-6);
    }
    double sums[normal_sums];
    kernels.add_normal_equations({measured.data(), channel.data(), jacobian.data(), parts}, sums);
    std::size_t at = 0;
    const auto row = [&](std::size_t c, std::size_t i) {
      return c < 3 ? double(jacobian[c * parts + i]) : double(measured[i]) - double(channel[i]);
    };
    const std::size_t pairs[normal_sums][2] = {{0, 0}, {0, 1}, {0, 2}, {1, 1}, {1, 2},
                                               {2, 2}, {0, 3}, {1, 3}, {2, 3}, {3, 3}};
    for (const auto& pair : pairs) {
      double wanted = 0.0;
      for (std::size_t i = 0; i < parts; ++i) wanted += row(pair[0], i) * row(pair[1], i);
      CHECK(sums[at++] == doctest::Approx(wanted).epsilon(1e-12));
    }
  });
}

}  // namespace
