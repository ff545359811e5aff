// SPDX-License-Identifier: Apache-2.0
// The paths that count at a position, in the units of the delay profile.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "channel_model_kinds.hpp"
#include "delay_profile.hpp"

namespace wavefix {

/// Paths at one position, strongest first. Amplitudes are scaled so that float32 squares neither overflow nor vanish.
struct Paths {
  std::size_t count = 0;
  std::vector<std::size_t> index;  // [count], atom of the model
  std::vector<double> energy;      // [count], sum over antennas of |amplitude|^2
  std::vector<double> direction;   // [count, 3]
  std::vector<float> real, imag;   // [count, A]
  std::vector<float> delay;        // [count, A], nodes of the profile
  std::vector<float> group_delay;  // [count, groups], mean over each group of antennas

  void reserve(std::size_t capacity, std::size_t antennas);
};

/// What all samplers of one plan share.
struct PathPlan {
  const ChannelModel::Implementation* model = nullptr;
  DelayProfile profile;
  double scale = 1.0;        // of amplitudes
  std::size_t capacity = 0;  // paths kept at most
  std::size_t group = 1;     // antennas over which the delay differences of two paths are taken as equal
  std::size_t antennas() const { return model->common.n_antennas(); }
  std::size_t groups() const { return (antennas() + group - 1) / group; }
};

/// Atoms weaker than this, relative to the strongest, are left out of all but the last step.
inline constexpr double weakest_path = 1e-5;
/// Paths weaker than this do not decide how finely anything is sampled.
inline constexpr double deciding_path = 1e-3;

class PathSampler {
 public:
  explicit PathSampler(const PathPlan& plan);
  void sample(const double* position, Paths& paths);
  /// Changes of the same paths a meter along `axis` (a unit vector): relative[count, A, 2] of the amplitudes, without
  /// what all antennas share, and delay[count, A] in nodes. A path that is absent there does not change.
  void slopes(const double* position, const double* axis, const Paths& paths, float* relative, float* delay);

 private:
  const PathPlan& plan_;
  std::unique_ptr<ChannelModel::Workspace> workspace_;
  Atoms atoms_;
  std::vector<std::pair<double, std::size_t>> ranked_;
};

}  // namespace wavefix
