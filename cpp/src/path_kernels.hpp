// SPDX-License-Identifier: Apache-2.0
// What the inner loops of the float and fix steps work on. Like kernels.hpp, free of Eigen and the standard library.
#pragma once

#include <cstddef>

namespace wavefix {

inline constexpr std::size_t most_paths = 96;    ///< in the steps before the last
inline constexpr std::size_t group_lanes = 8;    ///< groups of antennas side by side in a vector of pair_sums
inline constexpr std::size_t overlap_width = 8;  ///< floats of an entry of PathPair::overlaps

/// Costs of points in one cell of Envelopes: coefficients at three nodes in a row, each [2 capacity] envelopes,
/// [capacity] energies and pairs (l < m) from 3 capacity + m (m - 1) + 2 l.
struct EnvelopeCell {
  const float* nodes;
  std::size_t node_stride, slots, capacity;
  const float *carrier_re, *carrier_im;  // [slots, lanes], carrier_stride apart
  std::size_t carrier_stride;
  float* cost;  // [lanes], added to
  std::size_t lanes;
  float first, step;  // of the lanes' coordinate, in nodes from the middle one
};

/// e^(j 2 pi (turns + rate t + bend t^2)) at t = first + step i, written to whole blocks of carrier_lanes.
struct Carrier {
  double turns, rate, bend, first, step;
  std::size_t count;
  float *real, *imag;
};
inline constexpr std::size_t carrier_lanes = 16;

/// The sum over antennas of conj(a_j) z_j(delay_j), z tabulated at `nodes` points and interpolated by cubics.
struct PathProduct {
  const float *real, *imag, *delay;  // [antennas], delay in nodes
  const float* profile;              // [antennas, nodes, 2]
  std::size_t antennas, nodes;
};

/// The same with slopes: [1 + d] vectors of conj(a_j) z_j and of conj(a'_j) z_j + conj(a_j) delay'_j z'_j.
struct PathSlopes {
  PathProduct path;            // real, imag: [1 + d, antennas]
  const float* later;          // [d, groups], delay' of each group of antennas
  std::size_t vectors, group;  // 1 + d; antennas in a group
};

/// Where the mean delay of a group of antennas is looked up.
struct GroupTaps {
  float weight[4];
  int first;
};

/// What the paths at a point of the coarse map explain of a query: || T c ||^2, c as in PathProduct but with the delay
/// of each group of antennas for all in it.
struct MapPoint {
  std::size_t count;         // paths, at most most_paths
  const float *real, *imag;  // [count], antenna_stride apart, from the first antenna on
  const GroupTaps* taps;     // [count], tap_stride apart, from the first group on
  std::size_t antenna_stride, tap_stride, antennas, group;
  const float* profile;  // [antennas, nodes, 2]
  std::size_t nodes;
  const float* whitener;  // T by four rows: columns up to the diagonal's, each 4 real and 4 imaginary parts
};

/// Sums over antennas and subcarriers of shapes and slopes of two paths; groups of antennas are the lanes.
struct PathPair {
  struct One {
    const float *real, *imag;  // [vectors, group, lanes]: shapes and their slopes, zero where there is no antenna
    const float* delay;        // [lanes], in nodes
    const float* later;        // [vectors - 1, lanes], its slopes
  };
  One l, m;
  std::size_t vectors, group, lanes, groups;  // lanes is a multiple of group_lanes, of which `groups` are used
  const float* overlaps;  // [shifts, overlap_width]: sum over subcarriers, its slope and its bend, (re, im) each
  std::size_t shifts;
  float middle;  // entry of no shift
};

/// Sums over the parts of the entries of a channel, in float64, of its Jacobian by three axes and the difference to
/// what was measured.
struct NormalSums {
  const float *measured, *channel, *jacobian;  // [parts], [parts], [3, parts]
  std::size_t parts;                           // real and imaginary ones
};
inline constexpr std::size_t normal_sums =
    10;  // Jacobian by Jacobian (upper triangle), by difference; difference squared

}  // namespace wavefix
