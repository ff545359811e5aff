// SPDX-License-Identifier: Apache-2.0
// The first pass of a search, over coordinates: every block of entries is scored by the leading ones, without a limit;
// the blocks that score highest for a query give it a limit near its final one; and the few that score enough for that
// are compared by all coordinates. What there is to do depends neither on the order of the entries nor on the threads.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "coordinate_queries.hpp"
#include "dictionary_entries.hpp"
#include "dictionary_sweep.hpp"
#include "kernels.hpp"
#include "screener.hpp"

namespace wavefix {
namespace {

/// The `most` blocks of highest score.
void find_highest(const float* scores, std::size_t blocks, std::size_t most,
                  std::vector<std::pair<float, std::size_t>>& highest) {
  const auto above = [](const auto& a, const auto& b) { return a.first > b.first; };  // a heap with the lowest in front
  highest.clear();
  for (std::size_t block = 0; block < blocks; ++block) {
    if (highest.size() == most) {
      if (!(scores[block] > highest.front().first)) continue;
      std::pop_heap(highest.begin(), highest.end(), above), highest.pop_back();
    }
    highest.emplace_back(scores[block], block);
    std::push_heap(highest.begin(), highest.end(), above);
  }
}

}  // namespace

/// [queries, blocks]
std::unique_ptr<float[]> Dictionary::Entries::score(const CoordinateQueries& queries,
                                                    const Execution& execution) const {
  const std::size_t n = queries.size(), lead = coordinates.lead(), per_query = queries.columns.per_query;
  const std::size_t together = group_columns / per_query, groups = (n + together - 1) / together;
  const BlockRanges ranges(blocks(), sizeof(std::int16_t) * lead * block_rows,
                           std::min(n, together) * per_query * lead * block_rows, execution);
  std::unique_ptr<float[]> scores(new float[n * blocks()]);
  parallel_for(ranges.items * groups, execution, [&](std::size_t item, int) {
    float products[group_columns * block_rows], found[group_columns];
    const std::size_t first = item % groups * together;
    QueryGroup group;
    for (std::size_t i = first; i < std::min(n, first + together); ++i) group.add(i, queries, products);
    for (std::size_t block = ranges.begin(item / groups); block < ranges.end(item / groups); ++block) {
      const float* const tails = lead < coordinates.levels() ? coordinates.lead_tails(block) : coordinates.tails(block);
      group.multiply(coordinates, block, false);
      kernels().score({coordinates.norms(block), tails, group.reals, queries.score_bounds.data() + first, group.n,
                       per_query == 2, found});
      for (std::size_t i = 0; i < group.n; ++i) scores[(first + i) * blocks() + block] = found[i];
    }
  });
  return scores;
}

/// The queries from `first` on that `chosen` has a bit for, with their limits.
void Dictionary::Entries::gather(const CoordinateQueries& queries, std::size_t first, std::uint64_t chosen,
                                 std::size_t k, SearchWorker& worker, QueryGroup& group) const {
  group.clear();
  for (std::size_t i = first; chosen != 0; ++i, chosen >>= 1) {
    if ((chosen & 1u) == 0 || worker.shortlists[i].given_up) continue;
    group.bounds[group.n] = &limit_bounds(queries, i, k, worker);
    group.add(i, queries, worker.products.data());
  }
}

/// The bounds of a query at its limit.
const ScreenBounds& Dictionary::Entries::limit_bounds(const CoordinateQueries& queries, std::size_t i, std::size_t k,
                                                      SearchWorker& worker) const {
  SearchWorker::Bounds& bounds = worker.bounds[i];
  const double limit = worker.shortlists[i].limit(k);
  if (limit != bounds.limit) {
    bounds = {queries.screeners[i].bounds(queries.errors[i].all, coordinates.reference(), limit), limit};
  }
  return bounds.all;
}

/// Compares a block with a group by all coordinates; false if some of its queries were given up.
bool Dictionary::Entries::compare(const CoordinateQueries& queries, std::size_t block, Similarity similarity,
                                  std::size_t k, SearchWorker& worker, QueryGroup& group) const {
  if (group.n == 0) return true;
  const std::size_t begin = block * block_rows;
  const EntryBlock entries{nullptr, energies.data() + begin, norms.data() + begin};
  const unsigned present = first_bits(std::min(block_rows, count - begin));
  bool all = true;
  group.screen(coordinates, block);
  for (std::size_t at = 0; at < group.n; ++at) {
    const std::size_t i = group.query[at];
    const unsigned wanted = group.wanted[at] & present;
    if (wanted == 0) continue;
    queries.screeners[i].list(wanted, group.reals[at], queries.errors[i].all, entries, coordinates.tails(block), begin,
                              worker.shortlists[i]);
    tighten(queries, i, similarity, k, worker);
    limit_bounds(queries, i, k, worker);
    all = all && !worker.shortlists[i].given_up;
  }
  return all;
}

/// A list that bounds leave too long gets a limit from the exact costs of its best entries.
void Dictionary::Entries::tighten(const CoordinateQueries& queries, std::size_t i, Similarity similarity, std::size_t k,
                                  SearchWorker& worker) const {
  Shortlist& shortlist = worker.shortlists[i];
  if (shortlist.candidates.size() <= std::max(shortlist.allowed, 4 * k + 32)) return;
  const auto end = shortlist.candidates.begin() + static_cast<std::ptrdiff_t>(k);
  std::nth_element(shortlist.candidates.begin(), end, shortlist.candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.lower_bound < b.lower_bound; });
  double limit = -std::numeric_limits<double>::infinity();
  for (auto candidate = shortlist.candidates.begin(); candidate != end; ++candidate) {
    const double distance =
        distance_to(similarity, candidate->index, queries.channels[i], queries.norms[i] * queries.norms[i], worker);
    limit = std::max(limit, cost_at(similarity, distance, queries.norms[i]));
  }
  shortlist.known = std::min(shortlist.known, limit);
  shortlist.give_up_beyond(k, most_candidates(k));
}

