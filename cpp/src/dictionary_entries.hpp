// SPDX-License-Identifier: Apache-2.0
// What a dictionary holds, and the scratch of its searches.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "cache_lines.hpp"
#include "coordinates.hpp"
#include "query_columns.hpp"
#include "search_kernels.hpp"
#include "shortlist.hpp"
#include "wavefix/dictionary.hpp"

namespace wavefix {

inline constexpr std::size_t block_rows = screened_rows;
inline constexpr std::size_t group_columns = 64;  // multiplied at a time: a panel of them stays in the L2 cache

/// Scratch of one thread.
struct SearchWorker {
  std::unique_ptr<ChannelModel::Workspace> workspace;
  std::vector<cfloat> channel;
  std::vector<float> rows;
  CacheLines<float> products;
  std::vector<double> energies, norms;  // of generated rows
  std::vector<Shortlist> shortlists;    // a query each
  struct Bounds {                       // of a query's products with all coordinates, at a limit
    ScreenBounds all;
    double limit = std::numeric_limits<double>::quiet_NaN();
  };
  std::vector<Bounds> bounds;  // a query each
};

/// What the passes know of one query.
struct QueryFacts {
  bool valid = false;
  double norm = 0.0;
};

struct CoordinateQueries;
struct QueryGroup;

/// block_rows entries.
struct EntryBlock {
  const float* rows;
  const double *energies, *norms;
};

/// Where entries come from: stored channels if `model` is empty, the model on the grid otherwise.
struct Dictionary::Entries {
  std::size_t count = 0, n_antennas = 0, n_subcarriers = 0;
  std::vector<double> positions;        // stored: [count, 3]
  CacheLines<float> rows;               // stored: [count, row_stride]
  std::vector<double> energies, norms;  // stored: [count, padded to whole blocks]
  Coordinates coordinates;              // stored
  std::unique_ptr<const ChannelModel> model;
  Grid grid;
  std::size_t memory_limit = default_memory_limit;
  mutable std::atomic<std::size_t> tried{0}, failed{0};    // queries of the pass over coordinates
  mutable std::atomic<std::size_t> scored{0}, crowded{0};  // by the leading ones; these left most blocks

  std::size_t channel_size() const { return n_antennas * n_subcarriers; }
  std::size_t stride() const { return row_stride(channel_size()); }
  std::size_t blocks() const { return (count + block_rows - 1) / block_rows; }
  const cfloat* stored(std::size_t index) const {
    return reinterpret_cast<const cfloat*>(rows.data() + index * stride());
  }

  /// Candidates of one query and thread.
  std::size_t most_candidates(std::size_t k) const { return 4 * k + 64 + std::min<std::size_t>(count / 16, 2048); }
  /// Bytes that a search holds for each query at most.
  std::size_t query_bytes(std::size_t k) const {
    const auto workers = static_cast<std::size_t>(thread_count(blocks(), 0));
    const std::size_t in_coordinates =
        coordinates.empty() ? 0 : sizeof(double) * coordinates.levels() + sizeof(float) * blocks();
    return sizeof(float) * 2 * (stride() + row_stride(coordinates.levels() / 4)) + in_coordinates +
           workers * (sizeof(Candidate) * most_candidates(k) + sizeof(double) * k);
  }
  /// Queries that are searched for at a time.
  std::size_t query_chunk(std::size_t k) const { return std::max<std::size_t>(memory_limit / 2 / query_bytes(k), 1); }
  std::size_t worker_bytes() const {
    const std::size_t generated = model ? block_rows * stride() : 0;
    return sizeof(float) * (generated + group_columns * block_rows) + sizeof(cfloat) * channel_size() +
           sizeof(double) * coordinates.scratch_size();
  }

  void position(std::size_t index, double* xyz) const {
    if (model) {
      grid.position(index, xyz);
    } else {
      std::copy_n(positions.data() + 3 * index, 3, xyz);
    }
  }

  /// `limits` are known of the queries of a sweep.
  std::vector<SearchWorker> make_workers(std::size_t items, const std::vector<double>& limits,
                                         const Execution& execution) const {
    std::vector<SearchWorker> made(static_cast<std::size_t>(thread_count(items, execution.threads)));
    for (SearchWorker& worker : made) {
      worker.products.resize(group_columns * block_rows);
      worker.shortlists.resize(limits.size()), worker.bounds.resize(limits.size());
      for (std::size_t i = 0; i < limits.size(); ++i) worker.shortlists[i].known = limits[i];
      if (!model) continue;
      worker.channel.resize(channel_size());
      worker.workspace = model->make_workspace();
      worker.rows.resize(block_rows * stride());
      worker.energies.resize(block_rows), worker.norms.resize(block_rows);
    }
    return made;
  }

