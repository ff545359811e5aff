// SPDX-License-Identifier: Apache-2.0
// Queries laid out for the products of a dictionary search.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "channel_math.hpp"
#include "search_kernels.hpp"
#include "wavefix/dictionary.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

/// Numbers from one row of `size` complex ones to the next: whole vectors, and no power of two, because rows that are
/// worked on together would compete for one cache set.
inline std::size_t row_stride(std::size_t size) {
  const std::size_t numbers = (2 * size + row_padding - 1) / row_padding * row_padding;
  return numbers % 512 == 0 ? numbers + row_padding : numbers;
}

inline float as_float(float value) { return value; }
inline float as_float(bfloat value) {
  const std::uint32_t bits = std::uint32_t{value} << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

/// Rounded to the nearest; denormal numbers, which the processor takes for zero, become zero.
inline bfloat to_bfloat(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7f800000u) == 0) return 0;
  const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const bool overflows = (rounded & 0x7f800000u) == 0x7f800000u;
  return static_cast<bfloat>((overflows ? bits : rounded) >> 16);
}
inline void round_to(float value, float& out) { out = value; }
inline void round_to(float value, bfloat& out) { out = to_bfloat(value); }

/// A power of two near the norm: what is divided by it stays in the range of float32, and loses no digit.
inline double scale_near(double norm) {
  return norm > 0.0 && std::isfinite(norm) ? std::exp2(std::floor(std::log2(norm))) : 1.0;
}

/// Columns of real numbers: re and im of a query interleaved, whose product with an entry is Re<entry, query>; for (5)
/// each is followed by -j times itself, whose product is Im<entry, query>. Each query is divided by scale_near its
/// norm.
template <class T>
class QueryColumns {
 public:
  QueryColumns(std::size_t queries, std::size_t size, Similarity similarity)
      : per_query(similarity == Similarity::phase_sensitive ? 1 : 2),
        stride(row_stride(size)),
        size_(size),
        scale_(queries),
        values_(queries * per_query * stride) {}

  /// Returns the norm of what rounding to T takes off a float32 query; float64 ones round in addition to float32.
  template <class U>
  double set(std::size_t query, const U* interleaved, double scale) {
    scale_[query] = scale;
    const double inverse = 1.0 / scale;
    double lost = 0.0;
    T* const plain = values_.data() + query * per_query * stride;
    for (std::size_t i = 0; i < 2 * size_; ++i) {
      const auto value = static_cast<float>(inverse * static_cast<double>(interleaved[i]));
      round_to(value, plain[i]);
      const double off = static_cast<double>(value) - static_cast<double>(as_float(plain[i]));
      lost += off * off;
    }
    for (std::size_t i = 0; per_query == 2 && i < size_; ++i) {
      plain[stride + 2 * i] = plain[2 * i + 1];
      round_to(-as_float(plain[2 * i]), plain[stride + 2 * i + 1]);
    }
    return scale * std::sqrt(lost);
  }

  const T* of(std::size_t query) const { return values_.data() + query * per_query * stride; }
  double scale(std::size_t query) const { return scale_[query]; }  ///< what its products are to be multiplied by

  const std::size_t per_query, stride;

 private:
  std::size_t size_;
  std::vector<double> scale_;
  std::vector<T> values_;
};

}  // namespace wavefix
