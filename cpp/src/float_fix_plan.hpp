// SPDX-License-Identifier: Apache-2.0
// What float_fix derives from a model before the first query.
#pragma once

#include <algorithm>
#include <memory>

#include "coarse_map.hpp"
#include "path_sampler.hpp"
#include "wavefix/localizer.hpp"

namespace wavefix {

struct FloatFixPlan {
  ChannelModel model;  // keeps the implementation that `paths` points to alive
  PathPlan paths;
  std::unique_ptr<CoarseMap> map;
  double pitch = 0.0;         // m, of the candidates
  double node_spacing = 0.0;  // m, at which gains are still interpolated well

  /// Paths whose gains a float solution is free to choose.
  double unknowns() const { return static_cast<double>(std::min(paths.capacity, model.n_atoms())); }
  /// Noise variance of an entry that a float solution leaves.
  double noise_variance(const Query& query, const FloatPoint& point) const {
    const double size = static_cast<double>(model.n_antennas() * model.n_subcarriers());
    return std::max(query.energy - point.explained, 0.0) / std::max(size - unknowns(), 1.0);
  }
  /// What the model's error may add to the variance along one direction.
  double model_variance(const Query& query) const { return 0.25 * model.validation_nmse() * query.energy; }
};

std::unique_ptr<FloatFixPlan> make_float_fix_plan(const ChannelModel& model, const LocalizerOptions& options);

}  // namespace wavefix
