// SPDX-License-Identifier: Apache-2.0
// Refinement: damped Gauss-Newton on the coherent cost ||H - f(x)||^2, and the bound that it can reach.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "wavefix/channel_model.hpp"
#include "wavefix/parallel.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

struct RefineOptions {
  int max_iterations = 40;        ///< Gauss-Newton steps tried, accepted or not.
  double initial_damping = 1e-3;  ///< Levenberg-Marquardt damping relative to the diagonal of J^H J.
  double max_step = 0.25;         ///< Longest step, in wavelengths: half the distance between two minima.
  double tolerance = 1e-6;        ///< Converged once a step is shorter, in wavelengths.
};

struct Refinement {
  std::array<double, 3> position{};
  double cost = 0.0;                    ///< ||H - f(position)||^2
  std::array<double, 9> information{};  ///< Re(J^H J) in the scene's axes, row by row, m^-2
  int iterations = 0;
  bool converged = false;
};

/// One channel model with the scratch of one thread; refine() and evaluate() do not allocate.
class WAVEFIX_API Refiner {
 public:
  Refiner(const ChannelModel& model, const RefineOptions& options);
  Refiner(Refiner&&) noexcept;
  ~Refiner();

  /// From `start`, within the affine hull of the model's region through `start`; docs/equations.md, (6).
  /// `channel` [n_antennas * n_subcarriers] must be finite.
  Refinement refine(const cfloat* channel, const double* start);
  /// Cost and information at `position`, no step taken.
  Refinement evaluate(const cfloat* channel, const double* position);
  /// ||H - f(position)||^2 alone, cheaper than evaluate().
  double cost(const cfloat* channel, const double* position);
  /// The part of ||H - f(position)||^2 that is not white, docs/equations.md, (11).
  double structured_cost(const cfloat* channel, const double* position);
  /// Covariance [3, 3] of Re(J^H e), m^-2, for an error e of the model of this energy, shared out over the gains of the
  /// paths at `position`, or groups of like ones, in proportion to their energy; docs/equations.md, (21).
  std::array<double, 9> error_information(const double* position, double error_energy);

 private:
  struct Scratch;
  std::unique_ptr<Scratch> scratch_;
};

/// Refines channels [n, n_antennas, n_subcarriers] from `starts` [n, 3] into positions [n, 3], costs [n] and
/// iterations [n] (negative where it did not converge). Rows that are not finite give NaN and -1.
WAVEFIX_API void refine(const ChannelModel& model, View<const cfloat, 3> channels, View<const double, 2> starts,
                        const RefineOptions& options, View<double, 2> positions, View<double, 1> costs,
                        View<int, 1> iterations, const Execution& execution = {});

/// Covariance [3, 3] of a position for the noise variance of one complex entry, docs/equations.md (7), from
/// Re(J^H J), and for an error of the model, (21): zero across the affine hull of the region, NaN where the channel
/// does not determine the position.
WAVEFIX_API std::array<double, 9> covariance(const std::array<double, 9>& information, const Region& region,
                                             double noise_variance,
                                             const std::array<double, 9>& error_information = {});

/// Position error bound sqrt(tr F^-1) [n] in meters, (7), at the signal-to-noise ratio of each channel.
WAVEFIX_API void position_error_bound(const ChannelModel& model, View<const double, 2> positions, double snr_db,
                                      View<double, 1> bounds, const Execution& execution = {});

}  // namespace wavefix
