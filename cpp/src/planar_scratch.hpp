// SPDX-License-Identifier: Apache-2.0
// Working memory of PlanarModel.
#pragma once

#include <algorithm>
#include <vector>

#include "planar_model.hpp"

namespace wavefix {

inline Eigen::Index index_of(std::size_t value) { return static_cast<Eigen::Index>(value); }

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
  Buffer<float> share;            // softmax(|z|)
  Buffer<float> w, dw;            // [2, D], [d, 2, D]: w and its derivatives by the network's inputs
  Buffer<float> impact;           // what an atom contributes to the Jacobian at most
  std::vector<std::size_t> kept;  // the M atoms that matter
  std::size_t stride = 0;         // padded(M), of the arrays below
  Buffer<float> kept_w, kept_dw;
  Buffer<double> turns, cosine, sine;  // [3, M]: first antenna and subcarrier, step of antennas, step of subcarriers
  Buffer<float> antenna_table;         // E: [A, 2, M]
  Buffer<float> columns_left;          // E times weights: [A, 2, M]
  Buffer<float> coefficients;          // a, b: [1 + r, 2, M]
  Buffer<float> mixed;                 // a + sum P b: [2, M]
  Buffer<float> products;              // [A, K] complex
  Buffer<double> line_turns, line_cosine, line_sine;
  PackedMatrix<float> subcarrier_table;  // F as a real matrix [2 K, 2 M]
};

struct PlanarModel::Outputs {
  const double* path;   // [1 + tangents, stride]
  const double* slope;  // [1 + tangents, rank * stride]
  const float* weight;  // [1 + tangents, 2 * stride]
};

}  // namespace wavefix
