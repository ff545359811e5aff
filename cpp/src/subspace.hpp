// SPDX-License-Identifier: Apache-2.0
// The few directions that hold nearly all energy of a dictionary, and what an inner product loses without the rest:
// docs/equations.md (17).
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "packed_matrix.hpp"
#include "wavefix/parallel.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

/// Channel i of a dictionary, size complex numbers.
using ChannelAt = std::function<const cfloat*(std::size_t index)>;

class Subspace {
 public:
  static constexpr std::size_t block_rows = packed_block_rows<float>;

  /// Rank 0 where a subspace would not pay: few entries, short channels, or energy in all directions.
  static Subspace of(const ChannelAt& channel, std::size_t count, std::size_t size, const Execution& execution);

  std::size_t rank() const { return rank_; }
  std::size_t bytes() const;
  /// Coordinates of block_rows entries: [2 rank][block_rows], re and im of a coordinate one after the other.
  const float* block(std::size_t index) const { return packed_.data() + index * 2 * rank_ * block_rows; }
  /// [entries, whole blocks]: at least the norm of what the subspace leaves of an entry.
  const double* tails() const { return tails_.data(); }
  /// An inner product that is computed from float32 coordinates errs by at most this share of the norms of entry and
  /// query, plus the product of their tails.
  double rounding() const;

  /// Coordinates [rank] of up to `group` channels, interleaved, and their tails. Scratch is [scratch_size()].
  static constexpr std::size_t group = 32;
  std::size_t scratch_size() const { return group * (panel_depth + lane_padding + 2 * rank_); }
  void project(const cfloat* const* channels, std::size_t count, double* coordinates, double* tails,
               double* scratch) const;

 private:
  void fill_basis(const Eigen::MatrixXcd& basis);
  static constexpr std::size_t panel_depth = 512;  // of channels: what is worked on together stays in the L2 cache

  std::size_t rank_ = 0, size_ = 0;
  double defect_ = 0.0;                      // ||U^H U - 1||
  std::vector<PackedMatrix<double>> basis_;  // panels of [2 rank, 2 size]: interleaved channel to coordinates
  Buffer<float> packed_;
  std::vector<double> tails_;
};

}  // namespace wavefix
