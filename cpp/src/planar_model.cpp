// SPDX-License-Identifier: Apache-2.0
// Evaluates (2). With M atoms that matter at x, the channel is one product of an [A, M] and an [M, K] phase table, and
// each derivative is the same product with other weights, because the phases are linear in antenna and frequency:
//   dH_jk/dx_q = sum_i E_ji F_ki (a_qi + sum_s P_js b_qsi) + f_k sum_c C_cq sum_i E_ji F_ki g_ci.
#include "planar_model.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "angles.hpp"
#include "kernels.hpp"
#include "planar_scratch.hpp"

namespace wavefix {
namespace {

// What is left out changes no entry of the channel by more than negligible * (largest |w_i|), and no entry of the
// Jacobian by more than negligible * (the largest contribution of one atom).
constexpr double negligible = 1e-6;

}  // namespace

PlanarModel::PlanarModel(ModelCommon common_, PlanarParameters parameters)
    : Implementation(std::move(common_)), net_(std::move(parameters)) {}

std::unique_ptr<ChannelModel::Workspace> PlanarModel::make_workspace() const {
  return std::make_unique<Scratch>(net_, common.n_antennas(), common.n_subcarriers(), preferred_batch());
}

void PlanarModel::fill_inputs(const double* positions, std::size_t count, std::size_t tangents,
                              Scratch& scratch) const {
  const std::size_t d = net_.dimension, stride = net_.path.input_stride();
  for (std::size_t point = 0; point < count; ++point) {
    for (std::size_t column = 0; column <= tangents; ++column) {
      const std::size_t start = (point * (1 + tangents) + column) * stride;
      for (std::size_t axis = 0; axis < d; ++axis) {
        double value = column == axis + 1 ? 1 : 0;
        if (column == 0) {
          for (std::size_t c = 0; c < 3; ++c) {
            value += common.region.basis[3 * axis + c] * (positions[3 * point + c] - common.region.origin[c]);
          }
          value = (value - net_.middle[axis]) * net_.inverse_half[axis];
        }
        const auto at = index_of(start + axis);
        scratch.path.first[at] = scratch.slope.first[at] = value;
        scratch.weight.first[at] = static_cast<float>(value);
      }
    }
  }
}

/// z softmax(|z|) and its derivatives by the inputs of the network. The scale comes last: where channels are tiny or
/// huge, squares of scaled weights leave the range of float32.
void PlanarModel::weigh(const Outputs& outputs, std::size_t tangents, Scratch& scratch) const {
  const std::size_t stride = net_.stride, atoms = net_.atoms;
  const auto n = index_of(stride);
  const ConstLanes<float> real(outputs.weight, n), imag(outputs.weight + stride, n);
  auto& share = scratch.share;
  share = (real.square() + imag.square()).sqrt();
  const float largest = share.head(index_of(atoms)).maxCoeff();
  share = (share - largest).exp();
  float total = 0;
  for (std::size_t i = 0; i < atoms; ++i) total += share[index_of(i)];
  share *= 1 / total;
  Lanes<float>(scratch.w.data(), n) = share * real;
  Lanes<float>(scratch.w.data() + stride, n) = share * imag;
  for (std::size_t c = 0; c < tangents; ++c) {
    const float* tangent = outputs.weight + (1 + c) * 2 * stride;
    const ConstLanes<float> dreal(tangent, n), dimag(tangent + stride, n);
    auto& growth = scratch.impact;  // d|z|, zero where z is
    growth = (real * dreal + imag * dimag) / (real.square() + imag.square()).sqrt().max(1e-18f);
    float mean = 0;
    for (std::size_t i = 0; i < atoms; ++i) mean += share[index_of(i)] * growth[index_of(i)];
    float* dw = scratch.dw.data() + c * 2 * stride;
    Lanes<float>(dw, n) = share * (dreal + real * (growth - mean));
    Lanes<float>(dw + stride, n) = share * (dimag + imag * (growth - mean));
  }
}

/// Lists the atoms that matter and gathers their weights, scaled.
void PlanarModel::select(const Outputs& outputs, std::size_t tangents, Scratch& scratch) const {
  const std::size_t stride = net_.stride, atoms = net_.atoms;
  const auto n = index_of(stride);
  const Lanes<float> real(scratch.w.data(), n), imag(scratch.w.data() + stride, n);
  auto& size = scratch.share;
  size = (real.square() + imag.square()).sqrt();
  size.tail(n - index_of(atoms)) = 0;
  auto& impact = scratch.impact;
  impact = size;
  if (tangents > 0) impact *= static_cast<float>(tau / common.wavelength);
  for (std::size_t c = 0; c < tangents; ++c) {
    const auto by_meter = static_cast<float>(net_.inverse_half[c]);
    const float* dw = scratch.dw.data() + c * 2 * stride;
    const double* dpath = outputs.path + (1 + c) * stride;
    const double* dslope = outputs.slope + (1 + c) * net_.rank * stride;
    for (std::size_t i = 0; i < atoms; ++i) {
      double steepness = net_.widest_delay * std::abs(dpath[i]);
      for (std::size_t q = 0; q < net_.rank; ++q) steepness += net_.farthest_offset * std::abs(dslope[q * stride + i]);
      const float change = std::sqrt(dw[i] * dw[i] + dw[stride + i] * dw[stride + i]);
      impact[index_of(i)] += by_meter * (change + size[index_of(i)] * static_cast<float>(tau * steepness));
    }
  }
  const auto fraction = static_cast<float>(negligible / static_cast<double>(atoms));
  const float least_size = fraction * size.head(index_of(atoms)).maxCoeff();
  const float least_impact = fraction * impact.head(index_of(atoms)).maxCoeff();
  scratch.kept.clear();
  for (std::size_t i = 0; i < atoms; ++i) {  // negated, so that NaN stays and shows in the result
    if (!(size[index_of(i)] <= least_size && impact[index_of(i)] <= least_impact)) scratch.kept.push_back(i);
  }
  const std::size_t kept = scratch.kept.size(), to = scratch.stride = padded(kept);
  const auto scale = static_cast<float>(net_.scale);
  const auto gather = [&](const float* from, float* target) {
    for (std::size_t m = 0; m < kept; ++m) target[m] = scale * from[scratch.kept[m]];
    std::fill(target + kept, target + to, 0.0f);
  };
  for (std::size_t plane = 0; plane < 2; ++plane) {
    gather(scratch.w.data() + plane * stride, scratch.kept_w.data() + plane * to);
    for (std::size_t c = 0; c < tangents; ++c) {
      gather(scratch.dw.data() + (2 * c + plane) * stride, scratch.kept_dw.data() + (2 * c + plane) * to);
    }
  }
}

/// The subcarrier table times the columns of all antennas. Large arrays go through in pieces, between which an
/// interrupt is answered; small ones at once, where asking would cost as much as the product.
void PlanarModel::multiply_antennas(float* out, const Scratch& scratch) const {
  constexpr std::size_t most = 64;
  const std::size_t to = scratch.stride, kept = scratch.kept.size(), row = 2 * common.n_subcarriers();
  for (std::size_t first = 0; first < common.n_antennas(); first += most) {
    if (first > 0) checkpoint();
    scratch.subcarrier_table.multiply(scratch.columns_left.data() + first * 2 * to,
                                      std::min(most, common.n_antennas() - first), 2 * to, out + first * row, row, kept,
                                      to - kept);
  }
}

void PlanarModel::synthesize_channel(cfloat* channel, Scratch& scratch) const {
  const std::size_t to = scratch.stride, antennas = common.n_antennas();
  for (std::size_t j = 0; j < antennas; ++j) {
    kernels().multiply_planes(scratch.antenna_table.data() + j * 2 * to, scratch.kept_w.data(), to, to,
                              scratch.columns_left.data() + j * 2 * to);
  }
  multiply_antennas(reinterpret_cast<float*>(channel), scratch);
}

void PlanarModel::synthesize_jacobian(const Outputs& outputs, cfloat* jacobian, Scratch& scratch) const {
  const std::size_t to = scratch.stride, kept = scratch.kept.size(), antennas = common.n_antennas();
  const std::size_t entries = antennas * common.n_subcarriers(), rank = net_.rank;
  const float *w_real = scratch.kept_w.data(), *w_imag = w_real + to;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    float* coefficients = scratch.coefficients.data();
    std::fill(coefficients, coefficients + 2 * to * (1 + rank), 0.0f);
    for (std::size_t m = 0; m < kept; ++m) {
      const std::size_t i = scratch.kept[m];
      // j x (phase slope) x w, with the slope of e^(-j 2 pi / wavelength u.x) first
      const auto turn = static_cast<float>(-tau * net_.directions[3 * i + axis]);
      double real = -turn * w_imag[m], imag = turn * w_real[m];
      std::array<double, 3> bend{};
      for (std::size_t c = 0; c < net_.dimension; ++c) {
        const double chain = common.region.basis[3 * c + axis] * net_.inverse_half[c];
        real += chain * scratch.kept_dw[index_of(2 * c * to + m)];
        imag += chain * scratch.kept_dw[index_of((2 * c + 1) * to + m)];
        for (std::size_t q = 0; q < rank; ++q) {
          bend[q] += tau * chain * outputs.slope[((1 + c) * rank + q) * net_.stride + i];
        }
      }
      coefficients[m] = static_cast<float>(real);
      coefficients[to + m] = static_cast<float>(imag);
      for (std::size_t q = 0; q < rank; ++q) {
        coefficients[(1 + q) * 2 * to + m] = -static_cast<float>(bend[q]) * w_imag[m];
        coefficients[(1 + q) * 2 * to + to + m] = static_cast<float>(bend[q]) * w_real[m];
      }
    }
    for (std::size_t j = 0; j < antennas; ++j) {
      float* mixed = scratch.mixed.data();
      std::copy_n(coefficients, 2 * to, mixed);
      for (std::size_t q = 0; q < rank; ++q) {
        const auto offset = static_cast<float>(net_.offsets[j * rank + q]);
        const float* bent = coefficients + (1 + q) * 2 * to;
        for (std::size_t m = 0; m < 2 * to; ++m) mixed[m] += offset * bent[m];
      }
      kernels().multiply_planes(scratch.antenna_table.data() + j * 2 * to, mixed, to, to,
                                scratch.columns_left.data() + j * 2 * to);
    }
    multiply_antennas(reinterpret_cast<float*>(jacobian + axis * entries), scratch);
  }
  add_delay_terms(outputs, jacobian, scratch);
}

