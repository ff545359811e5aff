// SPDX-License-Identifier: Apache-2.0
// Reads and checks the tensors of kind "planar".
#include <algorithm>
#include <cmath>
#include <utility>

#include "planar_model.hpp"

namespace wavefix {
namespace {

using safetensors::Dtype;

constexpr std::size_t max_table = std::size_t{1} << 26;  // entries of the table of atoms and antennas, or subcarriers

/// Whether points[count, width] advance by equal steps, to within 1e-9 turns: far below the accuracy of a float32.
/// `scale` is the number of turns that a unit makes at most.
Spacing spacing_of(const std::vector<double>& points, std::size_t width, double scale) {
  const std::size_t count = points.size() / width;
  Spacing spacing;
  spacing.equal = true;
  for (std::size_t axis = 0; axis < width; ++axis) {
    const double first = points[axis], last = points[(count - 1) * width + axis];
    const double step = count > 1 ? (last - first) / static_cast<double>(count - 1) : 0;
    for (std::size_t index = 0; index < count; ++index) {
      const double ideal = first + static_cast<double>(index) * step;
      if (!(std::abs(points[index * width + axis] - ideal) * scale <= 1e-9)) spacing.equal = false;
    }
    spacing.first.push_back(first);
    spacing.step.push_back(step);
  }
  return spacing;
}

struct NetworkShape {
  std::string name;
  std::size_t inputs, outputs;
};

/// Number of layers "name.0.suffix", "name.1.suffix", ... in the file.
std::size_t count_layers(const TensorReader& tensors, const std::string& name, const std::string& suffix) {
  std::size_t layers = 0;
  while (tensors.has(name + "." + std::to_string(layers) + suffix)) ++layers;
  if (layers == 0) throw_model_format("tensor \"" + name + ".0" + suffix + "\" is missing");
  return layers;
}

/// Row `source` of a [rows, width] matrix becomes row place(source) of a zero matrix with `new_rows` rows.
template <class Place>
std::vector<double> moved_rows(const std::vector<double>& values, std::size_t width, std::size_t new_rows,
                               const Place& place) {
  std::vector<double> moved(new_rows * width, 0.0);
  for (std::size_t row = 0; row * width < values.size(); ++row) {
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(row * width), width,
                moved.begin() + static_cast<std::ptrdiff_t>(place(row) * width));
  }
  return moved;
}

/// The last layer's rows go to place(row) of `placed` rows, which puts the outputs where evaluation wants them.
template <class Place>
Mlp<double> read_network(TensorReader& tensors, const NetworkShape& shape, std::size_t placed, const Place& place) {
  Mlp<double> network;
  const std::size_t layers = count_layers(tensors, shape.name, ".weight");
  std::size_t width = shape.inputs;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const bool last = layer + 1 == layers;
    const std::string prefix = shape.name + "." + std::to_string(layer);
    const auto& weight =
        tensors.take(prefix + ".weight", Dtype::f32, {last ? shape.outputs : TensorReader::any, width});
    const std::size_t outputs = weight.extent(0);
    const auto& bias = tensors.take(prefix + ".bias", Dtype::f32, {outputs});
    if (last) {
      network.add_layer(moved_rows(weight.values, width, placed, place), moved_rows(bias.values, 1, placed, place));
    } else {
      network.add_layer(weight.values, bias.values);
    }
    width = outputs;
  }
  return network;
}

/// A complex layer as a real one: (real, imag) -> (W_r real - W_i imag + b_r, W_i real + W_r imag + b_i). The first
/// layer has no imaginary input. Imaginary outputs start at row `imag_row`.
void add_complex_layer(Mlp<float>& network, TensorReader& tensors, const std::string& prefix, std::size_t inputs,
                       std::size_t outputs, std::size_t imag_row, bool first) {
  const std::vector<std::size_t> shape{outputs, inputs};
  const auto& real = tensors.take(prefix + ".weight_real", Dtype::f32, shape).values;
  const auto& imag = tensors.take(prefix + ".weight_imag", Dtype::f32, shape).values;
  const auto& bias_real = tensors.take(prefix + ".bias_real", Dtype::f32, {outputs}).values;
  const auto& bias_imag = tensors.take(prefix + ".bias_imag", Dtype::f32, {outputs}).values;
  const std::size_t width = first ? inputs : 2 * inputs;
  std::vector<double> weight(2 * imag_row * width, 0.0), bias(2 * imag_row, 0.0);
  for (std::size_t row = 0; row < outputs; ++row) {
    bias[row] = bias_real[row];
    bias[imag_row + row] = bias_imag[row];
    for (std::size_t column = 0; column < inputs; ++column) {
      const double r = real[row * inputs + column], i = imag[row * inputs + column];
      weight[row * width + column] = r;
      weight[(imag_row + row) * width + column] = i;
      if (first) continue;
      weight[row * width + inputs + column] = -i;
      weight[(imag_row + row) * width + inputs + column] = r;
    }
  }
  network.add_layer(weight, bias);
}

