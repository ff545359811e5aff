// SPDX-License-Identifier: Apache-2.0
// The phase tables of (2) at one position: three phasors an atom, then multiplications.
#include <algorithm>
#include <cmath>

#include "kernels.hpp"
#include "planar_model.hpp"
#include "planar_scratch.hpp"

namespace wavefix {

void PlanarModel::make_tables(const double* position, const Outputs& outputs, Scratch& scratch) const {
  const std::size_t to = scratch.stride, kept = scratch.kept.size();
  double* anchor = scratch.turns.data();
  double *antenna_step = anchor + to, *subcarrier_step = anchor + 2 * to;
  double away[3];
  for (std::size_t axis = 0; axis < 3; ++axis) away[axis] = position[axis] - common.region.origin[axis];
  std::fill(anchor, anchor + 3 * to, 0.0);
  for (std::size_t m = 0; m < kept; ++m) {
    const std::size_t i = scratch.kept[m];
    const double* u = net_.directions.data() + 3 * i;
    anchor[m] = -(u[0] * away[0] + u[1] * away[1] + u[2] * away[2]);
    anchor[m] -= std::nearbyint(anchor[m]);
    if (net_.antennas.equal) {
      for (std::size_t q = 0; q < net_.rank; ++q) {
        anchor[m] += outputs.slope[q * net_.stride + i] * net_.antennas.first[q];
        antenna_step[m] += outputs.slope[q * net_.stride + i] * net_.antennas.step[q];
      }
    }
    if (net_.subcarriers.equal) {
      anchor[m] -= outputs.path[i] * net_.subcarriers.first[0];
      subcarrier_step[m] = -outputs.path[i] * net_.subcarriers.step[0];
    }
  }
  kernels().unit_phasors(anchor, 3 * to, scratch.cosine.data(), scratch.sine.data());
  make_antenna_table(outputs, scratch);
  make_subcarrier_table(outputs, scratch);
}

/// E_ji, with the phases at the position, the first antenna and the first subcarrier in it.
void PlanarModel::make_antenna_table(const Outputs& outputs, Scratch& scratch) const {
  const std::size_t to = scratch.stride, kept = scratch.kept.size(), antennas = common.n_antennas();
  float* table = scratch.antenna_table.data();
  if (!net_.antennas.equal) {
    double *turns = scratch.turns.data() + to, *cosine = scratch.cosine.data() + to, *sine = scratch.sine.data() + to;
    for (std::size_t j = 0; j < antennas; ++j) {
      for (std::size_t m = 0; m < kept; ++m) {
        turns[m] = scratch.turns[index_of(m)];
        for (std::size_t q = 0; q < net_.rank; ++q) {
          turns[m] += outputs.slope[q * net_.stride + scratch.kept[m]] * net_.offsets[j * net_.rank + q];
        }
      }
      kernels().unit_phasors(turns, to, cosine, sine);
      std::copy_n(cosine, to, table + j * 2 * to);
      std::copy_n(sine, to, table + j * 2 * to + to);
    }
    return;
  }
  std::copy_n(scratch.cosine.data(), to, table);
  std::copy_n(scratch.sine.data(), to, table + to);
  // Rows n ... 2n-1 are rows 0 ... n-1 times the n-th power of the step, squared in double: rounding errors add up
  // over log2(A) products, not over A.
  double *power_real = scratch.cosine.data() + to, *power_imag = scratch.sine.data() + to;
  float* power = scratch.mixed.data();
  for (std::size_t done = 1; done < antennas; done *= 2) {
    std::copy_n(power_real, to, power);
    std::copy_n(power_imag, to, power + to);
    for (std::size_t j = done; j < std::min(2 * done, antennas); ++j) {
      kernels().multiply_planes(table + (j - done) * 2 * to, power, to, to, table + j * 2 * to);
    }
    for (std::size_t m = 0; m < to; ++m) {
      const double real = power_real[m], imag = power_imag[m];
      power_real[m] = real * real - imag * imag;
      power_imag[m] = 2 * real * imag;
    }
  }
}

/// F_ki as a real matrix: rows (k, real), (k, imag), levels (i, real), (M + i, imag).
void PlanarModel::make_subcarrier_table(const Outputs& outputs, Scratch& scratch) const {
  const std::size_t to = scratch.stride, kept = scratch.kept.size(), subcarriers = common.n_subcarriers();
  auto& table = scratch.subcarrier_table;
  table.resize(2 * subcarriers, 2 * kept);
  constexpr std::size_t half = PackedMatrix<float>::block_rows / 2;
  for (std::size_t m = 0; m < kept; ++m) {
    float real[half], imag[half];
    double step_real = scratch.cosine[index_of(2 * to + m)], step_imag = scratch.sine[index_of(2 * to + m)];
    double lead_real = 1, lead_imag = 0;  // phasor of the first subcarrier of a block
    if (net_.subcarriers.equal) {         // the powers 0 ... half-1 of the step, by doubling
      real[0] = 1, imag[0] = 0;
      for (std::size_t done = 1; done < half; done *= 2) {
        const auto sr = static_cast<float>(step_real), si = static_cast<float>(step_imag);
        for (std::size_t b = 0; b < done; ++b) {
          real[done + b] = real[b] * sr - imag[b] * si;
          imag[done + b] = real[b] * si + imag[b] * sr;
        }
        const double squared = step_real * step_real - step_imag * step_imag;
        step_imag = 2 * step_real * step_imag;
        step_real = squared;
      }
    } else {
      for (std::size_t k = 0; k < subcarriers; ++k) {
        scratch.line_turns[index_of(k)] = -outputs.path[scratch.kept[m]] * net_.delays[k];
      }
      kernels().unit_phasors(scratch.line_turns.data(), subcarriers, scratch.line_cosine.data(),
                             scratch.line_sine.data());
    }
    for (std::size_t block = 0; block < table.blocks(); ++block) {
      float *first = table.lanes(block, m), *second = table.lanes(block, kept + m);
      if (net_.subcarriers.equal) {
        const auto lr = static_cast<float>(lead_real), li = static_cast<float>(lead_imag);
        for (std::size_t b = 0; b < half; ++b) {
          const float r = real[b] * lr - imag[b] * li, i = real[b] * li + imag[b] * lr;
          first[2 * b] = r, first[2 * b + 1] = i;
          second[2 * b] = -i, second[2 * b + 1] = r;
        }
        const double next = lead_real * step_real - lead_imag * step_imag;
        lead_imag = lead_real * step_imag + lead_imag * step_real;
        lead_real = next;
      } else {
        for (std::size_t b = 0; b < std::min(half, subcarriers - block * half); ++b) {
          const auto r = static_cast<float>(scratch.line_cosine[index_of(block * half + b)]);
          const auto i = static_cast<float>(scratch.line_sine[index_of(block * half + b)]);
          first[2 * b] = r, first[2 * b + 1] = i;
          second[2 * b] = -i, second[2 * b + 1] = r;
        }
      }
    }
  }
}

}  // namespace wavefix
