// SPDX-License-Identifier: Apache-2.0
#include "path_sampler.hpp"

#include <algorithm>
#include <cmath>

#include "angles.hpp"

namespace wavefix {
namespace {

/// In eight sums, which compilers keep in vectors. Scaled before they are squared, so that squares stay in range.
float scaled_energy(const float* real, const float* imag, std::size_t count, float scale) {
  float sum[8] = {};
  std::size_t j = 0;
  for (; j + 8 <= count; j += 8) {
    for (std::size_t i = 0; i < 8; ++i) {
      const float re = scale * real[j + i], im = scale * imag[j + i];
      sum[i] += re * re + im * im;
    }
  }
  for (; j < count; ++j) {
    const float re = scale * real[j], im = scale * imag[j];
    sum[j % 8] += re * re + im * im;
  }
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

}  // namespace

void Paths::reserve(std::size_t capacity, std::size_t antennas) {
  index.resize(capacity);
  energy.resize(capacity);
  direction.resize(3 * capacity);
  real.resize(capacity * antennas);
  imag.resize(capacity * antennas);
  delay.resize(capacity * antennas);
  group_delay.resize(capacity * antennas);
}

PathSampler::PathSampler(const PathPlan& plan)
    : plan_(plan), workspace_(plan.model->make_workspace()), atoms_(plan.model->n_atoms(), plan.antennas()) {
  ranked_.reserve(plan.model->n_atoms());
}

void PathSampler::sample(const double* position, Paths& paths) {
  plan_.model->atoms(position, atoms_, *workspace_);
  const std::size_t antennas = plan_.antennas(), groups = plan_.groups();
  const auto scale = static_cast<float>(plan_.scale);
  ranked_.clear();
  double strongest = 0.0;
  for (std::size_t i = 0; i < atoms_.count; ++i) {
    const float energy =
        scaled_energy(atoms_.real.data() + i * antennas, atoms_.imag.data() + i * antennas, antennas, scale);
    if (!std::isfinite(energy)) continue;  // nothing can be computed with what overflows
    ranked_.emplace_back(-static_cast<double>(energy), i);
    strongest = std::max(strongest, static_cast<double>(energy));
  }
  std::sort(ranked_.begin(), ranked_.end());
  paths.count = 0;
  for (const auto& [negative, i] : ranked_) {
    if (paths.count == plan_.capacity || !(-negative > weakest_path * strongest)) break;
    const std::size_t l = paths.count++;
    paths.index[l] = atoms_.index[i];
    paths.energy[l] = -negative;
    std::copy_n(atoms_.direction.data() + 3 * i, 3, paths.direction.data() + 3 * l);
    for (std::size_t j = 0; j < antennas; ++j) {
      paths.real[l * antennas + j] = scale * atoms_.real[i * antennas + j];
      paths.imag[l * antennas + j] = scale * atoms_.imag[i * antennas + j];
      paths.delay[l * antennas + j] = plan_.profile.coordinate(atoms_.delay[i * antennas + j]);
    }
    for (std::size_t g = 0; g < groups; ++g) {
      const std::size_t first = g * plan_.group, last = std::min(first + plan_.group, antennas);
      float sum = 0.0f;
      for (std::size_t j = first; j < last; ++j) sum += paths.delay[l * antennas + j];
      paths.group_delay[l * groups + g] = sum / static_cast<float>(last - first);
    }
  }
}

void PathSampler::slopes(const double* position, const double* axis, const Paths& paths, float* relative,
                         float* delay) {
  const double wavelength = plan_.model->common.wavelength, step = wavelength / 40.0;
  const double there[3] = {position[0] + step * axis[0], position[1] + step * axis[1], position[2] + step * axis[2]};
  plan_.model->atoms(there, atoms_, *workspace_);
  const std::size_t antennas = plan_.antennas();
  const auto scale = static_cast<float>(plan_.scale), per_meter = static_cast<float>(1.0 / step);
  const auto begin = atoms_.index.begin(), end = begin + static_cast<std::ptrdiff_t>(atoms_.count);
  for (std::size_t l = 0; l < paths.count; ++l) {
    float *change = relative + 2 * l * antennas, *later = delay + l * antennas;
    const auto found = std::lower_bound(begin, end, paths.index[l]);
    if (found == end || *found != paths.index[l]) {
      std::fill_n(change, 2 * antennas, 0.0f);
      std::fill_n(later, antennas, 0.0f);
      continue;
    }
    const auto row = static_cast<std::size_t>(found - begin) * antennas;
    const double* u = paths.direction.data() + 3 * l;
    const double turn = tau * step / wavelength * (u[0] * axis[0] + u[1] * axis[1] + u[2] * axis[2]);
    const auto c = scale * static_cast<float>(std::cos(turn)), s = scale * static_cast<float>(std::sin(turn));
    double mean_re = 0.0, mean_im = 0.0;
    for (std::size_t j = 0; j < antennas; ++j) {
      const float re = paths.real[l * antennas + j], im = paths.imag[l * antennas + j];
      const float there_re = c * atoms_.real[row + j] - s * atoms_.imag[row + j];
      const float there_im = c * atoms_.imag[row + j] + s * atoms_.real[row + j];
      // conj(a) a': times the energy of this antenna for now
      change[2 * j] = re * there_re + im * there_im - (re * re + im * im);
      change[2 * j + 1] = re * there_im - im * there_re;
      mean_re += change[2 * j];
      mean_im += change[2 * j + 1];
      later[j] = per_meter * (plan_.profile.coordinate(atoms_.delay[row + j]) - paths.delay[l * antennas + j]);
    }
    // The gain is free, so a change that all antennas share says nothing.
    const auto share_re = static_cast<float>(mean_re / paths.energy[l]);
    const auto share_im = static_cast<float>(mean_im / paths.energy[l]);
    const auto least = static_cast<float>(1e-6 * paths.energy[l]) / static_cast<float>(antennas);
    for (std::size_t j = 0; j < antennas; ++j) {
      const float re = paths.real[l * antennas + j], im = paths.imag[l * antennas + j], size = re * re + im * im;
      change[2 * j] = size > least ? per_meter * (change[2 * j] / size - share_re) : 0.0f;
      change[2 * j + 1] = size > least ? per_meter * (change[2 * j + 1] / size - share_im) : 0.0f;
    }
  }
}

}  // namespace wavefix
