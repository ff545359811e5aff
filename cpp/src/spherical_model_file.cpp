// SPDX-License-Identifier: Apache-2.0
// Reads and checks the tensors of kind "spherical".
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "spherical_model.hpp"

namespace wavefix {
namespace {

using safetensors::Dtype;

constexpr std::size_t max_table = std::size_t{1} << 24;  // sources (or lines) times antennas
constexpr double stretch = 0.01;  // what a source may change the length of an antenna's offset by

/// p_j - p_r
std::vector<double> antenna_offsets(const ModelCommon& common) {
  const std::size_t antennas = common.n_antennas();
  std::array<double, 3> reference{};
  for (std::size_t j = 0; j < antennas; ++j) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      reference[axis] += common.antenna_positions[3 * j + axis] / static_cast<double>(antennas);
    }
  }
  std::vector<double> offsets(common.antenna_positions);
  for (std::size_t index = 0; index < offsets.size(); ++index) offsets[index] -= reference[index % 3];
  return offsets;
}

void read_sources(const ModelCommon& common, TensorReader& tensors, SphericalParameters& net) {
  const auto& positions = tensors.take("source_positions", Dtype::f64, {TensorReader::any, 3});
  net.sources = positions.extent(0);
  net.reference = positions.values;
  for (std::size_t index = 0; index < net.reference.size(); ++index) {
    net.reference[index] -= common.region.origin[index % 3];
  }
  const std::size_t antennas = common.n_antennas();
  if (net.sources > max_table / antennas) {
    throw_model_format("source_positions: " + std::to_string(net.sources) + " sources are more than is supported");
  }
  const auto& rotations = tensors.take("source_rotations", Dtype::f64, {net.sources, 3, 3}).values;
  const std::vector<double> offsets = antenna_offsets(common);
  net.stride = (antennas + source_lanes - 1) / source_lanes * source_lanes;
  net.sources_at.resize(net.sources * 3 * net.stride);
  for (std::size_t l = 0; l < net.sources; ++l) {
    for (std::size_t j = 0; j < antennas; ++j) {
      const double* offset = offsets.data() + 3 * j;
      double turned[3];
      for (std::size_t axis = 0; axis < 3; ++axis) {
        const double* row = rotations.data() + 9 * l + 3 * axis;
        turned[axis] = row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2];
        net.sources_at[(3 * l + axis) * net.stride + j] = net.reference[3 * l + axis] + turned[axis];
      }
      const double length = std::hypot(offset[0], offset[1], offset[2]);
      const double got = std::hypot(turned[0], turned[1], turned[2]);
      // a picometer: what is left of an offset of zero after rounding
      if (!(std::abs(got - length) <= stretch * length + 1e-12)) {
        throw_model_format("source_rotations: source " + std::to_string(l) + " makes antenna " + std::to_string(j) +
                           "'s offset of " + std::to_string(length) + " m one of " + std::to_string(got) + " m");
      }
    }
    for (std::size_t axis = 0; axis < 3; ++axis) {  // unused lanes repeat the last antenna
      double* const place = net.sources_at.data() + (3 * l + axis) * net.stride;
      std::fill(place + antennas, place + net.stride, place[antennas - 1]);
    }
  }
}

void read_gains(TensorReader& tensors, SphericalParameters& net) {
  net.variables = tensors.take("gain_variables", Dtype::f64, {net.sources, 2, 4}).values;
  const auto& coefficients = tensors.take("gain_coefficients", Dtype::f32, {net.sources, TensorReader::any, 2});
  net.terms = coefficients.extent(1);
  const auto terms_of = [](std::size_t degree) { return (degree + 1) * (degree + 2) / 2; };
  while (net.degree < max_gain_degree && terms_of(net.degree) < net.terms) ++net.degree;
  if (terms_of(net.degree) != net.terms) {
    throw_model_format("gain_coefficients: expected (q + 1)(q + 2) / 2 terms with a degree q of at most " +
                       std::to_string(max_gain_degree) + ", got " + std::to_string(net.terms));
  }
  net.coefficients.resize(coefficients.values.size());
  for (std::size_t l = 0; l < net.sources; ++l) {
    for (std::size_t term = 0; term < net.terms; ++term) {
      for (std::size_t part = 0; part < 2; ++part) {
        net.coefficients[(2 * l + part) * net.terms + term] =
            static_cast<float>(coefficients.values[2 * (l * net.terms + term) + part]);
      }
    }
  }
}

