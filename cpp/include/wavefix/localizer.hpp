// SPDX-License-Identifier: Apache-2.0
// From channels to position fixes: float and fix, or the strategies of arXiv 2506.06387. Plan once, locate often.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "wavefix/channel_model.hpp"
#include "wavefix/dictionary.hpp"
#include "wavefix/parallel.hpp"
#include "wavefix/refine.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

/// One value a query, on every code path.
enum class Status : std::uint8_t {
  ok = 0,
  ambiguous = 1,  ///< Another minimum, more than a quarter wavelength away, fits as well within noise and model error;
                  ///< or the channel does not determine the position: the covariance is NaN.
  poor_fit = 2,   ///< What the model leaves of the channel is neither noise nor its usual error.
  outside_region = 3,  ///< The fix left the region that the model was fitted in.
  invalid_input = 4,   ///< The channel is zero or not finite; the position is NaN.
};

struct LocalizerOptions {
  /// float_fix; or on_grid_naive, on_grid_pi_ps, off_grid_naive or off_grid_pi_ps, each also with the suffix _circles.
  std::string strategy = "float_fix";

  // float_fix, docs/equations.md (13) to (16); a length of 0 is derived from the model.
  double coarse_spacing = 0.0;     ///< m, of the grid of the gain-free search.
  int coarse_starts = 4;           ///< Points of that grid that are refined with free gains.
  double candidate_spacing = 0.0;  ///< m, of the candidates; an eighth of a wavelength.
  double candidate_radius = 0.0;   ///< m, least half-width of the box of candidates; 1.5 wavelengths, 4 at edges.
  int max_candidates = 40000;      ///< In one box, which is cut; ten times as many in a volume, or for a suspect fix.
  int minima = 64;                 ///< Local minima among them that are refined on the interpolated cost.
  int finalists = 4;               ///< Of those, how many are refined with the exact model.

  // The paper's strategies.
  double grid_spacing = 0.125;    ///< (a) of the global grid, wavelengths.
  int starts = 24;                ///< Points that each step hands on to the next; 1 in the paper.
  double local_radius = 0.25;     ///< (b) half-width of the local grid, wavelengths.
  double local_spacing = 0.125;   ///< (b) of the local grid, wavelengths.
  int circles = 3;                ///< (d) circles of radius 1, 2, ... wavelengths.
  double circle_spacing = 0.125;  ///< (d) of the points along a circle, wavelengths.

  // All strategies.
  double poor_fit_factor = 4.0;      ///< Structured residual over validation error that makes a fix poor_fit, (11).
  double ambiguity_threshold = 0.5;  ///< Above this ambiguity, (12), a fix is ambiguous.
  double region_margin = 1.0;        ///< How far outside the region a fix may be, wavelengths.
  std::size_t memory_limit = Dictionary::default_memory_limit;  ///< Bytes of the search, see Dictionary.
  RefineOptions refine;                                         ///< (c), (e)
};

/// Where locate() writes, one row a query: memory that nothing else of the call reads or writes.
struct Fixes {
  View<double, 2> position;      ///< [n, 3] meters
  View<double, 3> covariance;    ///< [n, 3, 3] square meters, (21): of noise and of the model's error
  View<std::uint8_t, 1> status;  ///< [n] Status
  View<double, 1> residual;      ///< [n] ||H - f(x)||^2 / ||H||^2
  View<double, 1> ambiguity;     ///< [n] (12): 0 for a unique fix, 1 for an equal runner-up; NaN without runner-up
  View<double, 2> float_position = {};  ///< [n, 3] meters or null: the position with free gains, NaN if there is none
};

/// Safe to share between threads: locate() is const and keeps its scratch to itself.
class WAVEFIX_API Localizer {
 public:
  /// Planning takes seconds for a large model, on one thread; the interrupt of `planning` stops it.
  explicit Localizer(const ChannelModel& model, const LocalizerOptions& options = {}, const Execution& planning = {});

  /// Channels [n, n_antennas, n_subcarriers] to fixes; results do not depend on the batch or on threads.
  void locate(View<const cfloat, 3> channels, const Fixes& fixes, const Execution& execution = {}) const;

  const LocalizerOptions& options() const;
  /// Bytes of model and plan, and of the generated tiles at their largest.
  std::size_t bytes(std::size_t n_queries) const;

 private:
  struct Plan;
  std::shared_ptr<const Plan> plan_;
};

}  // namespace wavefix
