// SPDX-License-Identifier: Apache-2.0
#include "wavefix/source_fit.hpp"

#include <pybind11/stl.h>

#include "arrays.hpp"
#include "stages.hpp"

namespace wavefix::bindings {
namespace {

/// A measurement and sources as the arrays come from Python.
struct Arrays {
  Arrays(const py::object& positions, const py::object& offsets, const py::object& frequencies,
         const py::object& source_positions, const py::object& source_rotations) {
    measurement.positions = view_of<const double, 2>(positions, "positions", {any_extent, 3});
    measurement.offsets = view_of<const double, 2>(offsets, "offsets", {any_extent, 3});
    measurement.frequencies = view_of<const double, 1>(frequencies, "frequencies", {any_extent});
    sources.positions = view_of<const double, 2>(source_positions, "source_positions", {any_extent, 3});
    sources.rotations =
        view_of<const double, 3>(source_rotations, "source_rotations", {sources.positions.shape[0], 3, 3});
  }
  std::array<std::size_t, 3> channel_shape() const {
    return {measurement.positions.shape[0], measurement.offsets.shape[0], measurement.frequencies.shape[0]};
  }
  Measurement measurement;
  SourceGeometry sources;
};

SourceGains gains_of(std::size_t count, const py::object& variables, const py::object& coefficients,
                     const py::object& gate_lines, const py::object& gate_line_cell,
                     const py::object& gate_cell_source) {
  SourceGains gains;
  gains.variables = view_of<const double, 3>(variables, "variables", {count, 2, 4});
  gains.coefficients = view_of<const cdouble, 2>(coefficients, "coefficients", {count, any_extent});
  gains.gate_lines = view_of<const double, 2>(gate_lines, "gate_lines", {any_extent, 6});
  gains.gate_line_cell = view_of<const std::int32_t, 1>(gate_line_cell, "gate_line_cell", {gains.gate_lines.shape[0]});
  gains.gate_cell_source = view_of<const std::int32_t, 1>(gate_cell_source, "gate_cell_source", {any_extent});
  return gains;
}

/// How many coefficients each source has, of the `most` that there is room for.
View<const std::int32_t, 1> terms_of(const py::object& terms, std::size_t count, std::size_t most) {
  const auto view = view_of<const std::int32_t, 1>(terms, "terms", {count});
  for (std::size_t l = 0; l < count; ++l) {
    if (view.data[l] < 1 || static_cast<std::size_t>(view.data[l]) > most) {
      throw_shape("terms", "1 to " + std::to_string(most), std::to_string(view.data[l]));
    }
  }
  return view;
}

void accumulate(const py::object& positions, const py::object& offsets, const py::object& frequencies,
                const py::object& source_positions, const py::object& source_rotations, const py::object& amplitudes,
                const py::object& channels, int threads) {
  const Arrays arrays(positions, offsets, frequencies, source_positions, source_rotations);
  const auto [n, antennas, tones] = arrays.channel_shape();
  const auto amplitude_view =
      view_of<const cfloat, 3>(amplitudes, "amplitudes", {n, antennas, arrays.sources.positions.shape[0]});
  const auto channel_view = view_of<cfloat, 3>(channels, "channels", {n, antennas, tones});
  const Execution execution = execution_of(threads);
  const GilReleased release;
  source_accumulate(arrays.measurement, arrays.sources, amplitude_view, channel_view, execution);
}

py::array project(const py::object& positions, const py::object& offsets, const py::object& frequencies,
                  const py::object& source_positions, const py::object& source_rotations, const py::object& channels,
                  int threads) {
  const Arrays arrays(positions, offsets, frequencies, source_positions, source_rotations);
  const auto channel_view = view_of<const cfloat, 3>(channels, "channels", arrays.channel_shape());
  const auto [n, antennas, tones] = arrays.channel_shape();
  auto [out, out_view] = output_array<cfloat, 3>(py::none(), "out", {arrays.sources.positions.shape[0], n, antennas});
  const Execution execution = execution_of(threads);
  {
    const GilReleased release;
    source_project(arrays.measurement, arrays.sources, channel_view, out_view, execution);
  }
  return out;
}

py::array scores(const py::object& positions, const py::object& values, const py::object& candidates, double frequency,
                 int threads) {
  const auto position_view = view_of<const double, 2>(positions, "positions", {any_extent, 3});
  const auto value_view = view_of<const cfloat, 1>(values, "values", {position_view.shape[0]});
  const auto candidate_view = view_of<const double, 2>(candidates, "candidates", {any_extent, 3});
  auto [out, out_view] = output_array<double, 1>(py::none(), "out", {candidate_view.shape[0]});
  const Execution execution = execution_of(threads);
  {
    const GilReleased release;
    source_scores(position_view, value_view, candidate_view, frequency, out_view, execution);
  }
  return out;
}

py::tuple normal_equations(const py::object& positions, const py::object& offsets, const py::object& frequencies,
                           const py::object& source_positions, const py::object& source_rotations,
                           const py::object& basis, const py::object& terms, const py::object& amplitudes,
                           const py::object& residual, const py::object& middle, double reference_frequency,
                           int threads) {
  const Arrays arrays(positions, offsets, frequencies, source_positions, source_rotations);
  const auto [n, antennas, tones] = arrays.channel_shape();
  const std::size_t count = arrays.sources.positions.shape[0];
  const auto basis_view = view_of<const float, 4>(basis, "basis", {n, antennas, count, any_extent});
  const auto amplitude_view = view_of<const cfloat, 3>(amplitudes, "amplitudes", {n, antennas, count});
  const auto residual_view = view_of<const cfloat, 3>(residual, "residual", {n, antennas, tones});
  const auto middle_view = view_of<const double, 1>(middle, "middle", {3});
  const auto terms_view = terms_of(terms, count, basis_view.shape[3]);
  std::size_t unknowns = 0;
  for (std::size_t l = 0; l < count; ++l) unknowns += 2 * static_cast<std::size_t>(terms_view.data[l]) + 6;
  auto [matrix, matrix_view] = output_array<double, 2>(py::none(), "matrix", {unknowns, unknowns});
  auto [gradient, gradient_view] = output_array<double, 1>(py::none(), "gradient", {unknowns});
  const Execution execution = execution_of(threads);
  {
    const GilReleased release;
    source_normal_equations(arrays.measurement, arrays.sources, basis_view, terms_view, amplitude_view, residual_view,
                            middle_view, reference_frequency, matrix_view, gradient_view, execution);
  }
  return py::make_tuple(matrix, gradient);
}

double refine(const py::object& positions, const py::object& offsets, const py::object& frequencies,
              const py::object& source_positions, const py::object& source_rotations, const py::object& variables,
              const py::object& coefficients, const py::object& gate_lines, const py::object& gate_line_cell,
              const py::object& gate_cell_source, const py::object& terms, const py::object& channels,
              const py::object& factors, const py::object& middle, double reference_frequency,
              const SourceRefineOptions& options, int threads) {
  const Arrays arrays(positions, offsets, frequencies, source_positions, source_rotations);
  const std::size_t count = arrays.sources.positions.shape[0];
  MovingSources sources;
  sources.positions = view_of<double, 2>(source_positions, "source_positions", {count, 3});
  sources.rotations = view_of<double, 3>(source_rotations, "source_rotations", {count, 3, 3});
  sources.coefficients = view_of<cdouble, 2>(coefficients, "coefficients", {count, any_extent});
  sources.terms = terms_of(terms, count, sources.coefficients.shape[1]);
  sources.gains = gains_of(count, variables, coefficients, gate_lines, gate_line_cell, gate_cell_source);
  const auto channel_view = view_of<const cfloat, 3>(channels, "channels", arrays.channel_shape());
  View<const double, 2> factor_view;
  if (!factors.is_none()) {
    factor_view = view_of<const double, 2>(factors, "factors", {channel_view.shape[0], channel_view.shape[1]});
  }
  const auto middle_view = view_of<const double, 1>(middle, "middle", {3});
  const Execution execution = execution_of(threads);
  const GilReleased release;
  return source_refine(arrays.measurement, channel_view, factor_view, middle_view, reference_frequency, sources,
                       options, execution);
}

py::tuple terms(const py::object& positions, const py::object& offsets, const py::object& frequencies,
                const py::object& source_positions, const py::object& source_rotations, const py::object& variables,
                const py::object& coefficients, const py::object& gate_lines, const py::object& gate_line_cell,
                const py::object& gate_cell_source, bool basis, int threads) {
  const Arrays arrays(positions, offsets, frequencies, source_positions, source_rotations);
  const std::size_t n = arrays.channel_shape()[0], antennas = arrays.channel_shape()[1];
  const std::size_t count = arrays.sources.positions.shape[0];
  const SourceGains gains = gains_of(count, variables, coefficients, gate_lines, gate_line_cell, gate_cell_source);
  const std::size_t terms = basis ? gains.coefficients.shape[1] : 0;
  auto [basis_out, basis_view] = output_array<float, 4>(py::none(), "basis", {n, antennas, count, terms});
  auto [out, out_view] = output_array<cfloat, 3>(py::none(), "amplitudes", {n, antennas, count});
  if (!basis) basis_view.data = nullptr;
  const Execution execution = execution_of(threads);
  {
    const GilReleased release;
    source_terms(arrays.measurement, arrays.sources, gains, basis_view, out_view, execution);
  }
  return py::make_tuple(basis_out, out);
}

py::tuple grow_gate(const py::object& positions, const py::object& offsets, const py::object& frequencies,
                    const py::object& source_position, const py::object& source_rotation,
                    std::vector<std::array<double, 6>> lines, std::vector<std::vector<int>> leaves,
                    const py::object& wanted, const py::object& weight, double least_gain, std::size_t most_lines,
                    double number_worth, int threads) {
  Measurement measurement;
  measurement.positions = view_of<const double, 2>(positions, "positions", {any_extent, 3});
  measurement.offsets = view_of<const double, 2>(offsets, "offsets", {any_extent, 3});
  measurement.frequencies = view_of<const double, 1>(frequencies, "frequencies", {any_extent});
  const auto position = view_of<const double, 1>(source_position, "source_position", {3});
  const auto rotation = view_of<const double, 2>(source_rotation, "source_rotation", {3, 3});
  const std::array<std::size_t, 2> shape{measurement.positions.shape[0], measurement.offsets.shape[0]};
  const auto wanted_view = view_of<const float, 2>(wanted, "wanted", shape);
  const auto weight_view = view_of<const float, 2>(weight, "weight", shape);
  const Execution execution = execution_of(threads);
  SourceGate gate{std::move(lines), std::move(leaves)};
  {
    const GilReleased release;
    gate = source_grow_gate(measurement, position, rotation, gate, wanted_view, weight_view,
                            {least_gain, most_lines, number_worth}, execution);
  }
  return py::make_tuple(gate.lines, gate.leaves);
}

}  // namespace

void bind_source_fit(py::module_& m) {
  py::class_<SourceRefineOptions>(m, "SourceRefineOptions")
      .def(py::init<>())
      .def_readwrite("iterations", &SourceRefineOptions::iterations)
      .def_readwrite("damping", &SourceRefineOptions::damping)
      .def_readwrite("least_gain", &SourceRefineOptions::least_gain)
      .def_readwrite("seconds", &SourceRefineOptions::seconds);
  m.def("source_refine", &refine, py::arg("positions"), py::arg("offsets"), py::arg("frequencies"),
        py::arg("source_positions"), py::arg("source_rotations"), py::arg("variables"), py::arg("coefficients"),
        py::arg("gate_lines"), py::arg("gate_line_cell"), py::arg("gate_cell_source"), py::arg("terms"),
        py::arg("channels"), py::arg("factors"), py::arg("middle"), py::arg("reference_frequency"), py::arg("options"),
        py::arg("threads") = 0);
  m.def("source_accumulate", &accumulate, py::arg("positions"), py::arg("offsets"), py::arg("frequencies"),
        py::arg("source_positions"), py::arg("source_rotations"), py::arg("amplitudes"), py::arg("channels"),
        py::arg("threads") = 0);
  m.def("source_project", &project, py::arg("positions"), py::arg("offsets"), py::arg("frequencies"),
        py::arg("source_positions"), py::arg("source_rotations"), py::arg("channels"), py::arg("threads") = 0);
  m.def("source_scores", &scores, py::arg("positions"), py::arg("values"), py::arg("candidates"), py::arg("frequency"),
        py::arg("threads") = 0);
  m.def("source_terms", &terms, py::arg("positions"), py::arg("offsets"), py::arg("frequencies"),
        py::arg("source_positions"), py::arg("source_rotations"), py::arg("variables"), py::arg("coefficients"),
        py::arg("gate_lines"), py::arg("gate_line_cell"), py::arg("gate_cell_source"), py::arg("basis") = true,
        py::arg("threads") = 0);
  m.def("source_grow_gate", &grow_gate, py::arg("positions"), py::arg("offsets"), py::arg("frequencies"),
        py::arg("source_position"), py::arg("source_rotation"), py::arg("lines"), py::arg("leaves"), py::arg("wanted"),
        py::arg("weight"), py::arg("least_gain"), py::arg("most_lines"), py::arg("number_worth") = 0.0,
        py::arg("threads") = 0);
  m.def("source_normal_equations", &normal_equations, py::arg("positions"), py::arg("offsets"), py::arg("frequencies"),
        py::arg("source_positions"), py::arg("source_rotations"), py::arg("basis"), py::arg("terms"),
        py::arg("amplitudes"), py::arg("residual"), py::arg("middle"), py::arg("reference_frequency"),
        py::arg("threads") = 0);
}

}  // namespace wavefix::bindings
