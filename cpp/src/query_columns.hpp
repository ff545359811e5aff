// SPDX-License-Identifier: Apache-2.0
// Queries laid out for the products of a dictionary search.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "channel_math.hpp"
#include "search_kernels.hpp"
#include "wavefix/dictionary.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

/// Floats from one row of `size` complex numbers to the next: whole vectors, and no power of two, because rows that are
/// worked on together would compete for one cache set.
inline std::size_t row_stride(std::size_t size) {
  const std::size_t floats = (2 * size + row_padding - 1) / row_padding * row_padding;
  return floats % 512 == 0 ? floats + row_padding : floats;
}

/// A power of two near the norm: what is divided by it stays in the range of float32, and loses no digit.
inline double scale_near(double norm) {
  return norm > 0.0 && std::isfinite(norm) ? std::exp2(std::floor(std::log2(norm))) : 1.0;
}

/// Columns of real numbers: re and im of a query interleaved, whose product with an entry is Re<entry, query>; for (5)
/// each is followed by -j times itself, whose product is Im<entry, query>. Each query is divided by scale_near its
/// norm.
class QueryColumns {
 public:
  QueryColumns(std::size_t queries, std::size_t size, Similarity similarity)
      : per_query(similarity == Similarity::phase_sensitive ? 1 : 2),
        stride(row_stride(size)),
        size_(size),
        scale_(queries),
        values_(queries * per_query * stride) {}

  template <class T>
  void set(std::size_t query, const T* interleaved, double scale) {
    scale_[query] = scale;
    const double inverse = 1.0 / scale;
    float* const plain = values_.data() + query * per_query * stride;
    for (std::size_t i = 0; i < size_; ++i) {
      const float re = static_cast<float>(inverse * static_cast<double>(interleaved[2 * i]));
      const float im = static_cast<float>(inverse * static_cast<double>(interleaved[2 * i + 1]));
      plain[2 * i] = re;
      plain[2 * i + 1] = im;
      if (per_query == 2) {
        plain[stride + 2 * i] = im;
        plain[stride + 2 * i + 1] = -re;
      }
    }
  }

  const float* of(std::size_t query) const { return values_.data() + query * per_query * stride; }
  double scale(std::size_t query) const { return scale_[query]; }  ///< what its products are to be multiplied by

  const std::size_t per_query, stride;

 private:
  std::size_t size_;
  std::vector<double> scale_;
  std::vector<float> values_;
};

}  // namespace wavefix
