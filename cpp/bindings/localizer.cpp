// SPDX-License-Identifier: Apache-2.0
#include "wavefix/localizer.hpp"

#include <pybind11/native_enum.h>

#include "arrays.hpp"
#include "stages.hpp"

namespace wavefix::bindings {
namespace {

std::unique_ptr<Localizer> plan(const ChannelModel& model, const LocalizerOptions& options) {
  const Execution execution = execution_of(1);
  const GilReleased release;
  return std::make_unique<Localizer>(model, options, execution);
}

py::tuple locate(const Localizer& localizer, std::size_t n_antennas, std::size_t n_subcarriers,
                 const py::object& channels, const py::object& out, int threads) {
  const auto channel_view = view_of<const cfloat, 3>(channels, "channels", {any_extent, n_antennas, n_subcarriers});
  const std::size_t n = channel_view.shape[0];
  const auto given = [&out](const char* name) { return out.is_none() ? py::none() : py::object(out.attr(name)); };
  auto [position, position_view] = output_array<double, 2>(given("position"), "out.position", {n, 3});
  auto [covariance, covariance_view] = output_array<double, 3>(given("covariance"), "out.covariance", {n, 3, 3});
  auto [status, status_view] = output_array<std::uint8_t, 1>(given("status"), "out.status", {n});
  auto [residual, residual_view] = output_array<double, 1>(given("residual"), "out.residual", {n});
  auto [ambiguity, ambiguity_view] = output_array<double, 1>(given("ambiguity"), "out.ambiguity", {n});
  auto [floating, floating_view] = output_array<double, 2>(given("float_position"), "out.float_position", {n, 3});
  require_apart({extent_of("out.position", position_view), extent_of("out.covariance", covariance_view),
                 extent_of("out.status", status_view), extent_of("out.residual", residual_view),
                 extent_of("out.ambiguity", ambiguity_view), extent_of("out.float_position", floating_view)},
                {extent_of("channels", channel_view)});
  const Execution execution = execution_of(threads);
  {
    const GilReleased release;
    localizer.locate(channel_view,
                     {position_view, covariance_view, status_view, residual_view, ambiguity_view, floating_view},
                     execution);
  }
  return py::make_tuple(position, covariance, status, residual, ambiguity, floating);
}

}  // namespace

void bind_localizer(py::module_& m) {
  py::native_enum<Status>(m, "Status", "enum.IntEnum", "What a fix is worth; one value a query.")
      .value("OK", Status::ok)
      .value("AMBIGUOUS", Status::ambiguous)
      .value("POOR_FIT", Status::poor_fit)
      .value("OUTSIDE_REGION", Status::outside_region)
      .value("INVALID_INPUT", Status::invalid_input)
      .finalize();
  py::class_<LocalizerOptions>(m, "LocalizerOptions")
      .def(py::init<>())
      .def_readwrite("strategy", &LocalizerOptions::strategy)
      .def_readwrite("coarse_spacing", &LocalizerOptions::coarse_spacing)
      .def_readwrite("coarse_starts", &LocalizerOptions::coarse_starts)
      .def_readwrite("candidate_spacing", &LocalizerOptions::candidate_spacing)
      .def_readwrite("candidate_radius", &LocalizerOptions::candidate_radius)
      .def_readwrite("max_candidates", &LocalizerOptions::max_candidates)
      .def_readwrite("minima", &LocalizerOptions::minima)
      .def_readwrite("finalists", &LocalizerOptions::finalists)
      .def_readwrite("grid_spacing", &LocalizerOptions::grid_spacing)
      .def_readwrite("starts", &LocalizerOptions::starts)
      .def_readwrite("local_radius", &LocalizerOptions::local_radius)
      .def_readwrite("local_spacing", &LocalizerOptions::local_spacing)
      .def_readwrite("circles", &LocalizerOptions::circles)
      .def_readwrite("circle_spacing", &LocalizerOptions::circle_spacing)
      .def_readwrite("poor_fit_factor", &LocalizerOptions::poor_fit_factor)
      .def_readwrite("ambiguity_threshold", &LocalizerOptions::ambiguity_threshold)
      .def_readwrite("region_margin", &LocalizerOptions::region_margin)
      .def_readwrite("memory_limit", &LocalizerOptions::memory_limit)
      .def_readwrite("refine", &LocalizerOptions::refine);
  py::class_<Localizer>(m, "Localizer")
      .def(py::init(&plan), py::arg("model"), py::arg("options"))
      .def("locate", &locate, py::arg("n_antennas"), py::arg("n_subcarriers"), py::arg("channels"), py::arg("out"),
           py::arg("threads") = 0)
      .def_property_readonly("options", &Localizer::options)
      .def("nbytes", &Localizer::bytes, py::arg("n_queries"));
}

}  // namespace wavefix::bindings
