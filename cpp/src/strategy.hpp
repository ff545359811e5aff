// SPDX-License-Identifier: Apache-2.0
// What a localizer's strategies share: from channels to minima of the coherent cost.
#pragma once

#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <optional>

#include "points.hpp"
#include "wavefix/localizer.hpp"

namespace wavefix {

inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// What a strategy found for one query.
struct Minima {
  Refinement best;
  std::optional<Refinement> runner_up;  // the best minimum more than a quarter wavelength away
  Point float_position{not_a_number, not_a_number, not_a_number};
  double grid_variance = 0.0;  // of a position that was not refined
};

class Strategy {
 public:
  Strategy() = default;
  Strategy(const Strategy&) = delete;
  Strategy& operator=(const Strategy&) = delete;
  virtual ~Strategy() = default;

  /// Called once for each row, from any thread; null for a channel that is zero or not finite.
  using Report = std::function<void(std::size_t row, Refiner& refiner, const Minima* minima)>;
  virtual void locate(View<const cfloat, 3> channels, const Execution& execution, const Report& report) const = 0;
  virtual std::size_t bytes(std::size_t n_queries) const = 0;
};

void require_option(bool holds, const char* option, const char* expected);

/// The paper's strategies; ShapeError names the known ones.
std::unique_ptr<Strategy> make_paper_strategy(const ChannelModel& model, const LocalizerOptions& options);
std::unique_ptr<Strategy> make_float_fix(const ChannelModel& model, const LocalizerOptions& options);

}  // namespace wavefix