  /// Asks for the first numbers of a stored entry, from where the processor reads on.
  void fetch(std::size_t index) const {
    constexpr std::size_t line = 64 / sizeof(float), most = 2048 / sizeof(float);
    if (model) return;
    for (std::size_t at = 0; at < std::min(stride(), most); at += line)
      __builtin_prefetch(rows.data() + index * stride() + at);
  }
  /// The channel of one entry, perhaps in the worker's scratch.
  const cfloat* entry(std::size_t index, SearchWorker& worker) const {
    if (!model) return stored(index);
    double xyz[3];
    grid.position(index, xyz);
    checkpoint();
    model->synthesize_one(xyz, worker.channel.data(), nullptr, *worker.workspace);
    return worker.channel.data();
  }

  EntryBlock prepare_block(std::size_t index, SearchWorker& worker) const {
    const std::size_t first = index * block_rows, size = channel_size();
    if (!model) return {rows.data() + first * stride(), energies.data() + first, norms.data() + first};
    for (std::size_t row = 0; row < std::min(block_rows, count - first); ++row) {
      const cfloat* const channel = entry(first + row, worker);
      std::copy_n(reinterpret_cast<const float*>(channel), 2 * size, worker.rows.data() + row * stride());
      worker.energies[row] = energy_of(channel, size);
      worker.norms[row] = std::sqrt(worker.energies[row]);
    }
    return {worker.rows.data(), worker.energies.data(), worker.norms.data()};
  }

  void store(View<const cfloat, 3> channels, const Execution& execution);
  std::vector<QueryFacts> describe(View<const cfloat, 3> queries, const Execution& execution) const;
  /// Calls body(item, worker) for all items, and merges the shortlists of the workers.
  template <class Body>
  std::vector<Shortlist> sweep(std::size_t items, const std::vector<double>& limits, std::size_t k,
                               const Execution& execution, const Body& body) const;
  std::unique_ptr<float[]> score(const CoordinateQueries& queries, const Execution& execution) const;
  void gather(const CoordinateQueries& queries, std::size_t first, std::uint64_t chosen, std::size_t k,
              SearchWorker& worker, QueryGroup& group) const;
  const ScreenBounds& limit_bounds(const CoordinateQueries& queries, std::size_t i, std::size_t k,
                                   SearchWorker& worker) const;
  bool compare(const CoordinateQueries& queries, std::size_t block, Similarity similarity, std::size_t k,
               SearchWorker& worker, QueryGroup& group) const;
  void tighten(const CoordinateQueries& queries, std::size_t i, Similarity similarity, std::size_t k,
               SearchWorker& worker) const;
  struct Chosen {                // by their scores
    std::vector<double> limits;  // each query's own: costs that k entries do not exceed
    std::vector<float> least;    // scores of blocks that may hold one of the k
    std::size_t blocks = 0;      // that score as much, of all queries together
  };
  Chosen choose(const CoordinateQueries& queries, const float* scores, Similarity similarity, std::size_t k,
                const Execution& execution) const;
  using Passed = std::vector<Shortlist>;  // of the queries `which`
  Passed search_coordinates(View<const cfloat, 3> queries, const std::vector<QueryFacts>& facts,
                            const std::vector<std::size_t>& which, Similarity similarity, std::size_t k,
                            const Execution& execution) const;
  Passed search_rows(View<const cfloat, 3> queries, const std::vector<QueryFacts>& facts,
                     const std::vector<std::size_t>& which, const std::vector<double>& limits, Similarity similarity,
                     std::size_t k, const Execution& execution) const;
  std::vector<Shortlist> scan(View<const cfloat, 3> queries, Similarity similarity, std::size_t k,
                              const Execution& execution) const;
  void settle(Similarity similarity, std::size_t k, const cfloat* query, const QueryFacts& facts, Shortlist& shortlist,
              SearchWorker& worker) const;
  std::vector<std::pair<double, std::size_t>> best_of(Similarity similarity, std::size_t k, const cfloat* query,
                                                      Shortlist& shortlist, SearchWorker& worker) const;
  double distance_to(Similarity similarity, std::size_t index, const cfloat* query, double query_energy,
                     SearchWorker& worker) const;
  void rank(View<const cfloat, 3> queries, std::vector<Shortlist>& shortlists, Similarity similarity,
            View<std::int64_t, 2> indices, View<double, 2> distances, const Execution& execution) const;
};

}  // namespace wavefix
