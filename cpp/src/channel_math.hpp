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

/// ||a||^2
inline double energy(const cfloat* a, std::size_t size) {
  double sum = 0.0;
  for (std::size_t i = 0; i < size; ++i) {
    const double re = a[i].real(), im = a[i].imag();
    sum += re * re + im * im;
  }
  return sum;
}

/// ||a - b||^2
inline double squared_distance(const cfloat* a, const cfloat* b, std::size_t size) {
  double sum = 0.0;
  for (std::size_t i = 0; i < size; ++i) {
    const double re = static_cast<double>(a[i].real()) - b[i].real();
    const double im = static_cast<double>(a[i].imag()) - b[i].imag();
    sum += re * re + im * im;
  }
  return sum;
}

}  // namespace wavefix::detail
