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

/// The same of screened_rows rows of 16-bit integers in two parts, stored as [levels / 2][screened_rows][2]. Sums of 32
/// bits are exact as long as no row and no column is longer than 2^15.5; they are then rounded to float.
struct PairProducts {
  const short* parts[2];
  std::size_t levels[2];        // even; the second may be none
  const short* const* columns;  // [n_columns], each [all levels]
  float* const* products;       // [n_columns], each [screened_rows]
  std::size_t n_columns;
};

/// The same of bytes, stored as [levels / 4][screened_rows][4], 128 added to those of rows, where the level has an
/// instruction for them. A sum, which may overflow on its way, begins with what that adds to it, and is a float times
/// the scale of its row in the end.
struct ByteProducts {
  const unsigned char* parts[2];
  std::size_t levels[2];              // byte_step divides them
  const float* scales;                // [screened_rows]
  const signed char* const* columns;  // [n_columns], each [all levels]
  const int* starts;                  // [n_columns], -128 times the sum of the column
  float* const* products;             // [n_columns], each [screened_rows]
  std::size_t n_columns;
};
inline constexpr std::size_t byte_step = 16;

/// Of one query, docs/equations.md (17): a row is excluded if its product is less than a u + b v + c w + d, or, where
/// magnitudes count, if that is positive and more than the magnitude of its product.
struct ScreenBounds {
  float a, b, c, d;
};

/// Queries against screened_rows entries whose approximate products with them are known.
struct Screen {
  const float *u, *v, *w;        // [screened_rows]
  const float* const* products;  // [n], real parts, and imaginary ones behind them where magnitudes count
  const ScreenBounds* const* bounds;
  std::size_t n;
  bool magnitudes;
  unsigned* wanted;  // [n] bits of the rows that are not excluded
};

/// How much of a block the queries may want: of each, the largest of (product - a u - c w - d) u, or of the magnitude
/// of the product less c w + d where magnitudes count, over all rows; infinite if one of them is no number. Where that
/// is less than b, or than what a limit adds to d, a screen would exclude every row.
struct Scores {
  const float *u, *w;  // [screened_rows]
  const float* const* products;
  const ScreenBounds* bounds;  // [n]
  std::size_t n;
  bool magnitudes;
  float* scores;  // [n]
};

}  // namespace wavefix
