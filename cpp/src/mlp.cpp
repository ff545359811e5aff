// SPDX-License-Identifier: Apache-2.0
#include "mlp.hpp"

#include <algorithm>
#include <utility>

namespace wavefix {

template <class T>
void Mlp<T>::add_layer(const std::vector<double>& weight, const std::vector<double>& bias) {
  const std::size_t outputs = bias.size(), depth = weight.size() / outputs;
  Layer layer;
  layer.weight.reserve(padded(outputs), depth);
  layer.weight.resize(padded(outputs), depth);
  layer.bias.setZero(static_cast<Eigen::Index>(padded(outputs)));
  for (std::size_t row = 0; row < outputs; ++row) {
    layer.bias[static_cast<Eigen::Index>(row)] = static_cast<T>(bias[row]);
    for (std::size_t level = 0; level < depth; ++level) {
      layer.weight.at(row, level) = static_cast<T>(weight[row * depth + level]);
    }
  }
  layers_.push_back(std::move(layer));
}

template <class T>
void Mlp<T>::reserve(Scratch& scratch, std::size_t columns) const {
  std::size_t widest = input_stride();
  for (const Layer& layer : layers_) widest = std::max(widest, layer.weight.rows());
  scratch.first.setZero(static_cast<Eigen::Index>(columns * widest));
  scratch.second.setZero(static_cast<Eigen::Index>(columns * widest));
}

/// y -> y s, y' -> y' s (1 + y (1 - s)) with s the logistic function of y.
template <class T>
void Mlp<T>::activate(T* value, T* tangent, std::size_t tangents, std::size_t stride) {
  const auto n = static_cast<Eigen::Index>(stride);
  Lanes<T> y(value, n);
  // whole registers only, so that each element takes the same path wherever its column lies in the block
  constexpr Eigen::Index chunk = lane_padding;
  for (Eigen::Index start = 0; start < n; start += chunk) {
    const Eigen::Array<T, lane_padding, 1> v = y.template segment<chunk>(start);
    const Eigen::Array<T, lane_padding, 1> s = ((-v).exp() + T(1)).inverse();
    y.template segment<chunk>(start) = v * s;
    if (tangents == 0) continue;
    const Eigen::Array<T, lane_padding, 1> slope = s * (T(1) + v * (T(1) - s));
    for (std::size_t c = 0; c < tangents; ++c) {
      Lanes<T>(tangent + c * stride, n).template segment<chunk>(start) *= slope;
    }
  }
}

template <class T>
const T* Mlp<T>::evaluate(std::size_t points, std::size_t tangents, Scratch& scratch) const {
  T* input = scratch.first.data();
  T* output = scratch.second.data();
  std::size_t stride = input_stride();
  for (const Layer& layer : layers_) {
    const std::size_t width = layer.weight.rows();
    layer.weight.multiply(input, points * (1 + tangents), stride, output, width);
    for (std::size_t point = 0; point < points; ++point) {
      T* value = output + point * (1 + tangents) * width;
      Lanes<T>(value, static_cast<Eigen::Index>(width)) += layer.bias;
      if (&layer != &layers_.back()) activate(value, value + width, tangents, width);
    }
    std::swap(input, output);
    stride = width;
  }
  return input;
}

template class Mlp<float>;
template class Mlp<double>;

}  // namespace wavefix
