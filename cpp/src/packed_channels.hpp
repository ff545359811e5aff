// SPDX-License-Identifier: Apache-2.0
// Channels laid out for the products of a dictionary search: entries in packed blocks, queries as columns.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "channel_math.hpp"
#include "kernels.hpp"
#include "packed_matrix.hpp"
#include "wavefix/dictionary.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

inline constexpr std::size_t block_rows = packed_block_rows<float>;

/// Queries as columns of real numbers: re and im interleaved, whose product with an entry is Re<entry, query>; for (5)
/// each is followed by -j times itself, whose product is Im<entry, query>. Each query is divided by a power of two near
/// its norm, so that products stay in the range of float32 however large or small the channels are.
class QueryColumns {
 public:
  QueryColumns(View<const cfloat, 3> queries, Similarity similarity)
      : per_query(similarity == Similarity::phase_sensitive ? 1 : 2),
        count(queries.shape[0] * per_query),
        depth(2 * queries.stride()),
        stride(depth + lane_padding),  // not a power of two: columns would compete for one cache set
        values_(count * stride) {
    for (std::size_t query = 0; query < queries.shape[0]; ++query) {
      const cfloat* const original = queries.row(query);
      const double norm = std::sqrt(detail::energy(original, queries.stride()));
      scale.push_back(norm > 0.0 && std::isfinite(norm) ? std::exp2(std::floor(std::log2(norm))) : 1.0);
      const double inverse = 1.0 / scale.back();
      std::vector<cfloat> source(queries.stride());
      for (std::size_t i = 0; i < source.size(); ++i) source[i] = cfloat(cdouble(original[i]) * inverse);
      float* const plain = values_.data() + query * per_query * stride;
      for (std::size_t i = 0; i < queries.stride(); ++i) {
        plain[2 * i] = source[i].real();
        plain[2 * i + 1] = source[i].imag();
        if (per_query == 2) {
          plain[stride + 2 * i] = source[i].imag();
          plain[stride + 2 * i + 1] = -source[i].real();
        }
      }
    }
  }

  /// products[column * out_stride + row] for the block_rows entries of one packed block.
  void multiply(const float* block, std::size_t rows, float* products, std::size_t out_stride) const {
    kernels().multiply_float({block, rows, depth, depth, 0, values_.data(), count, stride, products, out_stride});
  }

  const std::size_t per_query, count, depth, stride;
  std::vector<double> scale;  // [queries]: what the products are to be multiplied by

 private:
  std::vector<float> values_;
};

/// Channels to a packed block: [depth][block_rows], missing rows zero.
inline void pack_row(const cfloat* channel, std::size_t size, std::size_t row, float* block) {
  for (std::size_t i = 0; i < size; ++i) {
    block[2 * i * block_rows + row] = channel[i].real();
    block[(2 * i + 1) * block_rows + row] = channel[i].imag();
  }
}

inline void unpack_row(const float* block, std::size_t size, std::size_t row, cfloat* channel) {
  for (std::size_t i = 0; i < size; ++i) {
    channel[i] = {block[2 * i * block_rows + row], block[(2 * i + 1) * block_rows + row]};
  }
}

}  // namespace wavefix
