// SPDX-License-Identifier: Apache-2.0
// What float_fix derives from a model before the first query.
#pragma once

#include <memory>

#include "coarse_map.hpp"
#include "path_sampler.hpp"
#include "wavefix/localizer.hpp"

namespace wavefix {

struct FloatFixPlan {
  ChannelModel model;  // keeps the implementation that `paths` points to alive
  PathPlan paths;
  std::unique_ptr<CoarseMap> map;
  double pitch = 0.0;  // m, of the candidates
};

std::unique_ptr<FloatFixPlan> make_float_fix_plan(const ChannelModel& model, const LocalizerOptions& options);

}  // namespace wavefix
