// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>

#include "wavefix/dictionary.hpp"
#include "wavefix/error.hpp"

namespace wavefix {

Grid Grid::over(const Region& region, double spacing) {
  if (!(spacing > 0.0) || !std::isfinite(spacing)) {
    throw_shape("spacing", "a positive number of meters", std::to_string(spacing));
  }
  Grid grid;
  grid.origin = region.origin;
  grid.basis = region.basis;
  grid.spacing = spacing;
  double total = 1.0;
  for (std::size_t axis = 0; axis < region.dimension(); ++axis) {
    const double extent = region.upper[axis] - region.lower[axis];
    const double count = std::floor(extent / spacing + 1e-9) + 1.0;
    total *= count;
    if (total > 1099511627776.0) throw_shape("spacing", "a grid of at most 2^40 points", "a finer one");
    grid.counts.push_back(static_cast<std::size_t>(count));
    grid.lower.push_back(region.lower[axis] + (extent - (count - 1.0) * spacing) / 2.0);
  }
  return grid;
}

std::size_t Grid::size() const {
  std::size_t total = 1;
  for (const std::size_t count : counts) total *= count;
  return total;
}

void Grid::position(std::size_t index, double* xyz) const {
  std::copy(origin.begin(), origin.end(), xyz);
  for (std::size_t axis = counts.size(); axis-- > 0;) {  // the last axis runs fastest
    const double y = lower[axis] + spacing * static_cast<double>(index % counts[axis]);
    index /= counts[axis];
    for (std::size_t c = 0; c < 3; ++c) xyz[c] += y * basis[3 * axis + c];
  }
}

}  // namespace wavefix
