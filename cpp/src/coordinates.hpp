// SPDX-License-Identifier: Apache-2.0
// Coordinates of a dictionary's entries in an orthonormal basis, directions of most energy first, as 16-bit integers,
// or all their numbers, as bytes where the processor multiplies these faster; and how far an inner product of them may
// be from that of the channels: docs/equations.md (17).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache_lines.hpp"
#include "directions.hpp"
#include "packed_matrix.hpp"
#include "search_kernels.hpp"
#include "wavefix/dictionary.hpp"
#include "wavefix/parallel.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

class Coordinates {
 public:
  static constexpr std::size_t block_rows = screened_rows;
  /// Of the integers, of a channel that the basis holds whole: sums of products stay below 2^31.
  static constexpr double length = 32767.0;

  Coordinates() = default;
  /// `norms` are those of the channels. Without `basis`, coordinates are the channels' own numbers.
  Coordinates(const ChannelAt& channel, const double* norms, std::size_t count, std::size_t size, bool basis,
              const Execution& execution);

  bool empty() const { return levels_ == 0; }
  std::size_t rank() const { return rank_; }  ///< of the basis, 0 without one
  std::size_t size() const { return size_; }  ///< of a channel
  /// Numbers of an entry, and how many of them are compared first.
  std::size_t levels() const { return levels_; }
  std::size_t lead() const { return lead_; }
  std::size_t bytes() const;
  bool in_bytes() const { return in_bytes_; }
  /// Products of a block with the leading coordinates, which are read from one block to the next, or with all of
  /// `n_columns` queries: as 16-bit integers or, with the starts of their sums, as bytes.
  void multiply(std::size_t block, bool all, const std::int16_t* const* columns, float* const* products,
                std::size_t n_columns) const;
  void multiply(std::size_t block, bool all, const std::int8_t* const* columns, const int* starts,
                float* const* products, std::size_t n_columns) const;

  /// What of an entry, divided by its norm, the leading coordinates or all of them leave, at least; twice what is lost
  /// by rounding to bytes is added.
  const float* lead_tails(std::size_t block) const { return lead_tails_.data() + block * block_rows; }
  const float* tails(std::size_t block) const { return tails_.data() + block * block_rows; }
  /// Norms over reference(), and their inverses; no numbers where float has none.
  const float* norms(std::size_t block) const { return norms_.data() + block * block_rows; }
  const float* inverse_norms(std::size_t block) const { return inverse_norms_.data() + block * block_rows; }
  double reference() const { return reference_; }

  /// Of a query over its norm. An inner product of entry and query over the norms of both is `unit` times their
  /// product, to `rounding` plus the product of the tails.
  struct Query {
    double lead_tail, tail, rounding, unit;
  };
  /// With a basis: [levels] coordinates in float64 each of up to `group` channels, those in some of the slices of the
  /// basis, which threads can share. Scratch is [scratch_size()].
  static constexpr std::size_t group = 32;
  std::size_t slices() const;
  std::size_t scratch_size() const;
  void multiply_basis(const cfloat* const* channels, std::size_t count, std::size_t first_slice, std::size_t n_slices,
                      double* coordinates, double* scratch) const;
  /// [levels] integers of a channel. Without a basis, `coordinates` are not looked at.
  Query project(const double* coordinates, const cfloat* channel, double norm, std::int16_t* out) const;
  Query project(const cfloat* channel, double norm, std::int8_t* out) const;

 private:
  struct Rounded;
  /// Of all blocks.
  template <class T>
  struct Parts {
    CacheLines<T> leading, others;
  };
  void choose_basis(const ChannelAt& channel, std::size_t count, const Execution& execution);
  void fill_basis(const Eigen::MatrixXcd& basis, const Execution& execution);
  void fill_entries(const ChannelAt& channel, const double* norms, std::size_t count, const Execution& execution);
  template <class T>
  void fill_rows(const cfloat* const* channels, const double* coordinates, std::size_t first, std::size_t rows,
                 const double* norms, Parts<T>& parts, double& most_lost);
  template <class Store>
  Rounded round(const double* coordinates, const cfloat* channel, double norm, const Store& store) const;
  static constexpr std::size_t panel_depth = 256;  // of channels: what is worked on together stays in the L2 cache
  static constexpr std::size_t slice_rows = PackedMatrix<double>::block_rows;

  std::size_t rank_ = 0, size_ = 0, levels_ = 0, lead_ = 0;
  bool in_bytes_ = false;
  double defect_ = 0.0, lost_ = 0.0, reference_ = 1.0;  // ||U^H U - 1||; the most that rounding takes off an entry
  std::vector<PackedMatrix<double>> basis_;  // panels of [rank, 2 size]: real and imaginary parts interleaved
  Parts<std::int16_t> pairs_;
  Parts<std::uint8_t> bytes_;
  CacheLines<float> byte_scales_, lead_tails_, tails_, norms_, inverse_norms_;
};

}  // namespace wavefix
