// SPDX-License-Identifier: Apache-2.0
#include "phasors.hpp"

#include <cstdint>
#include <cstring>

namespace wavefix {

void unit_phasors(const double* turns, std::size_t count, double* real, double* imag) {
  constexpr double tau = 6.283185307179586476925286766559;
  constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer, kept in the low bits
  for (std::size_t index = 0; index < count; ++index) {
    const double shifted = 4 * turns[index] + rounder;
    std::int64_t quarter;
    std::memcpy(&quarter, &shifted, sizeof(quarter));
    const double x = tau * (turns[index] - 0.25 * (shifted - rounder));  // |x| <= pi / 4
    const double y = x * x;
    // Taylor series; the first term left out is below 5e-17 at pi / 4
    const double sine =
        x * (1 + y * (-1. / 6 + y * (1. / 120 + y * (-1. / 5040 + y * (1. / 362880 + y * (-1. / 39916800 +
            y * (1. / 6227020800 + y * (-1. / 1307674368000))))))));
    const double cosine =
        1 + y * (-1. / 2 + y * (1. / 24 + y * (-1. / 720 + y * (1. / 40320 + y * (-1. / 3628800 +
            y * (1. / 479001600 + y * (-1. / 87178291200 + y * (1. / 20922789888000))))))));
    const bool swapped = (quarter & 1) != 0;
    const double first = swapped ? sine : cosine, second = swapped ? cosine : sine;
    real[index] = ((quarter + 1) & 2) != 0 ? -first : first;
    imag[index] = (quarter & 2) != 0 ? -second : second;
  }
}

}  // namespace wavefix
