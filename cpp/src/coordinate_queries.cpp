// SPDX-License-Identifier: Apache-2.0
#include "coordinate_queries.hpp"

#include <algorithm>
#include <numeric>

#include "dictionary_sweep.hpp"

namespace wavefix {
namespace {

constexpr std::size_t least_group = 8;  // fewer would wait for the basis more than they multiply by it

/// [queries, levels] in float64. Threads share the queries, and the basis where these are too few.
std::vector<double> multiply(const Coordinates& coordinates, const std::vector<const cfloat*>& channels,
                             const Execution& execution) {
  const std::size_t n = channels.size(), slices = coordinates.slices(), levels = coordinates.levels();
  const std::size_t all = 2 * n * levels * coordinates.size();
  const auto threads =
      static_cast<std::size_t>(thread_count(std::min(n * slices, all / Shares::worthwhile), execution.threads));
  const std::size_t together = std::clamp((n + threads - 1) / threads, least_group, Coordinates::group);
  const std::size_t groups = (n + together - 1) / together;
  const std::size_t wanted = std::min(slices, threads / std::gcd(threads, groups));
  const std::size_t thickness = (slices + wanted - 1) / wanted, parts = (slices + thickness - 1) / thickness;
  const auto workers = static_cast<std::size_t>(thread_count(groups * parts, execution.threads));
  std::vector<double> values(n * levels), scratch(workers * coordinates.scratch_size());
  parallel_for(groups * parts, execution, [&](std::size_t item, int worker) {
    const std::size_t first = item / parts * together, slice = item % parts * thickness;
    coordinates.multiply_basis(channels.data() + first, std::min(together, n - first), slice,
                               std::min(thickness, slices - slice), values.data() + first * levels,
                               scratch.data() + static_cast<std::size_t>(worker) * coordinates.scratch_size());
  });
  return values;
}

}  // namespace

CoordinateQueries::CoordinateQueries(const Coordinates& coordinates, View<const cfloat, 3> queries,
                                     const std::vector<QueryFacts>& facts, const std::vector<std::size_t>& which,
                                     Similarity similarity, std::size_t k, const Execution& execution)
    : columns(coordinates.in_bytes() ? 0 : which.size(), coordinates.levels() / 2, similarity),
      bytes(coordinates.in_bytes() ? which.size() : 0, coordinates.levels() / 2, similarity),
      starts(coordinates.in_bytes() ? 2 * which.size() * bytes.per_query : 0),
      errors(which.size()),
      score_bounds(which.size()) {
  for (const std::size_t query : which) {
    channels.push_back(queries.row(query));
    norms.push_back(facts[query].norm);
    screeners.emplace_back(similarity, k, facts[query].norm);
  }
  std::vector<double> values;
  if (coordinates.rank() > 0) values = multiply(coordinates, channels, execution);
  const Shares shares(size(), 16 * coordinates.levels());
  parallel_for(shares.items, execution, [&](std::size_t item, int) {
    for (std::size_t i = shares.begin(item); i < shares.end(item); ++i) {
      fill(coordinates, i, values.empty() ? nullptr : values.data() + i * coordinates.levels());
    }
  });
}

Coordinates::Query CoordinateQueries::fill_bytes(const Coordinates& coordinates, std::size_t index) {
  const Coordinates::Query found = coordinates.project(channels[index], norms[index], bytes.plain(index));
  bytes.turn(index);
  for (std::size_t part = 0; part < bytes.per_query; ++part) {
    const std::int8_t* const column = bytes.of(index) + part * bytes.stride;
    const std::size_t at = index * bytes.per_query + part;
    const auto start = [column](std::size_t levels) {  // may overflow, as the sum that begins with it does
      return static_cast<int>(0u - 128u * static_cast<unsigned>(std::accumulate(column, column + levels, 0)));
    };
    starts[at] = start(coordinates.lead()), starts[starts.size() / 2 + at] = start(coordinates.levels());
  }
  return found;
}

void CoordinateQueries::fill(const Coordinates& coordinates, std::size_t index, const double* values) {
  const double norm = norms[index];
  Coordinates::Query found;
  if (coordinates.in_bytes()) {
    found = fill_bytes(coordinates, index);
  } else {
    found = coordinates.project(values, channels[index], norm, columns.plain(index));
    columns.turn(index);
  }
  const double scale = norm * found.unit, rounding = found.rounding * norm;
  errors[index] = {{scale, rounding, found.lead_tail * norm, 0.0, true},
                   {scale, rounding, found.tail * norm, 0.0, true}};
  const bool leads = coordinates.lead() < coordinates.levels();
  score_bounds[index] =
      screeners[index].score_bounds(leads ? errors[index].lead : errors[index].all, coordinates.reference());
}

}  // namespace wavefix
