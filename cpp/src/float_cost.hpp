// SPDX-License-Identifier: Apache-2.0
// The gain-free cost of the float solution, docs/equations.md (13): every path keeps its shape over antennas and
// subcarriers and has a free complex gain.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <array>
#include <vector>

#include "path_pairs.hpp"
#include "points.hpp"
#include "wavefix/channel_model.hpp"

namespace wavefix {

using ComplexMatrix = Eigen::Matrix<cdouble, Eigen::Dynamic, Eigen::Dynamic>;
using ComplexVector = Eigen::Matrix<cdouble, Eigen::Dynamic, 1>;
/// Up to three unknowns, kept on the stack.
using SmallMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, 3, 3>;
using SmallVector = Eigen::Matrix<double, Eigen::Dynamic, 1, Eigen::ColMajor, 3, 1>;

/// One query as the float and fix steps see it.
struct Query {
  const cfloat* channel = nullptr;  // as the caller gave it; profile and energy are those of `scale` times it
  double scale = 1.0;               // a power of two that makes the entries about 1: float32 sums stay in range
  double energy = 0.0;              // ||scale H||^2
  double ridge = 0.0;               // of a gain, for noise as strong as the query
  std::vector<cfloat> scaled;       // scale H
  std::vector<float> profile;       // [A, nodes, 2]

  /// A cost in the caller's units, ||H - f||^2, in those of `energy`.
  double to_scale(double cost) const { return cost * scale * scale; }
  double to_caller(double cost) const { return cost / (scale * scale); }
};

/// gram(l, m) = b_l^H b_m of the paths over the antenna groups [first, last).
void path_gram(const Paths& paths, std::size_t first, std::size_t last, PathPairs& pairs, ComplexMatrix& gram);

struct FloatPoint {
  std::array<double, 3> position{};
  double explained = 0.0;  // the energy of H that the span of the paths holds (scaled amplitudes do not matter)
  SmallMatrix normal;      // (14)
  SmallVector gradient;
  std::array<double, 48> directions{};  // [paths, 3] of the strongest ones
  std::size_t paths = 0;
  std::size_t present = 0;  // paths with a gain of their own
  bool confirmed = false;
  bool at_edge = false;   // the descent met the edge of a gate
  double steepest = 0.0;  // the largest rate, in radians a meter, at which the antennas of a path lose step
};

/// Variable projection with the scratch of one thread.
class FloatCost {
 public:
  explicit FloatCost(const PathPlan& plan);
  /// explained, normal and gradient at `position`, in the region's axes.
  void linearize(const Query& query, const double* position, FloatPoint& point);
  struct Limits {
    int iterations;
    double longest, shortest;  // step, m
    double margin;             // m outside the region
    double variance;           // of a direction, beside the noise: gains below half of both are not worth a step
  };
  /// Replaces what the tables say a point explains, which is off by some thousandths of the query, and by more where
  /// paths are hard to tell apart, by what its gains do explain: ||H||^2 - ||H - sum g_l psi_l||^2 without tables.
  void confirm(const Query& query, FloatPoint& point);
  /// Levenberg-Marquardt from point.position. Where an edge of a gate ends it, it goes on from the best point around.
  void descend(const Query& query, const Limits& limits, FloatPoint& point);

 private:
  bool settle(const Query& query, const Limits& limits, FloatPoint& point);
  bool step_over(const Query& query, const Limits& limits, FloatPoint& point);
  void take_slopes(const double* position);
  void add_pairs();
  void project(FloatPoint& point);

  const PathPlan& plan_;
  std::size_t dimension_, vectors_;
  PathSampler sampler_;
  Paths paths_;
  PathPairs pairs_;
  std::vector<float> relative_, later_;  // slopes along one axis
  std::vector<float> real_, imag_;       // [paths, 1 + d, A]: shapes and their slopes
  std::vector<float> delay_slope_;       // [paths, d, groups]
  std::vector<double> turns_, phasors_;  // [paths], [2, paths]
  std::vector<Point> around_;
  ComplexMatrix gram_, slope_gram_[3], slope_pairs_[9];
  ComplexVector products_, gains_, slope_products_[3], spread_[3], solved_;
  double steepest_ = 0.0, ridge_ = 0.0;
};

}  // namespace wavefix
