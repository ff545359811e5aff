// SPDX-License-Identifier: Apache-2.0
// What the atoms of every kind of model have to be.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "channel_model_kinds.hpp"
#include "wavefix/channel_model.hpp"

namespace wavefix::testing {

/// The channel that the atoms at `position` add up to agrees with synthesize(); directions are slopes of the phase.
inline void check_atoms(const ChannelModel& model, const double* position) {
  constexpr double tau = 6.283185307179586476925286766559;
  const std::size_t antennas = model.n_antennas(), subcarriers = model.n_subcarriers();
  const auto& implementation = model.implementation();
  const auto workspace = model.make_workspace();
  std::vector<cfloat> wanted(antennas * subcarriers);
  model.synthesize_one(position, wanted.data(), nullptr, *workspace);
  Atoms atoms(model.n_atoms(), antennas);
  implementation.atoms(position, atoms, *workspace);
  REQUIRE(atoms.count <= model.n_atoms());
  for (std::size_t j = 0; j < antennas; ++j) {
    for (std::size_t k = 0; k < subcarriers; ++k) {
      cdouble sum = 0.0;
      double size = 0.0;
      for (std::size_t i = 0; i < atoms.count; ++i) {
        const cdouble amplitude(atoms.real[i * antennas + j], atoms.imag[i * antennas + j]);
        const double offset = model.frequencies()[k] - implementation.common.center_frequency;
        sum += amplitude * std::polar(1.0, -tau * offset * atoms.delay[i * antennas + j]);
        size += std::abs(amplitude);
      }
      // float32 tables, a few dozen roundings of 6e-8 deep
      CHECK(std::abs(sum - cdouble(wanted[j * subcarriers + k])) <= 4e-6 * size);
    }
  }
  // One millimeter along each axis turns the sum over antennas by direction / wavelength; gains and the differences
  // between antennas change slowly, so that a hundredth of a turn per wavelength is left for them.
  Atoms moved(model.n_atoms(), antennas);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    double there[3] = {position[0], position[1], position[2]};
    const double step = 1e-3;
    there[axis] += step;
    implementation.atoms(there, moved, *workspace);
    for (std::size_t i = 0; i < atoms.count; ++i) {
      std::size_t other = 0;
      while (other < moved.count && moved.index[other] != atoms.index[i]) ++other;
      if (other == moved.count) continue;
      cdouble turn = 0.0;
      for (std::size_t j = 0; j < antennas; ++j) {
        turn += cdouble(moved.real[other * antennas + j], moved.imag[other * antennas + j]) *
                cdouble(atoms.real[i * antennas + j], -atoms.imag[i * antennas + j]);
      }
      const double slope = -std::arg(turn) / (tau * step / model.wavelength());
      CHECK(std::abs(slope - atoms.direction[3 * i + axis]) < 0.01);
    }
  }
}

}  // namespace wavefix::testing
