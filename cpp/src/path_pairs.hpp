// SPDX-License-Identifier: Apache-2.0
// Sums over antennas and subcarriers of the shapes of two paths, or of slopes of shapes. Within a group of antennas the
// sum over subcarriers is the same, so that it is looked up once; groups lie side by side in the lanes of vectors.
#pragma once

#include <vector>

#include "path_sampler.hpp"

namespace wavefix {

class PathPairs {
 public:
  /// `vectors` of a path: its shape, and slopes of it.
  PathPairs(const PathPlan& plan, std::size_t vectors);

  /// Antennas and mean delays of the groups [first, last), all that is summed over from now on, for path l.
  void set_shape(const Paths& paths, std::size_t l, std::size_t first, std::size_t last);
  /// The slope along axis d, of all antennas, and that of the delay at each group.
  void set_slope(std::size_t l, std::size_t d, const float* real, const float* imag, const float* later);
  /// sums[c, e]: b_l^H b_m for c = e = 0, with the slopes along axes c - 1 and e - 1 otherwise.
  void sum(std::size_t l, std::size_t m, std::complex<float>* sums) const;

 private:
  void place(const float* real, const float* imag, std::size_t l, std::size_t vector, std::size_t first,
             std::size_t last);

  const PathPlan& plan_;
  std::size_t vectors_, lanes_, groups_ = 0;
  std::vector<float> real_, imag_;  // [paths, vectors, group, lanes]
  std::vector<float> delay_;        // [paths, lanes]
  std::vector<float> later_;        // [paths, vectors - 1, lanes]
};

}  // namespace wavefix
