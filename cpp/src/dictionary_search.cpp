// SPDX-License-Identifier: Apache-2.0
// The passes of a search: coordinates in the subspace, the channels in float32, the few that are left in float64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "dictionary_entries.hpp"
#include "kernels.hpp"

namespace wavefix {
namespace {

/// Screens one block for one query and lists what may be near.
class Screener {
 public:
  Screener(Similarity similarity, std::size_t k, double norm) : similarity_(similarity), k_(k) {
    task_.query_norm = norm;
  }

  /// Products are to be multiplied by `scale`, and err by per_norm ||entry|| + per_tail tail + constant.
  void set_bounds(double scale, double per_norm, double per_tail, double constant) {
    task_.scale = scale;
    task_.per_norm = per_norm, task_.per_tail = per_tail, task_.constant = constant;
  }

  void screen(const float* products, const EntryBlock& block, const double* tails, std::size_t first, std::size_t rows,
              Shortlist& shortlist) {
    task_.real = products;
    task_.imag = similarity_ == Similarity::phase_sensitive ? nullptr : products + block_rows;
    task_.energies = block.energies, task_.norms = block.norms, task_.tails = tails;
    task_.limit = shortlist.limit(k_);
    const unsigned long wanted = kernels().screen(task_);
    if (wanted == 0) return;
    for (std::size_t row = 0; row < rows; ++row) {
      if ((wanted >> row & 1) == 0) continue;
      const cdouble inner =
          task_.scale * cdouble(products[row], task_.imag != nullptr ? task_.imag[row] : products[row]);
      const double norms = block.norms[row] * task_.query_norm;
      double error = task_.per_norm * block.norms[row] + task_.per_tail * tails[row] + task_.constant;
      error = similarity_ == Similarity::phase_sensitive ? 2.0 * error : norms > 0.0 ? error / norms : 0.0;
      const double cost = cost_of(similarity_, inner, block.energies[row], block.norms[row], task_.query_norm);
      if (std::isfinite(cost)) {
        shortlist.consider(k_, cost, error, first + row);
      } else {  // float32 overflowed: float64 decides
        shortlist.consider(k_, 0.0, std::numeric_limits<double>::infinity(), first + row);
      }
    }
  }

