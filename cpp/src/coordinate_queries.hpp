// SPDX-License-Identifier: Apache-2.0
// The queries of a search in the coordinates of its entries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coordinates.hpp"
#include "dictionary_entries.hpp"
#include "kernels.hpp"
#include "query_columns.hpp"
#include "screener.hpp"

namespace wavefix {

struct CoordinateQueries {
  /// Those of `queries` that `which` names.
  CoordinateQueries(const Coordinates& coordinates, View<const cfloat, 3> queries, const std::vector<QueryFacts>& facts,
                    const std::vector<std::size_t>& which, Similarity similarity, std::size_t k,
                    const Execution& execution);

  std::size_t size() const { return channels.size(); }

  struct Errors {  // of products with leading and with all coordinates
    ErrorBound lead, all;
  };
  std::vector<const cfloat*> channels;
  std::vector<double> norms;
  std::vector<Screener> screeners;
  QueryColumns<std::int16_t> columns;
  QueryColumns<std::int8_t> bytes;  // instead, where coordinates are bytes
  std::vector<int> starts;          // of sums of their products: [2, columns], with the leading ones and with all
  int start(std::size_t column, std::size_t all) const { return starts[all * starts.size() / 2 + column]; }
  std::vector<Errors> errors;
  std::vector<ScreenBounds> score_bounds;

 private:
  void fill(const Coordinates& coordinates, std::size_t index, const double* values);
  Coordinates::Query fill_bytes(const Coordinates& coordinates, std::size_t index);
};

/// The queries that a block of entries is multiplied with at a time.
struct QueryGroup {
  std::size_t n = 0, per_query = 0;
  std::size_t query[group_columns];
  const std::int16_t* columns[group_columns];
  const std::int8_t* bytes[group_columns];
  int starts[2][group_columns];  // with the leading coordinates, and with all
  float* products[group_columns];
  const float* reals[group_columns];
  const ScreenBounds* bounds[group_columns];
  unsigned wanted[group_columns];

  void clear() { n = 0; }
  void add(std::size_t index, const CoordinateQueries& from, float* scratch) {
    per_query = from.columns.per_query;
    for (std::size_t part = 0; part < per_query; ++part) {
      const std::size_t at = n * per_query + part;
      products[at] = scratch + at * block_rows;
      if (from.starts.empty()) {
        columns[at] = from.columns.of(index) + part * from.columns.stride;
      } else {
        bytes[at] = from.bytes.of(index) + part * from.bytes.stride;
        for (const std::size_t all : {0, 1}) starts[all][at] = from.start(index * per_query + part, all);
      }
    }
    reals[n] = products[n * per_query], query[n++] = index;
  }

  /// With the leading coordinates of a block, or with all.
  void multiply(const Coordinates& coordinates, std::size_t block, bool all) {
    if (coordinates.in_bytes()) {
      coordinates.multiply(block, all, bytes, starts[all ? 1 : 0], products, n * per_query);
    } else {
      coordinates.multiply(block, all, columns, products, n * per_query);
    }
  }

  void screen(const Coordinates& coordinates, std::size_t block) {
    multiply(coordinates, block, true);
    kernels().screen({coordinates.norms(block), coordinates.inverse_norms(block), coordinates.tails(block), reals,
                      bounds, n, per_query == 2, wanted});
  }
};

}  // namespace wavefix
