// SPDX-License-Identifier: Apache-2.0
#include "wavefix/dictionary.hpp"

#include "arrays.hpp"
#include "stages.hpp"

namespace wavefix::bindings {
namespace {

Similarity parse_similarity(const std::string& name) {
  if (name == "phase_sensitive") return Similarity::phase_sensitive;
  if (name == "phase_insensitive") return Similarity::phase_insensitive;
  throw py::value_error("similarity: expected phase_sensitive or phase_insensitive, got " + name);
}

py::tuple search(const Dictionary& dictionary, const py::object& queries, const std::string& similarity, std::size_t k,
                 int threads) {
  const auto query_view =
      view_of<const cfloat, 3>(queries, "queries", {any_extent, dictionary.n_antennas(), dictionary.n_subcarriers()});
  const Similarity chosen = parse_similarity(similarity);
  if (k < 1 || k > dictionary.size()) {  // before the arrays of the answer are made
    throw_shape("k", "1 to " + std::to_string(dictionary.size()) + " entries", std::to_string(k));
  }
  const std::array<std::size_t, 2> shape{query_view.shape[0], k};
  auto [indices, index_view] = output_array<std::int64_t, 2>(py::none(), "indices", shape);
  auto [distances, distance_view] = output_array<double, 2>(py::none(), "distances", shape);
  const Execution execution = execution_of(threads);
  {
    const GilReleased release;
    dictionary.search(query_view, chosen, index_view, distance_view, execution);
  }
  return py::make_tuple(indices, distances);
}

py::array positions_of(const Dictionary& dictionary, const py::object& indices) {
  const auto index_view = view_of<const std::int64_t, 1>(indices, "indices", {any_extent});
  auto [positions, view] = output_array<double, 2>(py::none(), "positions", {index_view.shape[0], 3});
  for (std::size_t row = 0; row < index_view.shape[0]; ++row) {
    const std::int64_t index = index_view.data[row];
    if (index < 0 || static_cast<std::size_t>(index) >= dictionary.size()) {
      throw py::index_error("indices: expected 0 to " + std::to_string(dictionary.size() - 1) + ", got " +
                            std::to_string(index));
    }
    dictionary.position(static_cast<std::size_t>(index), view.row(row));
  }
  return positions;
}

}  // namespace

void bind_dictionary(py::module_& m) {
  py::class_<Dictionary>(m, "Dictionary")
      .def_static(
          "from_measurements",
          [](const py::object& positions, const py::object& channels, bool subspace) {
            const auto position_view = view_of<const double, 2>(positions, "positions", {any_extent, 3});
            const auto channel_view =
                view_of<const cfloat, 3>(channels, "channels", {any_extent, any_extent, any_extent});
            const Execution execution = execution_of(0);
            const GilReleased release;
            return Dictionary::from_measurements(position_view, channel_view, subspace, execution);
          },
          py::arg("positions"), py::arg("channels"), py::arg("subspace") = true)
      .def_static(
          "from_model",
          [](const ChannelModel& model, double spacing, std::size_t memory_limit) {
            return Dictionary::from_model(model, Grid::over(model.region(), spacing), memory_limit);
          },
          py::arg("model"), py::arg("spacing"), py::arg("memory_limit") = Dictionary::default_memory_limit)
      .def("search", &search, py::arg("queries"), py::arg("similarity"), py::arg("k"), py::arg("threads") = 0)
      .def("positions", &positions_of, py::arg("indices"))
      .def("search_bytes", &Dictionary::search_bytes, py::arg("n_queries"))
      .def_property_readonly("rank", &Dictionary::rank)
      .def_property_readonly("nbytes", &Dictionary::bytes)
      .def_property_readonly("n_antennas", &Dictionary::n_antennas)
      .def_property_readonly("n_subcarriers", &Dictionary::n_subcarriers)
      .def("__len__", &Dictionary::size);
}

}  // namespace wavefix::bindings