 private:
  Similarity similarity_;
  std::size_t k_;
  Screen task_{};
};

/// Terms below the least normal number lose up to half of the least denormal one each, in product and sum.
double underflow(std::size_t size) { return std::sqrt(2.0) * 4.0 * static_cast<double>(size) * std::ldexp(1.0, -149); }

}  // namespace

std::vector<QueryFacts> Dictionary::Entries::describe(View<const cfloat, 3> queries) const {
  std::vector<QueryFacts> facts(queries.shape[0]);
  for (std::size_t query = 0; query < facts.size(); ++query) {
    const double energy = detail::energy(queries.row(query), channel_size());
    facts[query].valid = std::isfinite(energy);
    facts[query].norm = std::sqrt(energy);
  }
  return facts;
}

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

/// The pass over coordinates in the subspace. Gives up queries for which it excludes too few entries.
std::vector<Shortlist> Dictionary::Entries::search_subspace(View<const cfloat, 3> queries,
                                                            std::vector<QueryFacts>& facts, Similarity similarity,
                                                            std::size_t k, const Execution& execution) const {
  const std::size_t n = facts.size(), depth = 2 * subspace.rank();
  QueryColumns<float> columns(n, subspace.rank(), similarity);
  const std::size_t groups = (n + Subspace::group - 1) / Subspace::group;
  const auto workers = static_cast<std::size_t>(thread_count(groups, execution.threads));
  std::vector<double> scratch(workers * (Subspace::group * (depth + 1) + subspace.scratch_size()));
  parallel_for(groups, execution, [&](std::size_t index, int worker) {
    double* const coordinates = scratch.data() + static_cast<std::size_t>(worker) * (scratch.size() / workers);
    double* const tails = coordinates + Subspace::group * depth;
    const std::size_t first = index * Subspace::group, count_here = std::min(Subspace::group, n - first);
    const cfloat* channels[Subspace::group] = {};
    for (std::size_t i = 0; i < count_here; ++i) channels[i] = queries.row(first + i);
    subspace.project(channels, count_here, coordinates, tails, tails + Subspace::group);
    for (std::size_t i = 0; i < count_here; ++i) {
      columns.set(first + i, coordinates + i * depth, scale_near(facts[first + i].norm));
      facts[first + i].tail = tails[i];
    }
  });
  const std::size_t together = group_columns / columns.per_query;
  const double rounding = subspace.rounding();
  return sweep(n, k, sizeof(float) * depth * block_rows, execution, [&](std::size_t index, SearchWorker& worker) {
    const EntryBlock block{nullptr, energies.data() + index * block_rows, norms.data() + index * block_rows};
    const double* const tails = subspace.tails() + index * block_rows;
    const std::size_t begin = index * block_rows, rows_here = std::min(block_rows, count - begin);
    for (std::size_t first = 0; first < n; first += together) {
      const std::size_t count_here = std::min(together, n - first);
      kernels().multiply_float({subspace.block(index), block_rows, depth, depth, 0, columns.of(first),
                                count_here * columns.per_query, columns.stride, worker.products.data(), block_rows});
      for (std::size_t query = first; query < first + count_here; ++query) {
        Shortlist& shortlist = worker.shortlists[query];
        if (!facts[query].valid || shortlist.given_up) continue;
        Screener screener(similarity, k, facts[query].norm);
        screener.set_bounds(columns.scale(query), rounding * facts[query].norm, facts[query].tail,
                            underflow(subspace.rank()) * columns.scale(query));
        screener.screen(worker.products.data() + (query - first) * columns.per_query * block_rows, block, tails, begin,
                        rows_here, shortlist);
        shortlist.give_up_beyond(k, most_candidates(k));
      }
    }
  });
}

/// The pass over the channels themselves, for the queries `which`: in float32, where an inner product of `size` complex
/// entries errs by at most (2 size + 4) 2^-24 ||a|| ||b|| in each part, or rounded to bfloat. The latter gives up as
/// the pass in the subspace does.
template <class T>
std::vector<Shortlist> Dictionary::Entries::search_rows(View<const cfloat, 3> queries,
                                                        const std::vector<QueryFacts>& facts,
                                                        const std::vector<std::size_t>& which, Similarity similarity,
                                                        std::size_t k, const Execution& execution) const {
  constexpr bool rounded = std::is_same_v<T, bfloat>;
  const std::size_t n = which.size(), size = channel_size();
  // pairs of rounded numbers are multiplied and added by one instruction, which takes denormal numbers for zero
  const double unit = std::ldexp(1.0, rounded ? -23 : -24), least = underflow(size) * (rounded ? std::exp2(24.0) : 1.0);
  const double rounding = std::sqrt(2.0) * (2.0 * static_cast<double>(size) + 4.0) * unit;
  QueryColumns<T> columns(n, size, similarity);
  std::vector<double> lost(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto* const interleaved = reinterpret_cast<const float*>(queries.row(which[i]));
    lost[i] = columns.set(i, interleaved, scale_near(facts[which[i]].norm));
  }
  const std::size_t together = group_columns / columns.per_query;
  const std::vector<double> no_tails(block_rows, 0.0);
  return sweep(n, k, sizeof(T) * stride() * block_rows, execution, [&](std::size_t index, SearchWorker& worker) {
    EntryBlock block{nullptr, energies.data() + index * block_rows, norms.data() + index * block_rows};
    if constexpr (!rounded) block = prepare_block(index, worker);
    const double* const tails = rounded ? coarse_tails.data() + index * block_rows : no_tails.data();
    const std::size_t begin = index * block_rows, rows_here = std::min(block_rows, count - begin);
    for (std::size_t first = 0; first < n; first += together) {
      const std::size_t count_here = std::min(together, n - first), used = count_here * columns.per_query;
      float* const products = worker.products.data();
      if constexpr (rounded) {
        kernels().pair_products({coarse.data() + 2 * size * begin, columns.of(first), used, columns.stride, 2 * size,
                                 products, block_rows});
      } else {
        kernels().row_products(
            {block.rows, rows_here, stride(), columns.of(first), used, columns.stride, stride(), products, block_rows});
      }
      for (std::size_t i = first; i < first + count_here; ++i) {
        const QueryFacts& query = facts[which[i]];
        Shortlist& shortlist = worker.shortlists[i];
        if (shortlist.given_up) continue;
        const double per_both = rounding * (query.norm + lost[i]);
        Screener screener(similarity, k, query.norm);
        screener.set_bounds(columns.scale(i), lost[i] + per_both, query.norm + lost[i] + per_both,
                            least * columns.scale(i));
        screener.screen(products + (i - first) * columns.per_query * block_rows, block, tails, begin, rows_here,
                        shortlist);
        if (rounded) shortlist.give_up_beyond(k, most_candidates(k));
        if (!rounded && shortlist.candidates.size() > most_candidates(k)) {
          settle(similarity, k, queries.row(which[i]), query, shortlist, worker);
        }
      }
    }
  });
}

void Dictionary::Entries::round_rows() {
  const std::size_t depth = 2 * channel_size();
  coarse.assign(blocks() * block_rows * depth, 0);
  coarse_tails.assign(blocks() * block_rows, 0.0);
  for (std::size_t begin = 0; begin < count; begin += block_rows) {
    const std::size_t rows_here = std::min(block_rows, count - begin);
    bfloat* const block = coarse.data() + begin * depth;
    for (std::size_t level = 0; level < depth; ++level) {
      for (std::size_t row = 0; row < rows_here; ++row) {
        const float value = rows[(begin + row) * stride() + level];
        bfloat& rounded = block[(level / 2 * block_rows + row) * 2 + level % 2];
        rounded = to_bfloat(value);
        const double off = static_cast<double>(value) - static_cast<double>(as_float(rounded));
        coarse_tails[begin + row] += off * off;
      }
    }
  }
  for (double& tail : coarse_tails) tail = std::sqrt(tail);
}

/// Every entry that no bound can exclude stays on the shortlist of its query.
std::vector<Shortlist> Dictionary::Entries::scan(View<const cfloat, 3> queries, Similarity similarity, std::size_t k,
                                                 const Execution& execution) const {
  std::vector<QueryFacts> facts = describe(queries);
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
  if (shortcut && subspace.rank() > 0) {
    std::vector<Shortlist> found = search_subspace(queries, facts, similarity, k, execution), valid;
    for (const std::size_t query : left) valid.push_back(std::move(found[query]));
    keep(std::move(valid));
  } else if (shortcut && !coarse.empty()) {
    keep(search_rows<bfloat>(queries, facts, left, similarity, k, execution));
  }
  if (left.empty()) return shortlists;
  std::vector<Shortlist> found = search_rows<float>(queries, facts, left, similarity, k, execution);
  for (std::size_t i = 0; i < left.size(); ++i) shortlists[left[i]] = std::move(found[i]);
  return shortlists;
}

/// The k nearest of a shortlist in float64, candidates of low bounds first: what these leave out is not evaluated.
std::vector<std::pair<double, std::size_t>> Dictionary::Entries::best_of(Similarity similarity, std::size_t k,
                                                                         const cfloat* query, double query_norm,
                                                                         Shortlist& shortlist,
                                                                         SearchWorker& worker) const {
  auto& candidates = shortlist.candidates;
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.lower_bound < b.lower_bound; });
  std::vector<std::pair<double, std::size_t>> best;  // max-heap, of k at most
  double limit = std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : candidates) {
    if (candidate.lower_bound > limit) break;
    const cfloat* const channel = entry(candidate.index, worker);
    best.emplace_back(exact_distance(similarity, query, channel, channel_size()), candidate.index);
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
  const auto best = best_of(similarity, k, query, facts.norm, shortlist, worker);
  shortlist = {};
  for (const auto& [distance, index] : best) {
    shortlist.bound(k, cost_at(similarity, distance, facts.norm));
    shortlist.candidates.push_back({-std::numeric_limits<double>::infinity(), index});
  }
}

void Dictionary::Entries::rank(View<const cfloat, 3> queries, std::vector<Shortlist>& shortlists, Similarity similarity,
                               View<std::int64_t, 2> indices, View<double, 2> distances,
                               const Execution& execution) const {
  const std::size_t n = queries.shape[0], k = indices.shape[1];
  std::vector<SearchWorker> workers = make_workers(n, 0, execution);
  parallel_for(n, execution, [&](std::size_t query, int worker) {
    std::fill_n(indices.row(query), k, std::int64_t{-1});
    std::fill_n(distances.row(query), k, std::numeric_limits<double>::quiet_NaN());
    const double norm = std::sqrt(detail::energy(queries.row(query), channel_size()));
    const auto ranked =
        best_of(similarity, k, queries.row(query), norm, shortlists[query], workers[static_cast<std::size_t>(worker)]);
    for (std::size_t place = 0; place < ranked.size(); ++place) {
      distances.row(query)[place] = ranked[place].first;
      indices.row(query)[place] = static_cast<std::int64_t>(ranked[place].second);
    }
  });
}

}  // namespace wavefix
