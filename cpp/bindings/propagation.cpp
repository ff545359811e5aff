// SPDX-License-Identifier: Apache-2.0
#include "wavefix/propagation.hpp"

#include <pybind11/complex.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "arrays.hpp"
#include "stages.hpp"

namespace wavefix::bindings {
namespace {

/// A scene with its options, checked.
struct PropagationScene {
  Scene scene;
  SimulateOptions options;
};

using Points = std::vector<std::array<double, 3>>;

Points points_of(const py::object& array, const char* argument) {
  const auto view = view_of<const double, 2>(array, argument, {any_extent, 3});
  Points points(view.shape[0]);
  for (std::size_t i = 0; i < points.size(); ++i) std::copy_n(view.row(i), 3, points[i].begin());
  return points;
}

PropagationScene make_scene(const py::list& corners, const std::vector<std::array<double, 3>>& materials,
                            const py::object& antennas, double carrier, double bandwidth, std::size_t subcarriers,
                            int max_bounces) {
  if (materials.size() != corners.size()) {
    throw_shape("materials", std::to_string(corners.size()) + " of them", std::to_string(materials.size()));
  }
  PropagationScene made;
  for (std::size_t i = 0; i < materials.size(); ++i) {
    const auto& [permittivity, conductivity, thickness] = materials[i];
    made.scene.walls.push_back({points_of(corners[i], "corners"), {permittivity, conductivity, thickness}});
  }
  made.scene.antennas = points_of(antennas, "antenna_positions");
  made.scene.carrier = carrier;
  made.scene.bandwidth = bandwidth;
  made.scene.subcarriers = subcarriers;
  made.options.max_bounces = max_bounces;
  check_scene(made.scene, made.options);
  return made;
}

py::tuple simulate_scene(const PropagationScene& made, const py::object& positions, int threads) {
  const auto x = view_of<const double, 2>(positions, "positions", {any_extent, 3});
  const std::array<std::size_t, 3> shape{x.shape[0], made.scene.antennas.size(), made.scene.subcarriers};
  auto [channels, channel_view] = output_array<cfloat, 3>(py::none(), "channels", shape);
  auto [flags, flag_view] = output_array<bool, 1>(py::none(), "line_of_sight", {x.shape[0]});
  const Execution execution = execution_of(threads);
  {
    const GilReleased released;
    simulate(made.scene, x, channel_view, flag_view, made.options, execution);
  }
  return py::make_tuple(channels, flags);
}

py::list trace_scene(const PropagationScene& made, const std::array<double, 3>& position) {
  std::vector<Path> paths;
  {
    const GilReleased released;
    paths = trace(made.scene, position, made.options);
  }
  py::list list;
  for (const Path& path : paths) {
    py::array_t<double> sources({path.sources.size(), std::size_t{3}});
    std::copy_n(path.sources.front().data(), 3 * path.sources.size(), sources.mutable_data());
    py::array_t<cdouble> gains(static_cast<py::ssize_t>(path.gains.size()), path.gains.data());
    list.append(py::make_tuple(path.walls, sources, gains));
  }
  return list;
}

template <Coefficients (*function)(const Material&, double, double)>
std::pair<cdouble, cdouble> coefficients(double permittivity, double conductivity, double thickness, double frequency,
                                         double cosine) {
  const Coefficients both = function({permittivity, conductivity, thickness}, frequency, cosine);
  return {both.te, both.tm};
}

}  // namespace

void bind_propagation(py::module_& m) {
  py::class_<PropagationScene>(m, "PropagationScene", "Walls, array and band, checked; immutable.")
      .def(py::init(&make_scene), py::arg("corners"), py::arg("materials"), py::arg("antenna_positions"),
           py::arg("carrier"), py::arg("bandwidth"), py::arg("subcarriers"), py::arg("max_bounces"),
           "corners: a float64 array [m, 3] in meters for each wall; materials: (relative permittivity, conductivity "
           "in S/m, thickness in m or 0 for opaque) for each wall; antenna_positions [n_antennas, 3] float64 in "
           "meters; carrier and bandwidth in Hz.")
      .def_property_readonly(
          "frequencies",
          [](const PropagationScene& made) {
            const std::vector<double> values = frequencies_of(made.scene);
            return py::array_t<double>(static_cast<py::ssize_t>(values.size()), values.data());
          },
          "[n_subcarriers] float64, absolute, Hz.")
      .def("simulate", &simulate_scene, py::arg("positions"), py::arg("threads") = 0,
           "positions [n, 3] float64 in meters -> channels [n, n_antennas, n_subcarriers] complex64, "
           "line_of_sight [n] bool.")
      .def("trace", &trace_scene, py::arg("position"),
           "position (x, y, z) in meters -> list of (walls, sources [n_antennas, 3] float64 in meters, "
           "gains [n_antennas] complex128 in meters).");
  m.def("reflection", &coefficients<&reflection>, py::arg("relative_permittivity"), py::arg("conductivity"),
        py::arg("thickness"), py::arg("frequency"), py::arg("cos_incidence"),
        "Reflection coefficients (TE, TM) of docs/equations.md (8).");
  m.def("transmission", &coefficients<&transmission>, py::arg("relative_permittivity"), py::arg("conductivity"),
        py::arg("thickness"), py::arg("frequency"), py::arg("cos_incidence"),
        "Transmission coefficients (TE, TM) of a slab, docs/equations.md (8).");
}

}  // namespace wavefix::bindings
