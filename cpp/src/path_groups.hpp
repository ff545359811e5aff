// SPDX-License-Identifier: Apache-2.0
// Paths whose waves over array and band are nearly alike, docs/equations.md (21): a fit knows their sum, and not each.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <vector>

#include "path_kernels.hpp"
#include "wavefix/channel_model.hpp"

namespace wavefix {

class PathGroups {
 public:
  PathGroups(std::size_t capacity, std::size_t antennas, const std::vector<double>& frequencies);

  /// Parts paths of amplitudes [count, antennas] at the center frequency into groups: each, from the strongest to the
  /// weakest, joins the one whose first path it correlates with most, or begins one, as do all after the strongest
  /// `most_paths`. `delays` [count]: means over the antennas, s.
  void assign(std::size_t count, const float* real, const float* imag, const double* delays);

  std::size_t count() const { return leaders_.size(); }
  /// Which group each path is in.
  std::size_t of(std::size_t path) const { return group_[path]; }
  /// b_l^H b_g of a path and its group over the band, divided by the number of subcarriers.
  cdouble product_with_group(std::size_t path) const;

 private:
  std::size_t paired() const { return std::min(order_.size(), most_paths); }
  /// b_l^H b_m of two of the strongest, by their ranks.
  cdouble product(std::size_t l, std::size_t m) const {
    const auto row = static_cast<Eigen::Index>(l), column = static_cast<Eigen::Index>(m);
    return row >= column ? products_(row, column) : std::conj(products_(column, row));
  }

  double spacing_, subcarriers_;  // of the subcarriers: Hz, and how many
  Eigen::MatrixXcd waves_;        // [antennas, ranks]
  Eigen::MatrixXcd products_;     // [ranks, ranks], its lower half
  std::vector<double> energies_;
  std::vector<std::size_t> order_, rank_, group_, leaders_;  // leaders by their ranks
};

}  // namespace wavefix