Mlp<float> read_complex_network(TensorReader& tensors, const NetworkShape& shape, std::size_t last_imag_row) {
  Mlp<float> network;
  const std::size_t layers = count_layers(tensors, shape.name, ".weight_real");
  std::size_t width = shape.inputs;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const bool last = layer + 1 == layers;
    const std::string prefix = shape.name + "." + std::to_string(layer);
    const auto& weight =
        tensors.take(prefix + ".weight_real", Dtype::f32, {last ? shape.outputs : TensorReader::any, width});
    const std::size_t outputs = weight.extent(0);
    add_complex_layer(network, tensors, prefix, width, outputs, last ? last_imag_row : outputs, layer == 0);
    width = outputs;
  }
  return network;
}

void read_geometry(const ModelCommon& common, TensorReader& tensors, PlanarParameters& net) {
  net.dimension = common.region.dimension();
  for (std::size_t axis = 0; axis < net.dimension; ++axis) {
    const double lower = common.region.lower[axis], upper = common.region.upper[axis];
    net.middle.push_back(lower / 2 + upper / 2);
    net.inverse_half.push_back(1 / std::max(upper / 2 - lower / 2, 1e-9));
  }
  const auto& basis = tensors.take("antenna.basis", Dtype::f64, {TensorReader::any, 3});
  net.rank = basis.extent(0);
  if (net.rank > 3) throw_model_format("antenna.basis: expected 1 to 3 rows, got " + std::to_string(net.rank));
  require_orthonormal("antenna.basis", basis.values);
  const std::size_t antennas = common.n_antennas();
  std::array<double, 3> reference{};
  for (std::size_t j = 0; j < antennas; ++j) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      reference[axis] += common.antenna_positions[3 * j + axis] / static_cast<double>(antennas);
    }
  }
  for (std::size_t j = 0; j < antennas; ++j) {
    for (std::size_t q = 0; q < net.rank; ++q) {
      double offset = 0;
      for (std::size_t axis = 0; axis < 3; ++axis) {
        offset += basis.values[3 * q + axis] * (common.antenna_positions[3 * j + axis] - reference[axis]);
      }
      net.offsets.push_back(offset / common.wavelength);
      net.farthest_offset = std::max(net.farthest_offset, std::abs(net.offsets.back()));
    }
  }
  for (const double frequency : common.frequencies) {
    net.delays.push_back((frequency - common.center_frequency) / speed_of_light);
    net.widest_delay = std::max(net.widest_delay, std::abs(net.delays.back()));
  }
  net.antennas = spacing_of(net.offsets, net.rank, 1.0);
  net.subcarriers = spacing_of(net.delays, 1, 1e3);  // a path of a kilometer
}

void read_directions(const ModelCommon& common, TensorReader& tensors, PlanarParameters& net) {
  const auto& directions = tensors.take("location.directions", Dtype::f64, {TensorReader::any, 3});
  net.atoms = directions.extent(0);
  net.stride = padded(net.atoms);
  if (net.atoms > max_table / std::max(common.n_antennas(), common.n_subcarriers())) {
    throw_model_format("location.directions: " + std::to_string(net.atoms) + " atoms are more than is supported");
  }
  for (std::size_t atom = 0; atom < net.atoms; ++atom) {
    const double* u = directions.values.data() + 3 * atom;
    if (!(std::abs(u[0] * u[0] + u[1] * u[1] + u[2] * u[2] - 1) <= 2e-6)) {
      throw_model_format("location.directions: row " + std::to_string(atom) + " is not a unit vector");
    }
    for (std::size_t axis = 0; axis < 3; ++axis) net.directions.push_back(u[axis] / common.wavelength);
  }
}

}  // namespace

PlanarParameters read_planar_parameters(const ModelCommon& common, TensorReader& tensors) {
  const auto activation = common.metadata.find("activation");
  if (activation == common.metadata.end() || activation->second != "silu") {
    throw_model_format("metadata \"activation\": expected \"silu\"");
  }
  PlanarParameters net;
  read_geometry(common, tensors, net);
  read_directions(common, tensors, net);
  net.scale = tensors.take("weight.scale", Dtype::f64, {1}).values[0];
  const std::size_t d = net.dimension, rank = net.rank, stride = net.stride;
  net.path = read_network(tensors, {"delay", d, net.atoms}, stride, [](std::size_t row) { return row; });
  // the file keeps [D, r]; evaluation wants each axis of the array in one run
  net.slope = read_network(tensors, {"antenna", d, net.atoms * rank}, stride * rank,
                           [=](std::size_t row) { return row % rank * stride + row / rank; });
  net.weight = read_complex_network(tensors, {"weight", d, net.atoms}, stride);
  return net;
}

ImplementationPointer read_planar_model(ModelCommon common, TensorReader& tensors) {
  PlanarParameters parameters = read_planar_parameters(common, tensors);
  return std::make_shared<PlanarModel>(std::move(common), std::move(parameters));
}

}  // namespace wavefix
