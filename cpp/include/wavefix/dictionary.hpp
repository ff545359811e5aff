// SPDX-License-Identifier: Apache-2.0
// Dictionary search: the entries most similar to a query, exactly, without a stored grid or similarity matrix.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "wavefix/channel_model.hpp"
#include "wavefix/parallel.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

enum class Similarity {
  phase_sensitive,    ///< docs/equations.md, (4)
  phase_insensitive,  ///< docs/equations.md, (5)
};

/// Points `origin + basis^T (lower + spacing * multi-index)` of a region, enumerated, never stored.
struct WAVEFIX_API Grid {
  std::array<double, 3> origin{};
  std::vector<double> basis;        ///< [dimension, 3]
  std::vector<double> lower;        ///< [dimension], meters
  std::vector<std::size_t> counts;  ///< [dimension]
  double spacing = 0.0;             ///< meters

  /// The grid that covers `region`, centered in it. ShapeError if it has more than 2^40 points.
  static Grid over(const Region& region, double spacing);
  std::size_t size() const;
  void position(std::size_t index, double* xyz) const;
};

/// Entries with known positions: measured fingerprints that are stored, or a model's channels on a grid that are
/// generated tile by tile at each search. Safe to share between threads.
class WAVEFIX_API Dictionary {
 public:
  static constexpr std::size_t default_memory_limit = std::size_t{64} << 20;

  /// Copies `channels` [n, n_antennas, n_subcarriers] at `positions` [n, 3]; all values finite. With
  /// `subspace`, finds the directions that hold nearly all of their energy, if they are few: searches then cost a small
  /// part of an exhaustive one, and finding them costs as much as an exhaustive search of some hundred queries.
  static Dictionary from_measurements(View<const double, 2> positions, View<const cfloat, 3> channels,
                                      bool subspace = true, const Execution& execution = {});
  /// `memory_limit` bounds what a search holds of queries and correlations, however large grid and batch are.
  static Dictionary from_model(const ChannelModel& model, const Grid& grid,
                               std::size_t memory_limit = default_memory_limit);

  std::size_t size() const;
  std::size_t n_antennas() const;
  std::size_t n_subcarriers() const;
  /// Complex coordinates by which entries are compared first; 0 if these are the channels' own numbers.
  std::size_t rank() const;
  /// Bytes held between searches, and the largest number of bytes that a search of `n_queries` adds.
  std::size_t bytes() const;
  std::size_t search_bytes(std::size_t n_queries) const;
  void position(std::size_t index, double* xyz) const;

  /// The `k = indices.shape[1]` entries nearest to each query, nearest first, ties by lower index. Distances are
  /// (4) or (5), recomputed in float64: the passes before, over coordinates or in float32, keep every entry that their
  /// error bounds (17) cannot exclude, so the answer is that of an exhaustive float64 search, for any batch size and
  /// thread count. A query that is not finite gets index -1 and distance NaN.
  void search(View<const cfloat, 3> queries, Similarity similarity, View<std::int64_t, 2> indices,
              View<double, 2> distances, const Execution& execution = {}) const;

 private:
  struct Entries;
  explicit Dictionary(std::shared_ptr<const Entries> entries);
  std::shared_ptr<const Entries> entries_;
};

}  // namespace wavefix
