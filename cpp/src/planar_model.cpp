// SPDX-License-Identifier: Apache-2.0
// Evaluates (2). With M atoms that matter at x, the channel is one product of an [A, M] and an [M, K] phase table, and
// each derivative is the same product with other weights, because the phases are linear in antenna and frequency:
//   dH_jk/dx_q = sum_i E_ji F_ki (a_qi + sum_s P_js b_qsi) + f_k sum_c C_cq sum_i E_ji F_ki g_ci.
#include "planar_model.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels.hpp"

namespace wavefix {
namespace {

constexpr double tau = 6.283185307179586476925286766559;
// What is left out changes no entry of the channel by more than negligible * (largest |w_i|), and no entry of the
// Jacobian by more than negligible * (the largest contribution of one atom).
constexpr double negligible = 1e-6;

Eigen::Index index_of(std::size_t value) { return static_cast<Eigen::Index>(value); }

}  // namespace

/// Sized for D atoms once. Arrays over atoms are padded; planes are real parts, then imaginary parts.
class PlanarModel::Scratch final : public ChannelModel::Workspace {
 public:
  Scratch(const PlanarParameters& net, std::size_t n_antennas, std::size_t n_subcarriers, std::size_t batch) {
    const std::size_t columns = batch * (1 + net.dimension), lanes = net.stride;
    net.path.reserve(path, columns);
    net.slope.reserve(slope, columns);
    net.weight.reserve(weight, columns);
    const auto make = [](auto& buffer, std::size_t size) { buffer.setZero(index_of(size)); };
    make(share, lanes);
    make(w, 2 * lanes);
    make(dw, 2 * lanes * net.dimension);
    make(impact, lanes);
    make(kept_w, 2 * lanes);
    make(kept_dw, 2 * lanes * net.dimension);
    make(turns, 3 * lanes);
    make(cosine, 3 * lanes);
    make(sine, 3 * lanes);
    make(antenna_table, 2 * lanes * n_antennas);
    make(columns_left, 2 * lanes * n_antennas);
    make(coefficients, 2 * lanes * (1 + net.rank));
    make(mixed, 2 * lanes);
    make(products, 2 * n_antennas * n_subcarriers);
    const std::size_t line = padded(std::max(n_subcarriers, n_antennas));
    make(line_turns, line);
    make(line_cosine, line);
    make(line_sine, line);
    subcarrier_table.reserve(2 * n_subcarriers, 2 * net.atoms);
    kept.reserve(net.atoms);
  }

  Mlp<double>::Scratch path, slope;
  Mlp<float>::Scratch weight;
  Buffer<float> share;          // softmax(|z|)
  Buffer<float> w, dw;          // [2, D], [d, 2, D]: w and its derivatives by the network's inputs
  Buffer<float> impact;         // what an atom contributes to the Jacobian at most
  std::vector<std::size_t> kept;  // the M atoms that matter
  std::size_t stride = 0;       // padded(M), of the arrays below
  Buffer<float> kept_w, kept_dw;
  Buffer<double> turns, cosine, sine;  // [3, M]: at the first antenna and subcarrier, an antenna step, a subcarrier step
  Buffer<float> antenna_table;  // E: [A, 2, M]
  Buffer<float> columns_left;   // E times weights: [A, 2, M]
  Buffer<float> coefficients;   // a, b: [1 + r, 2, M]
  Buffer<float> mixed;          // a + sum P b: [2, M]
  Buffer<float> products;       // [A, K] complex
  Buffer<double> line_turns, line_cosine, line_sine;
  PackedMatrix<float> subcarrier_table;  // F as a real matrix [2 K, 2 M]
};

struct PlanarModel::Outputs {
  const double* path;   // [1 + tangents, stride]
  const double* slope;  // [1 + tangents, rank * stride]
  const float* weight;  // [1 + tangents, 2 * stride]
};

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

/// w = scale z softmax(|z|) and its derivatives by the inputs of the network.
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
  const auto scale = static_cast<float>(net_.scale);
  Lanes<float>(scratch.w.data(), n) = scale * share * real;
  Lanes<float>(scratch.w.data() + stride, n) = scale * share * imag;
  for (std::size_t c = 0; c < tangents; ++c) {
    const float* tangent = outputs.weight + (1 + c) * 2 * stride;
    const ConstLanes<float> dreal(tangent, n), dimag(tangent + stride, n);
    auto& growth = scratch.impact;  // d|z|, zero where z is
    growth = (real * dreal + imag * dimag) / (real.square() + imag.square()).sqrt().max(1e-18f);
    float mean = 0;
    for (std::size_t i = 0; i < atoms; ++i) mean += share[index_of(i)] * growth[index_of(i)];
    float* dw = scratch.dw.data() + c * 2 * stride;
    Lanes<float>(dw, n) = scale * share * (dreal + real * (growth - mean));
    Lanes<float>(dw + stride, n) = scale * share * (dimag + imag * (growth - mean));
  }
}

/// Lists the atoms that matter and gathers their weights.
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
  const auto gather = [&](const float* from, float* target) {
    for (std::size_t m = 0; m < kept; ++m) target[m] = from[scratch.kept[m]];
    std::fill(target + kept, target + to, 0.0f);
  };
  for (std::size_t plane = 0; plane < 2; ++plane) {
    gather(scratch.w.data() + plane * stride, scratch.kept_w.data() + plane * to);
    for (std::size_t c = 0; c < tangents; ++c) {
      gather(scratch.dw.data() + (2 * c + plane) * stride, scratch.kept_dw.data() + (2 * c + plane) * to);
    }
  }
}

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
    if (net_.subcarriers.equal) {  // the powers 0 ... half-1 of the step, by doubling
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
      kernels().unit_phasors(scratch.line_turns.data(), subcarriers, scratch.line_cosine.data(), scratch.line_sine.data());
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

void PlanarModel::synthesize_channel(cfloat* channel, Scratch& scratch) const {
  const std::size_t to = scratch.stride, kept = scratch.kept.size(), antennas = common.n_antennas();
  const std::size_t row = 2 * common.n_subcarriers();
  for (std::size_t j = 0; j < antennas; ++j) {
    kernels().multiply_planes(scratch.antenna_table.data() + j * 2 * to, scratch.kept_w.data(), to, to,
                    scratch.columns_left.data() + j * 2 * to);
  }
  scratch.subcarrier_table.multiply(scratch.columns_left.data(), antennas, 2 * to, reinterpret_cast<float*>(channel),
                                    row, kept, to - kept);
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
    scratch.subcarrier_table.multiply(scratch.columns_left.data(), antennas, 2 * to,
                                      reinterpret_cast<float*>(jacobian + axis * entries), 2 * common.n_subcarriers(),
                                      kept, to - kept);
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
    scratch.subcarrier_table.multiply(scratch.columns_left.data(), antennas, 2 * to, scratch.products.data(),
                                      2 * subcarriers, kept, to - kept);
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