/// The term with f_k - f_r, which stands outside the sum over atoms; one product for each axis of the region.
void PlanarModel::add_delay_terms(const Outputs& outputs, cfloat* jacobian, Scratch& scratch) const {
  const std::size_t to = scratch.stride, kept = scratch.kept.size(), antennas = common.n_antennas();
  const std::size_t subcarriers = common.n_subcarriers(), entries = antennas * subcarriers;
  const float *w_real = scratch.kept_w.data(), *w_imag = w_real + to;
  float* weights = scratch.mixed.data();
  for (std::size_t c = 0; c < net_.dimension; ++c) {
    std::fill(weights, weights + 2 * to, 0.0f);
    for (std::size_t m = 0; m < kept; ++m) {
      const double lengthening = outputs.path[(1 + c) * net_.stride + scratch.kept[m]];
      const auto turn = static_cast<float>(-tau * net_.widest_delay * lengthening * net_.inverse_half[c]);
      weights[m] = -turn * w_imag[m];
      weights[to + m] = turn * w_real[m];
    }
    for (std::size_t j = 0; j < antennas; ++j) {
      kernels().multiply_planes(scratch.antenna_table.data() + j * 2 * to, weights, to, to,
                                scratch.columns_left.data() + j * 2 * to);
    }
    const float* products = scratch.products.data();
    multiply_antennas(scratch.products.data(), scratch);
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const double part = common.region.basis[3 * c + axis] / (net_.widest_delay > 0 ? net_.widest_delay : 1);
      for (std::size_t j = 0; j < antennas; ++j) {
        float* target = reinterpret_cast<float*>(jacobian + axis * entries + j * subcarriers);
        for (std::size_t k = 0; k < subcarriers; ++k) {
          const auto factor = static_cast<float>(part * net_.delays[k]);
          target[2 * k] += factor * products[2 * (j * subcarriers + k)];
          target[2 * k + 1] += factor * products[2 * (j * subcarriers + k) + 1];
        }
      }
    }
  }
}

void PlanarModel::synthesize(const double* positions, std::size_t count, cfloat* channels, cfloat* jacobian,
                             ChannelModel::Workspace& workspace) const {
  auto& scratch = static_cast<Scratch&>(workspace);
  const std::size_t tangents = jacobian != nullptr ? net_.dimension : 0;
  const std::size_t entries = common.n_antennas() * common.n_subcarriers();
  fill_inputs(positions, count, tangents, scratch);
  const double* path = net_.path.evaluate(count, tangents, scratch.path);
  const double* slope = net_.slope.evaluate(count, tangents, scratch.slope);
  const float* weight = net_.weight.evaluate(count, tangents, scratch.weight);
  for (std::size_t point = 0; point < count; ++point) {
    const std::size_t column = point * (1 + tangents);
    const Outputs outputs{path + column * net_.stride, slope + column * net_.rank * net_.stride,
                          weight + column * 2 * net_.stride};
    weigh(outputs, tangents, scratch);
    select(outputs, tangents, scratch);
    make_tables(positions + 3 * point, outputs, scratch);
    synthesize_channel(channels + point * entries, scratch);
    if (jacobian != nullptr) synthesize_jacobian(outputs, jacobian + point * 3 * entries, scratch);
  }
}

}  // namespace wavefix
