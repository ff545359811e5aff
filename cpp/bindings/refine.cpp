// SPDX-License-Identifier: Apache-2.0
#include "wavefix/refine.hpp"

#include "arrays.hpp"
#include "stages.hpp"

namespace wavefix::bindings {
namespace {

py::tuple refine_batch(const ChannelModel& model, const py::object& channels, const py::object& starts,
                       const RefineOptions& options, int threads) {
  const auto channel_view =
      view_of<const cfloat, 3>(channels, "channels", {any_extent, model.n_antennas(), model.n_subcarriers()});
  const std::size_t n = channel_view.shape[0];
  const auto start_view = view_of<const double, 2>(starts, "starts", {n, 3});
  auto [positions, position_view] = output_array<double, 2>(py::none(), "positions", {n, 3});
  auto [costs, cost_view] = output_array<double, 1>(py::none(), "costs", {n});
  auto [iterations, iteration_view] = output_array<int, 1>(py::none(), "iterations", {n});
  const Execution execution = execution_of(threads);
  {
    const GilReleased release;
    refine(model, channel_view, start_view, options, position_view, cost_view, iteration_view, execution);
  }
  return py::make_tuple(positions, costs, iterations);
}

py::array bound(const ChannelModel& model, const py::object& positions, double snr_db, int threads) {
  const auto position_view = view_of<const double, 2>(positions, "positions", {any_extent, 3});
  auto [bounds, bound_view] = output_array<double, 1>(py::none(), "bounds", {position_view.shape[0]});
  const Execution execution = execution_of(threads);
  {
    const GilReleased release;
    position_error_bound(model, position_view, snr_db, bound_view, execution);
  }
  return bounds;
}

}  // namespace

void bind_refine(py::module_& m) {
  py::class_<RefineOptions>(m, "RefineOptions")
      .def(py::init<>())
      .def_readwrite("max_iterations", &RefineOptions::max_iterations)
      .def_readwrite("initial_damping", &RefineOptions::initial_damping)
      .def_readwrite("max_step", &RefineOptions::max_step)
      .def_readwrite("tolerance", &RefineOptions::tolerance);
  m.def("refine", &refine_batch, py::arg("model"), py::arg("channels"), py::arg("starts"), py::arg("options"),
        py::arg("threads") = 0);
  m.def("position_error_bound", &bound, py::arg("model"), py::arg("positions"), py::arg("snr_db"),
        py::arg("threads") = 0);
}

}  // namespace wavefix::bindings
