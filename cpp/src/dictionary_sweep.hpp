// SPDX-License-Identifier: Apache-2.0
// The loop over blocks of entries that the passes of a search share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "dictionary_entries.hpp"

namespace wavefix {

template <class Body>
std::vector<Shortlist> Dictionary::Entries::sweep(std::size_t queries, std::size_t k, std::size_t block_bytes,
                                                  const Execution& execution, const Body& body) const {
  const auto threads = static_cast<std::size_t>(thread_count(blocks(), execution.threads));
  const std::size_t fair = threads == 1 ? blocks() : (blocks() + 4 * threads - 1) / (4 * threads);
  const std::size_t range = std::clamp<std::size_t>(range_bytes / block_bytes, 1, fair);
  const std::size_t items = (blocks() + range - 1) / range;
  std::vector<SearchWorker> workers = make_workers(items, queries, execution);
  parallel_for(items, execution, [&](std::size_t item, int worker) {
    for (std::size_t block = item * range; block < std::min(blocks(), (item + 1) * range); ++block) {
      body(block, workers[static_cast<std::size_t>(worker)]);
    }
  });
  std::vector<Shortlist> merged = std::move(workers.front().shortlists);
  for (std::size_t query = 0; query < queries; ++query) {
    merged[query].prune(k);
    for (std::size_t other = 1; other < workers.size(); ++other) {
      merged[query].merge(k, workers[other].shortlists[query]);
    }
  }
  return merged;
}

}  // namespace wavefix
