// SPDX-License-Identifier: Apache-2.0
// The planar network (2) as a list of paths.
#include <algorithm>
#include <cmath>

#include "kernels.hpp"
#include "planar_model.hpp"
#include "planar_scratch.hpp"

namespace wavefix {

void PlanarModel::atoms(const double* position, Atoms& atoms, ChannelModel::Workspace& workspace) const {
  auto& scratch = static_cast<Scratch&>(workspace);
  const std::size_t antennas = common.n_antennas(), rank = net_.rank;
  fill_inputs(position, 1, 0, scratch);
  const Outputs outputs{net_.path.evaluate(1, 0, scratch.path), net_.slope.evaluate(1, 0, scratch.slope),
                        net_.weight.evaluate(1, 0, scratch.weight)};
  weigh(outputs, 0, scratch);
  select(outputs, 0, scratch);
  atoms.count = scratch.kept.size();
  for (std::size_t m = 0; m < atoms.count; ++m) {
    const std::size_t i = scratch.kept[m];
    const double* u = net_.directions.data() + 3 * i;
    double turn = 0.0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      turn -= u[axis] * (position[axis] - common.region.origin[axis]);
      atoms.direction[3 * m + axis] = u[axis] * common.wavelength;
    }
    turn -= std::nearbyint(turn);
    for (std::size_t j = 0; j < antennas; ++j) {
      double& at = scratch.line_turns[index_of(j)];
      at = turn;
      for (std::size_t q = 0; q < rank; ++q) at += outputs.slope[q * net_.stride + i] * net_.offsets[j * rank + q];
    }
    kernels().unit_phasors(scratch.line_turns.data(), antennas, scratch.line_cosine.data(), scratch.line_sine.data());
    const float w_real = scratch.kept_w[index_of(m)], w_imag = scratch.kept_w[index_of(scratch.stride + m)];
    float *real = atoms.real.data() + m * antennas, *imag = atoms.imag.data() + m * antennas;
    for (std::size_t j = 0; j < antennas; ++j) {
      const auto c = static_cast<float>(scratch.line_cosine[index_of(j)]);
      const auto s = static_cast<float>(scratch.line_sine[index_of(j)]);
      real[j] = w_real * c - w_imag * s;
      imag[j] = w_real * s + w_imag * c;
    }
    std::fill_n(atoms.delay.data() + m * antennas, antennas, outputs.path[i] / speed_of_light);
    atoms.index[m] = i;
  }
}

}  // namespace wavefix
