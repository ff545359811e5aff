// SPDX-License-Identifier: Apache-2.0
#include "wavefix/channel_model.hpp"

#include <pybind11/stl.h>

#include <cstring>
#include <string_view>

#include "arrays.hpp"
#include "stages.hpp"

namespace wavefix::bindings {
namespace {

py::array_t<double> array_of(const std::vector<double>& values, std::size_t columns) {
  std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(values.size() / columns)};
  if (columns > 1) shape.push_back(static_cast<py::ssize_t>(columns));
  py::array_t<double> array(shape);
  if (!values.empty()) std::memcpy(array.mutable_data(), values.data(), values.size() * sizeof(double));
  return array;
}

ChannelModel from_bytes(const py::bytes& data) {
  const auto view = static_cast<std::string_view>(data);
  const GilReleased released;
  return ChannelModel::from_bytes(view.data(), view.size());
}

py::array synthesize(const ChannelModel& model, const py::object& positions, const py::object& out, int threads) {
  const auto points = view_of<const double, 2>(positions, "positions", {any_extent, 3});
  const std::array<std::size_t, 3> shape{points.shape[0], model.n_antennas(), model.n_subcarriers()};
  const auto channels = output_array<cfloat, 3>(out, "out", shape);
  require_apart({extent_of("out", channels.second)}, {extent_of("positions", points)});
  const Execution execution = execution_of(threads);
  {
    const GilReleased released;
    model.synthesize(points, channels.second, execution);
  }
  return channels.first;
}

py::tuple synthesize_with_jacobian(const ChannelModel& model, const py::object& positions, const py::object& out,
                                   const py::object& out_jacobian, int threads) {
  const auto points = view_of<const double, 2>(positions, "positions", {any_extent, 3});
  const std::array<std::size_t, 3> shape{points.shape[0], model.n_antennas(), model.n_subcarriers()};
  const auto channels = output_array<cfloat, 3>(out, "out", shape);
  const auto jacobian = output_array<cfloat, 4>(out_jacobian, "out_jacobian", {shape[0], 3, shape[1], shape[2]});
  require_apart({extent_of("out", channels.second), extent_of("out_jacobian", jacobian.second)},
                {extent_of("positions", points)});
  const Execution execution = execution_of(threads);
  {
    const GilReleased released;
    model.synthesize(points, channels.second, jacobian.second, execution);
  }
  return py::make_tuple(channels.first, jacobian.first);
}

}  // namespace

void bind_channel_model(py::module_& m) {
  m.attr("MAX_MODEL_BYTES") = ChannelModel::max_bytes;
  py::class_<Region>(m, "Region", "Where a model was trained: the box lower <= y <= upper of origin + basis^T y.")
      .def_property_readonly(
          "origin", [](const Region& r) { return array_of({r.origin.begin(), r.origin.end()}, 1); }, "[3], meters.")
      .def_property_readonly(
          "basis", [](const Region& r) { return array_of(r.basis, 3); }, "[d, 3], orthonormal rows.")
      .def_property_readonly(
          "lower", [](const Region& r) { return array_of(r.lower, 1); }, "[d], meters.")
      .def_property_readonly(
          "upper", [](const Region& r) { return array_of(r.upper, 1); }, "[d], meters.")
      .def(py::pickle([](const Region& r) { return py::make_tuple(r.origin, r.basis, r.lower, r.upper); },
                      [](const py::tuple& state) {
                        if (state.size() != 4) throw py::value_error("not the state of a Region");
                        return Region{state[0].cast<std::array<double, 3>>(), state[1].cast<std::vector<double>>(),
                                      state[2].cast<std::vector<double>>(), state[3].cast<std::vector<double>>()};
                      }));

  py::class_<ChannelModel>(m, "ChannelModel", "A trained channel model; wavefix.ChannelModel wraps it.")
      .def_static("from_bytes", &from_bytes, py::arg("data"), "Read the bytes of a model file.")
      .def_property_readonly("kind", &ChannelModel::kind)
      .def_property_readonly("n_antennas", &ChannelModel::n_antennas)
      .def_property_readonly("n_subcarriers", &ChannelModel::n_subcarriers)
      .def_property_readonly("n_atoms", &ChannelModel::n_atoms)
      .def_property_readonly("wavelength", &ChannelModel::wavelength, "Meters.")
      .def_property_readonly("validation_nmse", &ChannelModel::validation_nmse, "Linear, docs/equations.md (10).")
      .def_property_readonly("metadata", &ChannelModel::metadata)
      .def_property_readonly("region", &ChannelModel::region, py::return_value_policy::copy)
      .def_property_readonly(
          "antenna_positions", [](const ChannelModel& model) { return array_of(model.antenna_positions(), 3); },
          "[n_antennas, 3], meters.")
      .def_property_readonly(
          "frequencies", [](const ChannelModel& model) { return array_of(model.frequencies(), 1); },
          "[n_subcarriers], Hz.")
      .def("synthesize", &synthesize, py::arg("positions"), py::arg("out") = py::none(), py::arg("threads") = 0,
           "Channels [n, n_antennas, n_subcarriers] complex64 at positions [n, 3] float64 in meters.")
      .def("synthesize_with_jacobian", &synthesize_with_jacobian, py::arg("positions"), py::arg("out") = py::none(),
           py::arg("out_jacobian") = py::none(), py::arg("threads") = 0,
           "Channels, and their derivatives [n, 3, n_antennas, n_subcarriers] per meter.");
}

}  // namespace wavefix::bindings
