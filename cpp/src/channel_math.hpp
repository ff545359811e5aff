// SPDX-License-Identifier: Apache-2.0
// Sums over the entries of one channel, in float64.
#pragma once

#include <cmath>
#include <cstddef>

#include "wavefix/views.hpp"

namespace wavefix::detail {

inline bool all_finite(const cfloat* values, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    if (!std::isfinite(values[i].real()) || !std::isfinite(values[i].imag())) return false;
  }
  return true;
}

/// |a|^2: std::norm calls hypot unless told that numbers are finite.
inline double squared(cdouble a) { return a.real() * a.real() + a.imag() * a.imag(); }

/// The sum of term(i) over i < count: eight sums in turn, as one would wait for each of its additions.
template <class Term>
inline double sum_of(std::size_t count, const Term& term) {
  double sums[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) sums[lane] += term(i + lane);
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) sums[lane] += term(i);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/// re and im of each of the numbers
inline const float* parts_of(const cfloat* a) { return reinterpret_cast<const float*>(a); }

/// ||a||^2
inline double energy(const cfloat* a, std::size_t size) {
  const float* const parts = parts_of(a);
  return sum_of(2 * size, [parts](std::size_t i) { return static_cast<double>(parts[i]) * parts[i]; });
}

/// ||a - b||^2
inline double squared_distance(const cfloat* a, const cfloat* b, std::size_t size) {
  const float *const of_a = parts_of(a), *const of_b = parts_of(b);
  return sum_of(2 * size, [of_a, of_b](std::size_t i) {
    const double off = static_cast<double>(of_a[i]) - of_b[i];
    return off * off;
  });
}

/// <a, b> = sum conj(a) b
inline cdouble inner_product(const cfloat* a, const cfloat* b, std::size_t size) {
  const float *const of_a = parts_of(a), *const of_b = parts_of(b);
  const double re = sum_of(2 * size, [of_a, of_b](std::size_t i) { return static_cast<double>(of_a[i]) * of_b[i]; });
  const double im = sum_of(2 * size, [of_a, of_b](std::size_t i) {
    const double product = static_cast<double>(of_a[i]) * of_b[i ^ 1];
    return i % 2 == 0 ? product : -product;
  });
  return {re, im};
}

}  // namespace wavefix::detail
