// SPDX-License-Identifier: Apache-2.0
// A search after its pass over coordinates: the channels in float32, the few that are left in float64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "dictionary_entries.hpp"
#include "dictionary_sweep.hpp"
#include "kernels.hpp"
#include "screener.hpp"

namespace wavefix {
namespace {

/// Terms below the least normal number lose up to half of the least denormal one each, in product and sum.
double underflow(std::size_t size) { return std::sqrt(2.0) * 4.0 * static_cast<double>(size) * std::ldexp(1.0, -149); }

/// Norms of a block's entries and their squares over those of the longest, for the bounds of a screen.
struct RelativeNorms {
  RelativeNorms(const EntryBlock& block, std::size_t rows) {
    const double highest = *std::max_element(block.norms, block.norms + rows);
    reference = highest > 0.0 ? highest : 1.0;
    for (std::size_t row = 0; row < block_rows; ++row) {
      const double share = row < rows ? block.norms[row] / reference : 0.0;
      norms[row] = share < 1e-18 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(share);
      energies[row] = norms[row] * norms[row];
    }
  }
  double reference;
  float norms[block_rows], energies[block_rows];
};

}  // namespace

std::vector<QueryFacts> Dictionary::Entries::describe(View<const cfloat, 3> queries, const Execution& execution) const {
  std::vector<QueryFacts> facts(queries.shape[0]);
  const Shares shares(facts.size(), 4 * channel_size());
  parallel_for(shares.items, execution, [&](std::size_t item, int) {
    for (std::size_t query = shares.begin(item); query < shares.end(item); ++query) {
      const double energy = energy_of(queries.row(query), channel_size());
      facts[query].valid = std::isfinite(energy);
      facts[query].norm = std::sqrt(energy);
    }
  });
  return facts;
}

/// The pass over the channels themselves in float32, where an inner product of `size` complex entries errs by at most
/// (2 size + 4) 2^-24 ||a|| ||b|| in each part.
std::vector<Shortlist> Dictionary::Entries::search_rows(View<const cfloat, 3> queries,
                                                        const std::vector<QueryFacts>& facts,
                                                        const std::vector<std::size_t>& which,
                                                        const std::vector<double>& limits, Similarity similarity,
                                                        std::size_t k, const Execution& execution) const {
  const std::size_t n = which.size(), size = channel_size();
  const double rounding = std::sqrt(2.0) * (2.0 * static_cast<double>(size) + 4.0) * std::ldexp(1.0, -24);
  QueryColumns<float> columns(n, size, similarity);
  std::vector<ErrorBound> errors(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double norm = facts[which[i]].norm, scale = scale_near(norm);
    const auto* const interleaved = reinterpret_cast<const float*>(queries.row(which[i]));
    for (std::size_t at = 0; at < 2 * size; ++at) {
      columns.plain(i)[at] = static_cast<float>(static_cast<double>(interleaved[at]) / scale);
    }
    columns.turn(i);
    errors[i] = {scale, rounding * norm, 0.0, underflow(size) * scale, false};
  }
  const std::size_t together = group_columns / columns.per_query;
  const auto compare = [&](std::size_t index, SearchWorker& worker) {
    const EntryBlock block = prepare_block(index, worker);
    const std::size_t begin = index * block_rows, rows_here = std::min(block_rows, count - begin);
    const RelativeNorms relative(block, rows_here);
    for (std::size_t first = 0; first < n; first += together) {
      const std::size_t count_here = std::min(together, n - first);
      checkpoint();
      kernels().row_products({block.rows, rows_here, stride(), columns.of(first), count_here * columns.per_query,
                              columns.stride, stride(), worker.products.data(), block_rows});
      for (std::size_t i = first; i < first + count_here; ++i) {
        const QueryFacts& query = facts[which[i]];
        const float* const products = worker.products.data() + (i - first) * columns.per_query * block_rows;
        Shortlist& shortlist = worker.shortlists[i];
        const Screener screener(similarity, k, query.norm);
        const ScreenBounds bounds = screener.bounds(errors[i], relative.reference, shortlist.limit(k));
        const ScreenBounds* const one = &bounds;
        unsigned wanted = 0;
        kernels().screen(
            {relative.energies, relative.norms, relative.norms, &products, &one, 1, columns.per_query == 2, &wanted});
        screener.list(wanted & first_bits(rows_here), products, errors[i], block, relative.norms, begin, shortlist);
        if (shortlist.candidates.size() > most_candidates(k)) {
          settle(similarity, k, queries.row(which[i]), query, shortlist, worker);
        }
      }
    }
  };
  const std::size_t generated = model ? 64 * stride() * block_rows : 0;
  const BlockRanges ranges(blocks(), sizeof(float) * stride() * block_rows, 4 * stride() * block_rows * n + generated,
                           execution);
  return sweep(ranges.items, limits, k, execution, [&](std::size_t item, SearchWorker& worker) {
    for (std::size_t block = ranges.begin(item); block < ranges.end(item); ++block) compare(block, worker);
  });
}

/// Every entry that no bound can exclude stays on the shortlist of its query.
std::vector<Shortlist> Dictionary::Entries::scan(View<const cfloat, 3> queries, Similarity similarity, std::size_t k,
                                                 const Execution& execution) const {
  std::vector<QueryFacts> facts = describe(queries, execution);
  std::vector<Shortlist> shortlists(facts.size());
  std::vector<std::size_t> left;
  for (std::size_t query = 0; query < facts.size(); ++query) {
    if (facts[query].valid) left.push_back(query);
  }
  const auto keep = [&](std::vector<Shortlist>&& found) {
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < left.size(); ++i) {
      shortlists[left[i]] = std::move(found[i]);
      if (shortlists[left[i]].given_up) open.push_back(left[i]);
    }
    tried += left.size(), failed += open.size();
    left = std::move(open);
  };
  const bool shortcut = 2 * failed.load() <= tried.load() + 16;  // else it would have paid too seldom
  if (shortcut && !coordinates.empty() && !left.empty()) {
    keep(search_coordinates(queries, facts, left, similarity, k, execution));
  }
  if (left.empty()) return shortlists;
  std::vector<double> limits;
  for (const std::size_t query : left) limits.push_back(shortlists[query].known);
  std::vector<Shortlist> found = search_rows(queries, facts, left, limits, similarity, k, execution);
  for (std::size_t i = 0; i < left.size(); ++i) shortlists[left[i]] = std::move(found[i]);
  return shortlists;
}

