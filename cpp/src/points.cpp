// SPDX-License-Identifier: Apache-2.0
#include "points.hpp"

namespace wavefix {

bool within(const Region& region, const Point& point, double margin) {
  for (std::size_t d = 0; d < region.dimension(); ++d) {
    double y = 0.0;
    for (std::size_t c = 0; c < 3; ++c) y += (point[c] - region.origin[c]) * region.basis[3 * d + c];
    if (!(y >= region.lower[d] - margin && y <= region.upper[d] + margin)) return false;
  }
  return true;
}

void points_around(const Region& region, const Point& position, double radius, std::vector<Point>& points) {
  points.clear();
  const int all = region.dimension() == 1 ? 3 : region.dimension() == 2 ? 9 : 27;
  for (int code = 0; code < all; ++code) {
    double step[3] = {}, square = 0.0;
    for (std::size_t d = 0, rest = static_cast<std::size_t>(code); d < region.dimension(); ++d, rest /= 3) {
      const double sign = static_cast<double>(rest % 3) - 1.0;
      square += sign * sign;
      for (std::size_t c = 0; c < 3; ++c) step[c] += sign * region.basis[3 * d + c];
    }
    if (square == 0.0) continue;
    Point point = position;
    for (std::size_t c = 0; c < 3; ++c) point[c] += radius / std::sqrt(square) * step[c];
    points.push_back(point);
  }
}

}  // namespace wavefix
