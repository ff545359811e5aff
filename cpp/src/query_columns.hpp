// SPDX-License-Identifier: Apache-2.0
// Queries laid out for the products of a dictionary search.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

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

/// A power of two near the norm: what is divided by it stays in the range of float32, and loses no digit.
inline double scale_near(double norm) {
  return norm > 0.0 && std::isfinite(norm) ? std::exp2(std::floor(std::log2(norm))) : 1.0;
}

/// Columns of real numbers: re and im of a query interleaved, whose product with an entry is Re<entry, query>; for (5)
/// each is followed by -j times itself, whose product is Im<entry, query>.
template <class T>
class QueryColumns {
 public:
  QueryColumns(std::size_t queries, std::size_t size, Similarity similarity)
      : per_query(similarity == Similarity::phase_sensitive ? 1 : 2),
        stride(row_stride(size)),
        size_(size),
        values_(queries * per_query * stride) {}

  T* plain(std::size_t query) { return values_.data() + query * per_query * stride; }
  /// To be called when the numbers of a query are in place.
  void turn(std::size_t query) {
    T* const from = plain(query);
    for (std::size_t i = 0; per_query == 2 && i < size_; ++i) {
      from[stride + 2 * i] = from[2 * i + 1];
      from[stride + 2 * i + 1] = static_cast<T>(-from[2 * i]);
    }
  }
  const T* of(std::size_t query) const { return values_.data() + query * per_query * stride; }

  const std::size_t per_query, stride;

 private:
  std::size_t size_;
  std::vector<T> values_;
};

}  // namespace wavefix
