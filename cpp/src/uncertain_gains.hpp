// SPDX-License-Identifier: Apache-2.0
// The cost of a position where the gains of paths, or groups of like ones, may be in error, docs/equations.md (23).
#pragma once

#include <Eigen/Core>
#include <memory>
#include <vector>

#include "float_cost.hpp"
#include "path_groups.hpp"
#include "path_sampler.hpp"

namespace wavefix {

class UncertainGains {
 public:
  UncertainGains(const ChannelModel& model, const PathPlan& plan);
  /// min over a of ||H - f - sum_l a_l psi_l||^2 + variance / spread^2 ||a||^2 at `position`, in the query's scale.
  double cost(const Query& query, const double* position, double variance);

 private:
  void group_paths();
  void add_antenna(const Query& query, std::size_t antenna);

  const ChannelModel& model_;
  const PathPlan& plan_;
  PathSampler sampler_;
  Paths paths_;
  std::unique_ptr<ChannelModel::Workspace> workspace_;
  std::vector<cfloat> channel_;
  std::vector<double> turns_;  // [3, K]: of one path, their real and imaginary parts
  PathGroups groups_;
  std::vector<double> delays_;  // [paths], means over the antennas, s
  Eigen::MatrixXd waves_;       // [2 K, groups], of one antenna
  Eigen::MatrixXd gram_;
  Eigen::VectorXd error_, products_, gains_;
  double unexplained_ = 0.0;
};

}  // namespace wavefix
