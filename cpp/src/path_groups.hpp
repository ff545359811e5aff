// SPDX-License-Identifier: Apache-2.0
// Paths whose waves over array and band are nearly alike, docs/equations.md (21): a fit knows their sum, and not each.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <vector>

#include "wavefix/channel_model.hpp"

namespace wavefix {

class PathGroups {
 public:
  PathGroups(std::size_t capacity, std::size_t antennas, const std::vector<double>& frequencies);

  /// Parts paths of amplitudes [count, antennas] at the center frequency into groups: each, from the strongest to the
  /// weakest, joins the one whose first path it correlates with most, or begins one. `delays` [count]: means over the
  /// antennas, s.
  void assign(std::size_t count, const float* real, const float* imag, const double* delays);

  std::size_t count() const { return leaders_.size(); }
  /// Which group each path is in.
  std::size_t of(std::size_t path) const { return group_[path]; }
  /// b_l^H b_m over the band, divided by the number of subcarriers.
  cdouble product(std::size_t l, std::size_t m) const {
    const auto row = static_cast<Eigen::Index>(l), column = static_cast<Eigen::Index>(m);
    return row >= column ? products_(row, column) : std::conj(products_(column, row));
  }

 private:
  std::size_t antennas_;
  double spacing_, subcarriers_;  // of the subcarriers: Hz, and how many
  Eigen::MatrixXcd waves_;        // [antennas, paths]
  Eigen::MatrixXcd products_;     // its lower half
  std::vector<double> energies_;
  std::vector<std::size_t> order_, group_, leaders_;
};

}  // namespace wavefix
