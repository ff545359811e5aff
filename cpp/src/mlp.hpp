// SPDX-License-Identifier: Apache-2.0
// A multilayer perceptron with silu between its layers, evaluated with its derivatives along the inputs.
#pragma once

#include <cstddef>
#include <vector>

#include "packed_matrix.hpp"

namespace wavefix {

template <class T>
class Mlp {
 public:
  /// Scratch for `columns` columns.
  struct Scratch {
    Buffer<T> first, second;
  };

  /// weight[outputs][inputs] in row order.
  void add_layer(const std::vector<double>& weight, const std::vector<double>& bias);
  std::size_t inputs() const { return layers_.front().weight.depth(); }
  std::size_t output_stride() const { return padded(layers_.back().weight.rows()); }

  void reserve(Scratch& scratch, std::size_t columns) const;

  /// columns[points][1 + tangents][inputs] in scratch.first (stride input_stride()): each point's input and the
  /// tangents to carry along. Returns [points][1 + tangents][output_stride()]: values, then derivatives.
  const T* evaluate(std::size_t points, std::size_t tangents, Scratch& scratch) const;
  std::size_t input_stride() const { return padded(inputs()); }

 private:
  struct Layer {
    PackedMatrix<T> weight;
    Buffer<T> bias;  // padded with zeros
  };

  static void activate(T* value, T* tangent, std::size_t tangents, std::size_t stride);

  std::vector<Layer> layers_;
};

extern template class Mlp<float>;
extern template class Mlp<double>;

}  // namespace wavefix
