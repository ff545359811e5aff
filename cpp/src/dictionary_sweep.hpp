// SPDX-License-Identifier: Apache-2.0
// The loop over blocks of entries that the passes of a search share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "dictionary_entries.hpp"

namespace wavefix {

inline constexpr std::size_t range_bytes = std::size_t{1} << 19;  // of entries that one thread takes at a time

/// Items for a loop over n that cost `each` multiply-adds: as many in one as are worth waking a thread for.
struct Shares {
  static constexpr std::size_t worthwhile = std::size_t{1} << 17;
  Shares(std::size_t n_, std::size_t each)
      : n(n_),
        together(std::clamp<std::size_t>(worthwhile / std::max<std::size_t>(each, 1), 1, std::max<std::size_t>(n, 1))),
        items((n + together - 1) / together) {}
  std::size_t begin(std::size_t item) const { return item * together; }
  std::size_t end(std::size_t item) const { return std::min(n, (item + 1) * together); }
  std::size_t n, together, items;
};

/// Blocks that one thread takes at a time.
struct BlockRanges {
  /// A block has `bytes`, and takes `work` multiply-adds on average.
  BlockRanges(std::size_t blocks_, std::size_t bytes, std::size_t work, const Execution& execution) : blocks(blocks_) {
    const auto threads = static_cast<std::size_t>(thread_count(blocks, execution.threads));
    const std::size_t fair = threads == 1 ? blocks : (blocks + 4 * threads - 1) / (4 * threads);
    const std::size_t worthwhile = 4 * Shares::worthwhile / std::max<std::size_t>(work, 1);  // of 16 bits, or in float
    range = std::clamp<std::size_t>(range_bytes / bytes, 1, fair);
    range = std::clamp<std::size_t>(worthwhile, range, blocks);
    items = (blocks + range - 1) / range;
  }
  std::size_t begin(std::size_t item) const { return item * range; }
  std::size_t end(std::size_t item) const { return std::min(blocks, (item + 1) * range); }
  std::size_t blocks, range, items;
};

/// Bits of the first `count` rows of a block.
inline unsigned first_bits(std::size_t count) { return count < block_rows ? (1u << count) - 1u : ~0u; }

template <class Body>
std::vector<Shortlist> Dictionary::Entries::sweep(std::size_t items, const std::vector<double>& limits, std::size_t k,
                                                  const Execution& execution, const Body& body) const {
  const std::size_t queries = limits.size();
  std::vector<SearchWorker> workers = make_workers(items, limits, execution);
  parallel_for(items, execution,
               [&](std::size_t item, int worker) { body(item, workers[static_cast<std::size_t>(worker)]); });
  std::vector<Shortlist> merged = std::move(workers.front().shortlists);
  const Shares shares(queries, 500 * (workers.size() - 1));
  parallel_for(shares.items, execution, [&](std::size_t item, int) {
    for (std::size_t query = shares.begin(item); query < shares.end(item); ++query) {
      merged[query].prune(k);
      for (std::size_t other = 1; other < workers.size(); ++other) {
        merged[query].merge(k, workers[other].shortlists[query]);
      }
    }
  });
  return merged;
}

}  // namespace wavefix
