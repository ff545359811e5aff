// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "wavefix/channel_model.hpp"

namespace wavefix {

using Point = std::array<double, 3>;

inline double distance(const Point& a, const Point& b) { return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]); }

/// Whether a point lies in the region, or at most `margin` meters outside along each axis. False where it is no number.
bool within(const Region& region, const Point& point, double margin);

/// Points in all directions from a position, along the region's axes and between them.
void points_around(const Region& region, const Point& position, double radius, std::vector<Point>& points);

}  // namespace wavefix
