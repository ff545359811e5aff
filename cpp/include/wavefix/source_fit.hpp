// SPDX-License-Identifier: Apache-2.0
// The heavy sums of fitting virtual sources to channels, docs/equations.md (1), (3) and (18).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "wavefix/parallel.hpp"

namespace wavefix {

/// Where channels were measured and with what. Offsets are those of the antennas used, from the array's reference.
struct Measurement {
  View<const double, 2> positions;    ///< [n, 3] m
  View<const double, 2> offsets;      ///< [A, 3] m
  View<const double, 1> frequencies;  ///< [K] Hz, absolute
};

/// Virtual sources: antenna j has its source at position + rotation * offset_j.
struct SourceGeometry {
  View<const double, 2> positions;  ///< [L, 3] m
  View<const double, 3> rotations;  ///< [L, 3, 3]
};

/// Gains and gates (3) of sources, beside their geometry; laid out as in a model file.
struct SourceGains {
  View<const double, 3> variables;               ///< [L, 2, 4]
  View<const cdouble, 2> coefficients;           ///< [L, M], m
  View<const double, 2> gate_lines;              ///< [E, 6], scaled to logits
  View<const std::int32_t, 1> gate_line_cell;    ///< [E]
  View<const std::int32_t, 1> gate_cell_source;  ///< [C]; a source without cells is visible everywhere
};

/// A tree of half-spaces: its lines, and of each lit leaf the lines on the way to it, counted from 1, negative where it
/// lies below. One leaf without lines: visible everywhere.
struct SourceGate {
  std::vector<std::array<double, 6>> lines;
  std::vector<std::vector<int>> leaves;
};

struct GateOptions {
  double least_gain = 0.0;     ///< What an edge must explain, in the units of the cost.
  std::size_t most_lines = 8;  ///< Of one source.
  double number_worth = 0.0;   ///< What each number of a line must explain, in lit samples of mean weight.
};

/// basis[n, A, L, M]: gate times monomial over distance; amplitudes[n, A, L]: its sum with the coefficients. Either may
/// be null.
WAVEFIX_API void source_terms(const Measurement& measurement, const SourceGeometry& sources, const SourceGains& gains,
                              View<float, 4> basis, View<cfloat, 3> amplitudes, const Execution& execution = {});

/// The gate that comes nearest to `wanted` [n, A] in the sense of least squares with `weight` [n, A], grown from
/// `start`, docs/equations.md (19).
WAVEFIX_API SourceGate source_grow_gate(const Measurement& measurement, View<const double, 1> position,
                                        View<const double, 2> rotation, const SourceGate& start,
                                        View<const float, 2> wanted, View<const float, 2> weight,
                                        const GateOptions& options, const Execution& execution = {});

/// channels[n, j, k] += sum_l amplitudes[n, j, l] e^(-j 2 pi f_k d_lj / c), in place.
WAVEFIX_API void source_accumulate(const Measurement& measurement, const SourceGeometry& sources,
                                   View<const cfloat, 3> amplitudes, View<cfloat, 3> channels,
                                   const Execution& execution = {});

/// out[l, n, j] = sum_k e^(+j 2 pi f_k d_lj / c) channels[n, j, k].
WAVEFIX_API void source_project(const Measurement& measurement, const SourceGeometry& sources,
                                View<const cfloat, 3> channels, View<cfloat, 3> out, const Execution& execution = {});

/// out[i] = |sum_n values[n] e^(+j k_r |x_n - candidates_i|)|^2.
WAVEFIX_API void source_scores(View<const double, 2> positions, View<const cfloat, 1> values,
                               View<const double, 2> candidates, double frequency, View<double, 1> out,
                               const Execution& execution = {});

/// The normal equations (18) of all sources at once, for the residual's squared norm. Source l has 2 terms[l] + 6
/// unknowns: real parts and imaginary parts of the coefficients of the first `terms[l]` of its basis, its position, its
/// rotation vector. A step of the position turns the coefficients back by the phase that it adds at `middle`.
/// basis [n, A, L, M] holds gate times monomial over distance, amplitudes [n, A, L] its sum with the coefficients;
/// `matrix` [P, P] (lower triangle and diagonal) and `gradient` [P] are overwritten.
WAVEFIX_API void source_normal_equations(const Measurement& measurement, const SourceGeometry& sources,
                                         View<const float, 4> basis, View<const std::int32_t, 1> terms,
                                         View<const cfloat, 3> amplitudes, View<const cfloat, 3> residual,
                                         View<const double, 1> middle, double reference_frequency,
                                         View<double, 2> matrix, View<double, 1> gradient,
                                         const Execution& execution = {});

/// Sources that a refinement moves, in place; what it leaves alone is in `gains`, whose coefficients it does not look
/// at.
struct MovingSources {
  View<double, 2> positions;          ///< [L, 3] m
  View<double, 3> rotations;          ///< [L, 3, 3]
  View<cdouble, 2> coefficients;      ///< [L, M], m
  View<const std::int32_t, 1> terms;  ///< [L]: coefficients of each that are unknowns
  SourceGains gains;
};

struct SourceRefineOptions {
  std::size_t iterations = 10;
  double damping = 1e-3;
  double least_gain = 1e-3;  ///< Relative; a step that lowers the energy by less is the last one.
  double seconds = 1e300;    ///< No step begins later, but for the first.
};

/// Levenberg-Marquardt (18) on all unknowns of all sources; returns the energy that they leave of `channels` [n, A, K].
/// Each location and antenna keeps the gates that it has where the sources begin, also when these move.
/// `factors` [n, A], empty for ones: what each location's channels were multiplied by, at each antenna. Positions are
/// told from `middle`.
WAVEFIX_API double source_refine(const Measurement& measurement, View<const cfloat, 3> channels,
                                 View<const double, 2> factors, View<const double, 1> middle,
                                 double reference_frequency, const MovingSources& sources,
                                 const SourceRefineOptions& options, const Execution& execution = {});

}  // namespace wavefix