/// The blocks that score highest give a query its limit: the cost of the best of their entries.
Dictionary::Entries::Chosen Dictionary::Entries::choose(const CoordinateQueries& queries, const float* scores,
                                                        Similarity similarity, std::size_t k,
                                                        const Execution& execution) const {
  const std::size_t n = queries.size(), most = 1 + 4 * k / block_rows;
  Chosen chosen{std::vector<double>(n, std::numeric_limits<double>::infinity()), std::vector<float>(n)};
  const Shares shares(n, 4 * blocks() + most * block_rows * coordinates.levels() / 4 + 16 * k * channel_size());
  std::vector<SearchWorker> workers = make_workers(shares.items, chosen.limits, execution);
  std::vector<std::size_t> counts(n);
  parallel_for(shares.items, execution, [&](std::size_t item, int index) {
    SearchWorker& worker = workers[static_cast<std::size_t>(index)];
    std::vector<std::pair<float, std::size_t>> highest;
    QueryGroup group;
    for (std::size_t i = shares.begin(item); i < shares.end(item); ++i) {
      const float* const own = scores + i * blocks();
      find_highest(own, blocks(), most, highest);
      for (const auto& found : highest) {
        gather(queries, i, 1, k, worker, group);
        compare(queries, found.second, similarity, k, worker, group);
      }
      const auto best = best_of(similarity, k, queries.channels[i], worker.shortlists[i], worker);
      if (best.size() == k) chosen.limits[i] = cost_at(similarity, best.back().first, queries.norms[i]);
      const float least =
          queries.screeners[i].least_score(queries.errors[i].all, coordinates.reference(), chosen.limits[i]);
      chosen.least[i] = least;
      for (std::size_t block = 0; block < blocks(); ++block) counts[i] += own[block] >= least ? 1 : 0;
    }
  });
  for (const std::size_t of_query : counts) {
    chosen.blocks += of_query;
    if (2 * of_query > blocks()) ++crowded;
  }
  scored += n;
  return chosen;
}

std::vector<Shortlist> Dictionary::Entries::search_coordinates(View<const cfloat, 3> channels,
                                                               const std::vector<QueryFacts>& facts,
                                                               const std::vector<std::size_t>& which,
                                                               Similarity similarity, std::size_t k,
                                                               const Execution& execution) const {
  const CoordinateQueries queries(coordinates, channels, facts, which, similarity, k, execution);
  const std::size_t n = queries.size(), together = group_columns / queries.columns.per_query;
  const std::size_t groups = (n + together - 1) / together, numbers = coordinates.levels() * block_rows;
  std::unique_ptr<float[]> scores;
  Chosen chosen{std::vector<double>(n, std::numeric_limits<double>::infinity()), {}, n * blocks()};
  if (2 * crowded.load() <= scored.load() + 16) {  // else they would have excluded too little
    scores = score(queries, execution);
    chosen = choose(queries, scores.get(), similarity, k, execution);
  }
  const BlockRanges ranges(blocks(), sizeof(std::int16_t) * numbers,
                           chosen.blocks * queries.columns.per_query * numbers / (blocks() * groups), execution);
  return sweep(ranges.items * groups, chosen.limits, k, execution, [&](std::size_t item, SearchWorker& worker) {
    const std::size_t first = item % groups * together, n_here = std::min(together, n - first);
    const std::size_t begin = ranges.begin(item / groups), blocks_here = ranges.end(item / groups) - begin;
    std::vector<std::uint64_t> wanted(blocks_here, scores ? 0 : ~std::uint64_t{0} >> (64 - n_here));
    for (std::size_t i = 0; scores && i < n_here; ++i) {
      const float* const own = scores.get() + (first + i) * blocks() + begin;
      const float least = chosen.least[first + i];
      for (std::size_t at = 0; at < blocks_here; ++at) wanted[at] |= static_cast<std::uint64_t>(own[at] >= least) << i;
    }
    QueryGroup group;
    std::uint64_t gathered = 0;
    for (std::size_t at = 0; at < blocks_here; ++at) {
      if (wanted[at] == 0) continue;
      if (wanted[at] != gathered) gather(queries, first, gathered = wanted[at], k, worker, group);
      if (!compare(queries, begin + at, similarity, k, worker, group)) gathered = 0;
    }
  });
}

}  // namespace wavefix
