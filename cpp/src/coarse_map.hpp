// SPDX-License-Identifier: Apache-2.0
// The gain-free cost on a grid of the region, planned once: the paths of every grid point are stored. A query looks at
// every few points with gains that are free in each block of antennas, which widens the basin, then at all points
// around the best of those with gains that the whole array shares.
#pragma once

#include <vector>

#include "float_cost.hpp"
#include "wavefix/dictionary.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {

class CoarseMap {
 public:
  struct Candidate {
    double explained = 0.0;
    std::size_t point = 0;
  };
  /// Memory of one thread.
  struct Scratch {
    std::vector<Candidate> coarse, fine;
    std::vector<std::uint32_t> visited;
    std::uint32_t stamp = 0;
  };

  /// `spacing` of the grid in meters; every `stride`-th point along each axis, with `blocks` of antenna groups, first.
  CoarseMap(const PathPlan& plan, double spacing, std::size_t stride, std::size_t blocks);

  Scratch make_scratch() const;
  /// Up to `count` grid points in scratch.fine, best first, no two of them within 1.5 spacings.
  void search(const PathPlan& plan, const Query& query, std::size_t count, Scratch& scratch) const;
  const Grid& grid() const { return grid_; }
  std::size_t bytes() const;

 private:
  struct Point {
    std::size_t count = 0, first_row = 0;  // paths, and where they are in the arrays over rows
    std::size_t whitener = 0, block_whiteners = 0;
    bool coarse = false;
  };

  double explained(const PathPlan& plan, const Query& query, const Point& point, std::size_t blocks,
                   std::size_t whitener) const;

  Grid grid_;
  std::size_t stride_, blocks_, groups_in_block_;
  std::vector<Point> points_;
  std::vector<std::size_t> coarse_points_;
  std::vector<float> real_, imag_;  // [rows, A]
  std::vector<GroupTaps> taps_;     // [rows, groups]
  std::vector<float> whiteners_;    // see MapPoint
};

}  // namespace wavefix
