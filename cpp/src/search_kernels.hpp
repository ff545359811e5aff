// SPDX-License-Identifier: Apache-2.0
// What the inner loops of a dictionary search work on. Like kernels.hpp, free of Eigen and the standard library.
#pragma once

#include <cstddef>

namespace wavefix {

inline constexpr std::size_t row_padding = 32;      ///< rows end at a multiple of this many numbers, zeros behind
inline constexpr std::size_t screened_rows = 32;    ///< entries that are screened at a time
inline constexpr std::size_t product_depth = 1024;  ///< numbers of a row that are multiplied at a time

/// Inner products of rows with columns, both stored along the depth, which row_padding divides:
/// products[column * product_stride + row]. A product is one fixed order of sums, whatever else is computed with it.
struct RowProducts {
  const float* rows;
  std::size_t n_rows, row_stride;
  const float* columns;
  std::size_t n_columns, column_stride;
  std::size_t depth;
  float* products;
  std::size_t product_stride;
};

/// The upper half of a float: 8 bits of precision.
typedef unsigned short bfloat;

/// The same of screened_rows rows, stored as [depth / 2][screened_rows][2].
struct PairProducts {
  const bfloat* block;
  const bfloat* columns;
  std::size_t n_columns, column_stride;
  std::size_t depth;
  float* products;
  std::size_t product_stride;
};

/// One query against screened_rows entries whose approximate products with it are known, docs/equations.md (17).
struct Screen {
  const float *real, *imag;                // [screened_rows]; imag is null for (4)
  const double *energies, *norms, *tails;  // [screened_rows] of the entries
  double scale;                            // of the products
  double per_norm, per_tail, constant;     // an error is at most per_norm * norm + per_tail * tail + constant
  double query_norm, limit;                // entries whose cost is certainly above the limit are not wanted
};

}  // namespace wavefix