double Dictionary::Entries::distance_to(Similarity similarity, std::size_t index, const cfloat* query,
                                        double query_energy, SearchWorker& worker) const {
  const cfloat* const channel = entry(index, worker);
  double energies_of_both = 0.0;
  if (similarity == Similarity::phase_insensitive) {
    energies_of_both = query_energy * (model ? energy_of(channel, channel_size()) : energies[index]);
  }
  return exact_distance(similarity, query, channel, channel_size(), energies_of_both);
}

/// The k nearest of a shortlist in float64, candidates of low bounds first: what these leave out is not evaluated.
std::vector<std::pair<double, std::size_t>> Dictionary::Entries::best_of(Similarity similarity, std::size_t k,
                                                                         const cfloat* query, Shortlist& shortlist,
                                                                         SearchWorker& worker) const {
  const double query_energy = energy_of(query, channel_size()), query_norm = std::sqrt(query_energy);
  auto& candidates = shortlist.candidates;
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.lower_bound < b.lower_bound; });
  std::vector<std::pair<double, std::size_t>> best;  // max-heap, of k at most
  double limit = std::numeric_limits<double>::infinity();
  for (std::size_t at = 0; at < candidates.size() && !(candidates[at].lower_bound > limit); ++at) {
    if (at + 1 < candidates.size()) fetch(candidates[at + 1].index);  // rows are anywhere in memory
    const std::size_t index = candidates[at].index;
    best.emplace_back(distance_to(similarity, index, query, query_energy, worker), index);
    std::push_heap(best.begin(), best.end());
    if (best.size() > k) std::pop_heap(best.begin(), best.end()), best.pop_back();
    if (best.size() == k) limit = cost_at(similarity, best.front().first, query_norm);
  }
  std::sort_heap(best.begin(), best.end());
  return best;
}

/// Where more entries are near each other than float32 can tell apart, float64 decides at once: lists stay short.
void Dictionary::Entries::settle(Similarity similarity, std::size_t k, const cfloat* query, const QueryFacts& facts,
                                 Shortlist& shortlist, SearchWorker& worker) const {
  shortlist.prune(k);
  if (shortlist.candidates.size() <= most_candidates(k) / 2) return;
  const auto best = best_of(similarity, k, query, shortlist, worker);
  shortlist.candidates.clear(), shortlist.best_upper_bounds.clear();
  for (const auto& [distance, index] : best) {
    shortlist.bound(k, cost_at(similarity, distance, facts.norm));
    shortlist.candidates.push_back({-std::numeric_limits<double>::infinity(), index});
  }
}

void Dictionary::Entries::rank(View<const cfloat, 3> queries, std::vector<Shortlist>& shortlists, Similarity similarity,
                               View<std::int64_t, 2> indices, View<double, 2> distances,
                               const Execution& execution) const {
  const std::size_t n = queries.shape[0], k = indices.shape[1];
  const Shares shares(n, (model ? 64 : 16) * (k + 1) * channel_size());  // as if two or three were evaluated for each
  std::vector<SearchWorker> workers = make_workers(shares.items, {}, execution);
  parallel_for(shares.items, execution, [&](std::size_t item, int worker) {
    for (std::size_t query = shares.begin(item); query < shares.end(item); ++query) {
      std::fill_n(indices.row(query), k, std::int64_t{-1});
      std::fill_n(distances.row(query), k, std::numeric_limits<double>::quiet_NaN());
      const auto ranked =
          best_of(similarity, k, queries.row(query), shortlists[query], workers[static_cast<std::size_t>(worker)]);
      for (std::size_t place = 0; place < ranked.size(); ++place) {
        distances.row(query)[place] = ranked[place].first;
        indices.row(query)[place] = static_cast<std::int64_t>(ranked[place].second);
      }
    }
  });
}

}  // namespace wavefix
