// SPDX-License-Identifier: Apache-2.0
// The queries of a search in the coordinates of its entries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coordinates.hpp"
#include "dictionary_entries.hpp"
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
  std::vector<Errors> errors;
  std::vector<ScreenBounds> score_bounds;

 private:
  void fill(const Coordinates& coordinates, std::size_t index, const double* values);
};

}  // namespace wavefix
