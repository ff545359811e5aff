// SPDX-License-Identifier: Apache-2.0
// What the inner loops of the spherical kind work on: blocks of antennas, one a lane, so that nothing is shuffled
// before the result is written. Like kernels.hpp, free of Eigen and the standard library.
#pragma once

#include <cstddef>

namespace wavefix {

inline constexpr std::size_t source_lanes = 16;    ///< antennas in a block
inline constexpr std::size_t source_sets = 7;      ///< amplitudes of a source: channel; per axis, two of the derivative
inline constexpr std::size_t source_chunk = 16;    ///< sources whose tables exist at a time: they stay in the L1 cache
inline constexpr std::size_t source_pairs = 8;     ///< subcarriers on either side of the middle of a row, at most
inline constexpr std::size_t source_segment = 64;  ///< subcarriers that are summed at a time, at most
inline constexpr std::size_t max_gain_degree = 10;
inline constexpr std::size_t max_gain_terms = (max_gain_degree + 1) * (max_gain_degree + 2) / 2;

/// How subcarriers are summed: segments of equal size, each of rows with as many pairs on either side of their middle.
struct SegmentShape {
  std::size_t rows, pairs;
};
/// Rows are at most 4 and pairs at most 8; subcarriers at any frequency are a row each, without pairs.
constexpr SegmentShape segment_shape(std::size_t subcarriers, bool equal) {
  const std::size_t segments = (subcarriers + source_segment - 1) / source_segment;
  const std::size_t segment = (subcarriers + segments - 1) / segments;
  if (!equal) return {segment, 0};
  const std::size_t rows = (segment + 2 * source_pairs - 1) / (2 * source_pairs);
  return {rows, (segment + 2 * rows - 1) / (2 * rows)};
}

/// A half-space of (3): the moment and the direction of an edge's line, scaled to a logit.
struct GateLine {
  double moment[3], direction[3];
};

/// One source seen from the antennas of a block; positions are relative to the origin of the gates.
struct SourceTrace {
  const double* at;  // [3, stride], s_lj from the block's first antenna on
  std::size_t stride;
  double position[3];
  const double* variables;    // [2, 4]
  const float* coefficients;  // [2, terms]
  std::size_t degree, terms;
  const GateLine* lines;
  const std::size_t* cells;  // [n_cells + 1], into lines
  std::size_t n_cells;
  double carrier_slope, band_slope;  // 2 pi f_r / c, 2 pi / c
  bool slopes;                       // fill all sets, not the first only
  double* distance;                  // out, [lanes]
  float* amplitudes;                 // out, [sets, 2, lanes]
};

/// The sum over the sources that a block sees.
struct SourceSum {
  std::size_t count;
  const double* distances;  // [count, lanes]
  const float* amplitudes;  // [count, source_sets, 2, lanes]
  std::size_t sets;         // 1 or source_sets
  std::size_t subcarriers;
  const double* wavenumbers;  // [K], f_k / c, turns a meter
  const float* offsets;       // [K], f_k - f_r
  bool equal;                 // f_k at equal steps
  double step;                // of the wavenumbers
  std::size_t rows, pairs;    // a segment is rows x 2 pairs subcarriers
  float* row_table;           // [chunk, rows, 2, lanes], or [chunk, segment, 2, lanes]
  float* pair_table;          // [count, pairs, 2, lanes]: half a step from the middle of a row, and whole ones on
  float* phasors;             // [count, 2, 2, lanes]: of the middle of the first row, of a step of one row
  float* sums;                // [2, segment, 2, lanes]
  std::size_t antennas;       // of the block; their rows are written
  float* channel;             // row of the block's first antenna, complex
  float* jacobian;            // the same, of the first axis
  std::size_t axis_stride;    // floats from one axis to the next
};

}  // namespace wavefix