/// `owner` names the owner of each item, in order; begin[o] is the first item of owner o.
std::vector<std::size_t> ranges(const std::string& name, const std::vector<double>& owner, std::size_t owners) {
  std::vector<std::size_t> begin(owners + 1, 0);
  for (std::size_t item = 0; item < owner.size(); ++item) {
    const auto where = [&] { return " at index " + std::to_string(item); };
    if (owner[item] < 0 || owner[item] >= static_cast<double>(owners)) {
      throw_model_format(name + ": expected 0 to " + std::to_string(owners - 1) + ", got " +
                         std::to_string(static_cast<long long>(owner[item])) + where());
    }
    if (item > 0 && owner[item] < owner[item - 1]) throw_model_format(name + ": not in ascending order" + where());
    ++begin[static_cast<std::size_t>(owner[item]) + 1];
  }
  for (std::size_t o = 0; o < owners; ++o) begin[o + 1] += begin[o];
  return begin;
}

void read_gates(const ModelCommon& common, TensorReader& tensors, SphericalParameters& net) {
  net.source_begin.assign(net.sources + 1, 0);
  net.cell_begin.assign(1, 0);
  if (!tensors.has("gate_lines") && !tensors.has("gate_line_cell") && !tensors.has("gate_cell_source")) return;
  const auto& lines = tensors.take("gate_lines", Dtype::f64, {TensorReader::any, 6});
  if (lines.extent(0) > max_table / common.n_antennas()) {
    throw_model_format("gate_lines: " + std::to_string(lines.extent(0)) + " lines are more than is supported");
  }
  for (std::size_t line = 0; line < lines.extent(0); ++line) {
    const double* six = lines.values.data() + 6 * line;
    net.lines.push_back({{six[0], six[1], six[2]}, {six[3], six[4], six[5]}});
  }
  const auto& cells = tensors.take("gate_cell_source", Dtype::i32, {TensorReader::any});
  net.source_begin = ranges("gate_cell_source", cells.values, net.sources);
  const auto& owner = tensors.take("gate_line_cell", Dtype::i32, {net.lines.size()});
  net.cell_begin = ranges("gate_line_cell", owner.values, cells.extent(0));
  for (std::size_t cell = 0; cell < cells.extent(0); ++cell) {
    if (net.cell_begin[cell] == net.cell_begin[cell + 1]) {
      throw_model_format("gate_line_cell: cell " + std::to_string(cell) + " has no line");
    }
  }
}

void lay_out_subcarriers(const ModelCommon& common, SphericalParameters& net) {
  const std::vector<double>& frequencies = common.frequencies;
  const std::size_t count = frequencies.size();
  const double step = count > 1 ? (frequencies.back() - frequencies.front()) / static_cast<double>(count - 1) : 0;
  net.step = step / speed_of_light;
  net.equal = true;
  for (std::size_t k = 0; k < count; ++k) {
    net.wavenumbers.push_back(frequencies[k] / speed_of_light);
    net.offsets.push_back(static_cast<float>(frequencies[k] - common.center_frequency));
    const double ideal = frequencies.front() + static_cast<double>(k) * step;
    // less than 1e-8 of a turn on a path of a kilometer
    if (!(std::abs(frequencies[k] - ideal) <= 1e-11 * speed_of_light)) net.equal = false;
  }
  const SegmentShape shape = segment_shape(count, net.equal);
  net.rows = shape.rows;
  net.pairs = shape.pairs;
}

}  // namespace

SphericalParameters read_spherical_parameters(const ModelCommon& common, TensorReader& tensors) {
  SphericalParameters net;
  read_sources(common, tensors, net);
  read_gains(tensors, net);
  read_gates(common, tensors, net);
  lay_out_subcarriers(common, net);
  return net;
}

ImplementationPointer read_spherical_model(ModelCommon common, TensorReader& tensors) {
  SphericalParameters parameters = read_spherical_parameters(common, tensors);
  return std::make_shared<SphericalModel>(std::move(common), std::move(parameters));
}

}  // namespace wavefix
