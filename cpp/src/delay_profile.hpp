// SPDX-License-Identifier: Apache-2.0
// Queries and pairs of paths as functions of delay, tabulated, so that a path costs one look-up an antenna and no sum
// over subcarriers.
#pragma once

#include <cstddef>
#include <vector>

#include "channel_model_kinds.hpp"
#include "packed_matrix.hpp"
#include "path_kernels.hpp"

namespace wavefix {

/// Four nodes around a coordinate: cubic Lagrange interpolation.
inline GroupTaps taps_at(float coordinate, std::size_t nodes) {
  const float highest = static_cast<float>(nodes) - 1.0f;
  const float at = coordinate > 0.0f ? (coordinate < highest ? coordinate : highest) : 0.0f;
  const auto floor = static_cast<std::size_t>(at);
  const std::size_t cell = floor < 1 ? 1 : (floor > nodes - 3 ? nodes - 3 : floor);
  const float s = at - static_cast<float>(cell), m = s - 1.0f, p = s + 1.0f, n = s - 2.0f;
  return {{-s * m * n / 6.0f, p * m * n * 0.5f, -p * s * n * 0.5f, p * s * m / 6.0f}, static_cast<int>(cell) - 1};
}

/// Delays that paths have over a region, and the tables over them.
class DelayProfile {
 public:
  /// Node spacing times bandwidth: cubic interpolation errs by 0.0234 (pi / 8)^4 = 6e-4 at the band's edges, 2e-4 rms.
  static constexpr double oversampling = 8.0;

  DelayProfile() = default;
  DelayProfile(const ModelCommon& common, double earliest, double latest);

  std::size_t nodes() const { return nodes_; }
  double step() const { return step_; }
  float coordinate(double delay) const { return static_cast<float>((delay - earliest_) * rate_); }

  double delay(float coordinate) const { return earliest_ + step_ * static_cast<double>(coordinate); }

  /// profile[A, nodes, 2]: z_j(tau) = sum_k H_jk e^(+j 2 pi (f_k - f_r) tau).
  void transform(const cfloat* channel, float* profile) const;

  /// [shifts, overlap_width]: the sum over subcarriers of e^(-j 2 pi (f_k - f_r) shift) and its first two derivatives
  /// by `shift`, which is in nodes, as are the derivatives; entry `no_shift` is that of no shift.
  const float* overlaps() const { return overlaps_.data(); }
  std::size_t shifts() const { return overlaps_.size() / overlap_width; }
  float no_shift() const { return static_cast<float>(nodes_ + 2); }

 private:
  std::size_t antennas_ = 0, nodes_ = 4;
  double earliest_ = 0.0, step_ = 1.0, rate_ = 1.0;
  PackedMatrix<float> transform_;
  std::vector<float> overlaps_;
};

}  // namespace wavefix
