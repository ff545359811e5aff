// SPDX-License-Identifier: Apache-2.0
// A small dense matrix stored for fast products with many columns. Each element of a product is one fixed sequence of
// multiply-adds over the depth, however many columns there are: results do not depend on how work is grouped.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>

#include "kernels.hpp"

namespace wavefix {

inline constexpr std::size_t lane_padding = 16;  ///< every vector register holds at most this many floats
inline std::size_t padded(std::size_t count) { return (count + lane_padding - 1) / lane_padding * lane_padding; }

/// Memory aligned for vector registers.
template <class T>
using Buffer = Eigen::Array<T, Eigen::Dynamic, 1>;

template <class T>
using Lanes = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>, Eigen::AlignedMax>;

template <class T>
using ConstLanes = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>, Eigen::AlignedMax>;

/// Rows are kept in blocks of block_rows, each block as [depth][block_rows]; the last block is padded with zeros.
template <class T>
class PackedMatrix {
 public:
  static constexpr std::size_t block_rows = packed_block_rows<T>;

  PackedMatrix() = default;
  PackedMatrix(std::size_t rows, std::size_t depth) { reserve(rows, depth), resize(rows, depth); }

  void reserve(std::size_t rows, std::size_t depth) {
    data_.setZero(static_cast<Eigen::Index>((rows + block_rows - 1) / block_rows * block_rows * depth));
  }
  /// Changes the extents within what is reserved; the contents become undefined.
  void resize(std::size_t rows, std::size_t depth) { rows_ = rows, depth_ = depth; }

  std::size_t rows() const { return rows_; }
  std::size_t depth() const { return depth_; }
  std::size_t blocks() const { return (rows_ + block_rows - 1) / block_rows; }

  T& at(std::size_t row, std::size_t level) { return lanes(row / block_rows, level)[row % block_rows]; }
  /// The block_rows values of one block at one level of the depth.
  T* lanes(std::size_t block, std::size_t level) { return data_.data() + (block * depth_ + level) * block_rows; }

  /// out[c * out_stride + row] = sum over level of (row, level) * columns[c * column_stride + place(level)].
  /// place(level) is level below `split`, and level + gap from there on.
  void multiply(const T* columns, std::size_t count, std::size_t column_stride, T* out, std::size_t out_stride,
                std::size_t split, std::size_t gap) const {
    run({data_.data(), rows_, depth_, split, gap, columns, count, column_stride, out, out_stride});
  }
  void multiply(const T* columns, std::size_t count, std::size_t column_stride, T* out, std::size_t out_stride) const {
    multiply(columns, count, column_stride, out, out_stride, depth_, 0);
  }
  /// The rows of some blocks only; out starts with the first of them.
  void multiply_blocks(std::size_t first, std::size_t n_blocks, const T* columns, std::size_t count,
                       std::size_t column_stride, T* out, std::size_t out_stride) const {
    const std::size_t row = first * block_rows, rows = std::min(rows_ - row, n_blocks * block_rows);
    run({data_.data() + row * depth_, rows, depth_, depth_, 0, columns, count, column_stride, out, out_stride});
  }

 private:
  static void run(const PackedProduct<T>& product) {
    if constexpr (sizeof(T) == sizeof(float)) {
      kernels().multiply_float(product);
    } else {
      kernels().multiply_double(product);
    }
  }
  std::size_t rows_ = 0, depth_ = 0;
  Buffer<T> data_;
};

}  // namespace wavefix
