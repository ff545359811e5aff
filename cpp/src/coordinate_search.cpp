// SPDX-License-Identifier: Apache-2.0
// The first pass of a search, over coordinates: the leading ones first, the others of a block where these leave an
// entry.
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

/// Of one query's products.
struct CoordinateErrors {
  ErrorBound lead, all;
};

/// Fills the columns of the queries `which`.
std::vector<CoordinateErrors> project(const Coordinates& coordinates, View<const cfloat, 3> queries,
                                      const std::vector<QueryFacts>& facts, const std::vector<std::size_t>& which,
                                      QueryColumns<std::int16_t>& columns, const Execution& execution) {
  constexpr std::size_t group = Coordinates::group;
  const std::size_t n = which.size(), groups = (n + group - 1) / group;
  std::vector<CoordinateErrors> errors(n);
  const auto workers = static_cast<std::size_t>(thread_count(groups, execution.threads));
  std::vector<double> scratch(workers * coordinates.scratch_size());
  parallel_for(groups, execution, [&](std::size_t index, int worker) {
    const std::size_t first = index * group, count = std::min(group, n - first);
    const cfloat* channels[group] = {};
    double norms[group] = {};
    Coordinates::Query found[group];
    for (std::size_t i = 0; i < count; ++i) {
      channels[i] = queries.row(which[first + i]);
      norms[i] = facts[which[first + i]].norm;
    }
    coordinates.project(channels, norms, count, columns.plain(first), columns.per_query * columns.stride, found,
                        scratch.data() + static_cast<std::size_t>(worker) * coordinates.scratch_size());
    for (std::size_t i = 0; i < count; ++i) {
      columns.turn(first + i);
      const double scale = norms[i] / (Coordinates::length * Coordinates::length);
      const double rounding = found[i].rounding * norms[i];
      errors[first + i] = {{scale, rounding, found[i].lead_tail * norms[i], 0.0, true},
                           {scale, rounding, found[i].tail * norms[i], 0.0, true}};
    }
  });
  return errors;
}

/// The queries of a group that a block of entries is still of interest to.
struct Group {
  std::size_t n = 0;
  std::size_t query[group_columns];
  const std::int16_t* columns[group_columns];
  float* products[group_columns];
  const float* reals[group_columns];
  const ScreenBounds* bounds[group_columns];
  unsigned wanted[group_columns];

  void add(std::size_t index, const std::int16_t* column, std::size_t stride, float* product, std::size_t per_query) {
    for (std::size_t part = 0; part < per_query; ++part) {
      columns[n * per_query + part] = column + part * stride;
      products[n * per_query + part] = product + part * block_rows;
    }
    reals[n] = product, query[n++] = index;
  }
};

}  // namespace

std::vector<Shortlist> Dictionary::Entries::search_coordinates(View<const cfloat, 3> queries,
                                                               const std::vector<QueryFacts>& facts,
                                                               const std::vector<std::size_t>& which,
                                                               Similarity similarity, std::size_t k,
                                                               const Execution& execution) const {
  const std::size_t n = which.size(), levels = coordinates.levels(), lead = coordinates.lead();
  QueryColumns<std::int16_t> columns(n, levels / 2, similarity);
  const auto errors = project(coordinates, queries, facts, which, columns, execution);
  const std::size_t per_query = columns.per_query, together = group_columns / per_query;
  const auto multiply = [&](std::size_t index, std::size_t from, std::size_t to, Group& group, const float* tails,
                            unsigned present) {
    kernels().pair_products({coordinates.block(index) + from * block_rows, to - from, group.columns, group.products,
                             group.n * per_query, from > 0});
    kernels().screen({coordinates.norms(index), coordinates.inverse_norms(index), tails, group.reals, group.bounds,
                      group.n, per_query == 2, group.wanted});
    for (std::size_t i = 0; i < group.n; ++i) group.wanted[i] &= present;
  };
  return sweep(n, k, sizeof(std::int16_t) * lead * block_rows, execution, [&](std::size_t index, SearchWorker& worker) {
    const std::size_t begin = index * block_rows;
    const EntryBlock block{nullptr, energies.data() + begin, norms.data() + begin};
    const unsigned present = first_bits(std::min(block_rows, count - begin));
    worker.bounds.resize(n);
    for (std::size_t first = 0; first < n; first += together) {
      Group all, left;
      for (std::size_t i = first; i < std::min(n, first + together); ++i) {
        if (worker.shortlists[i].given_up) continue;
        SearchWorker::Bounds& bounds = worker.bounds[i];
        const double limit = worker.shortlists[i].limit(k);
        if (limit != bounds.limit) {
          const Screener screener(similarity, k, facts[which[i]].norm);
          bounds = {screener.bounds(errors[i].lead, coordinates.reference(), limit),
                    screener.bounds(errors[i].all, coordinates.reference(), limit), limit};
        }
        all.bounds[all.n] = lead < levels ? &bounds.lead : &bounds.all;
        all.add(i, columns.of(i), columns.stride, worker.products.data() + all.n * per_query * block_rows, per_query);
      }
      multiply(index, 0, lead, all, lead < levels ? coordinates.lead_tails(index) : coordinates.tails(index), present);
      for (std::size_t i = 0; i < all.n; ++i) {
        if (all.wanted[i] == 0) continue;
        left.wanted[left.n] = all.wanted[i], left.bounds[left.n] = &worker.bounds[all.query[i]].all;
        left.add(all.query[i], all.columns[i * per_query] + lead, columns.stride, all.products[i * per_query],
                 per_query);
      }
      if (lead < levels && left.n > 0) multiply(index, lead, levels, left, coordinates.tails(index), present);
      for (std::size_t i = 0; i < left.n; ++i) {
        if (left.wanted[i] == 0) continue;
        const std::size_t query = left.query[i];
        Shortlist& shortlist = worker.shortlists[query];
        const Screener screener(similarity, k, facts[which[query]].norm);
        screener.list(left.wanted[i], left.reals[i], errors[query].all, block, coordinates.tails(index), begin,
                      shortlist);
        shortlist.give_up_beyond(k, most_candidates(k));
      }
    }
  });
}

}  // namespace wavefix
