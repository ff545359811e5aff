// SPDX-License-Identifier: Apache-2.0
// Queries and pairs of paths as functions of delay, tabulated, so that a path costs one look-up an antenna and no sum
// over subcarriers.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <vector>

#include "channel_model_kinds.hpp"
#include "packed_matrix.hpp"

namespace wavefix {

/// Weights of the four nodes around one coordinate: cubic Lagrange interpolation.
struct Taps {
  std::size_t first;
  float weight[4];
};

inline Taps taps_at(float coordinate, std::size_t nodes) {
  const float highest = static_cast<float>(nodes) - 1.0f;
  const float at = coordinate > 0.0f ? (coordinate < highest ? coordinate : highest) : 0.0f;
  const auto floor = static_cast<std::size_t>(at);
  const std::size_t cell = floor < 1 ? 1 : (floor > nodes - 3 ? nodes - 3 : floor);
  const float s = at - static_cast<float>(cell), m = s - 1.0f, p = s + 1.0f, n = s - 2.0f;
  return {cell - 1, {-s * m * n / 6.0f, p * m * n * 0.5f, -p * s * n * 0.5f, p * s * m / 6.0f}};
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
  float coordinate(double delay) const { return static_cast<float>((delay - earliest_) / step_); }

  double delay(float coordinate) const { return earliest_ + step_ * static_cast<double>(coordinate); }

  /// profile[A, nodes, 2]: z_j(tau) = sum_k H_jk e^(+j 2 pi (f_k - f_r) tau).
  void transform(const cfloat* channel, float* profile) const;

  /// The sum over subcarriers of e^(-j 2 pi (f_k - f_r) shift) and its first two derivatives by `shift`, which is in
  /// nodes, as are the derivatives.
  struct Overlap {
    std::complex<float> value, slope, bend;
  };
  Overlap overlap(float shift) const;

 private:
  std::size_t antennas_ = 0, nodes_ = 4;
  double earliest_ = 0.0, step_ = 1.0;
  PackedMatrix<float> transform_;
  std::vector<std::array<float, 6>> overlaps_;  // shifts from -(nodes - 1) to nodes - 1
};

}  // namespace wavefix
