// SPDX-License-Identifier: Apache-2.0
#include "wavefix/dictionary.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "dictionary_entries.hpp"
#include "kernels.hpp"
#include "untrapped.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
Dictionary::Dictionary(std::shared_ptr<const Entries> entries) : entries_(std::move(entries)) {}

/// Gigabytes take seconds: several threads, and an interrupt is answered.
void Dictionary::Entries::store(View<const cfloat, 3> channels, const Execution& execution) {
  parallel_for(count, execution, [&](std::size_t row, int) {
    energies[row] = energy_of(channels.row(row), channels.stride());
    norms[row] = std::sqrt(energies[row]);
    if (!std::isfinite(energies[row])) throw DataError("channels: all values must be finite");
    float* const to = rows.data() + row * stride();
    const auto* const from = reinterpret_cast<const float*>(channels.row(row));
    std::fill(std::copy_n(from, 2 * channels.stride(), to), to + stride(), 0.0f);
  });
}

Dictionary Dictionary::from_measurements(View<const double, 2> positions, View<const cfloat, 3> channels, bool subspace,
                                         const Execution& execution) {
  const Untrapped untrapped;
  if (channels.empty())
    throw_shape("channels", "at least one location, antenna and subcarrier", shape_text(channels.shape));
  if (positions.shape[0] != channels.shape[0] || positions.shape[1] != 3) {
    throw_shape("positions", "shape (" + std::to_string(channels.shape[0]) + ", 3)", shape_text(positions.shape));
  }
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (!std::isfinite(positions.data[i])) throw DataError("positions: all values must be finite");
  }
  auto entries = std::make_shared<Entries>();
  entries->count = channels.shape[0];
  entries->n_antennas = channels.shape[1];
  entries->n_subcarriers = channels.shape[2];
  entries->positions.assign(positions.data, positions.data + positions.size());
  entries->energies.resize(entries->blocks() * block_rows);
  entries->norms.resize(entries->blocks() * block_rows);
  entries->rows.resize(entries->count * entries->stride());
  entries->store(channels, execution);
  const Entries* const stored = entries.get();
  entries->coordinates = Coordinates([stored](std::size_t index) { return stored->stored(index); },
                                     stored->norms.data(), stored->count, stored->channel_size(), subspace, execution);
  return Dictionary(std::move(entries));
}

Dictionary Dictionary::from_model(const ChannelModel& model, const Grid& grid, std::size_t memory_limit) {
  const Untrapped untrapped;
  auto entries = std::make_shared<Entries>();
  entries->count = grid.size();
  entries->n_antennas = model.n_antennas();
  entries->n_subcarriers = model.n_subcarriers();
  entries->model = std::make_unique<const ChannelModel>(model);
  entries->grid = grid;
  entries->memory_limit = memory_limit;
  return Dictionary(std::move(entries));
}

std::size_t Dictionary::size() const { return entries_->count; }
std::size_t Dictionary::n_antennas() const { return entries_->n_antennas; }
std::size_t Dictionary::n_subcarriers() const { return entries_->n_subcarriers; }
std::size_t Dictionary::rank() const { return entries_->coordinates.rank(); }
std::size_t Dictionary::bytes() const {
  return sizeof(double) * (entries_->positions.size() + entries_->energies.size() + entries_->norms.size()) +
         sizeof(float) * entries_->rows.size() + entries_->coordinates.bytes() +
         (entries_->model ? entries_->model->bytes() : 0);
}
std::size_t Dictionary::search_bytes(std::size_t n_queries) const {
  const auto workers = static_cast<std::size_t>(thread_count(entries_->blocks(), 0));
  return std::min(n_queries, entries_->query_chunk(1)) * entries_->query_bytes(1) + workers * entries_->worker_bytes();
}
void Dictionary::position(std::size_t index, double* xyz) const {
  if (index >= size()) throw_shape("index", "less than " + std::to_string(size()), std::to_string(index));
  entries_->position(index, xyz);
}

namespace {

void validate_search(View<const cfloat, 3> queries, const Dictionary& dictionary, View<std::int64_t, 2> indices,
                     View<double, 2> distances) {
  const std::size_t n = queries.shape[0], k = indices.shape[1];
  if (queries.shape[1] != dictionary.n_antennas() || queries.shape[2] != dictionary.n_subcarriers()) {
    throw_shape("queries",
                shape_text(std::array<std::size_t, 3>{n, dictionary.n_antennas(), dictionary.n_subcarriers()}),
                shape_text(queries.shape));
  }
  if (k < 1 || k > dictionary.size()) {
    throw_shape("k", "1 to " + std::to_string(dictionary.size()) + " entries", std::to_string(k));
  }
  if (indices.shape[0] != n) throw_shape("indices", std::to_string(n) + " rows", shape_text(indices.shape));
  if (distances.shape != indices.shape) {
    throw_shape("distances", "shape " + shape_text(indices.shape), shape_text(distances.shape));
  }
}

}  // namespace

void Dictionary::search(View<const cfloat, 3> queries, Similarity similarity, View<std::int64_t, 2> indices,
                        View<double, 2> distances, const Execution& execution) const {
  const Untrapped untrapped;
  validate_search(queries, *this, indices, distances);
  const std::size_t n = queries.shape[0], k = indices.shape[1];
  const std::size_t chunk = entries_->query_chunk(k);
  for (std::size_t first = 0; first < n; first += chunk) {
    const std::size_t rows = std::min(chunk, n - first);
    const View<const cfloat, 3> part(queries.row(first), {rows, queries.shape[1], queries.shape[2]});
    auto shortlists = entries_->scan(part, similarity, k, execution);
    entries_->rank(part, shortlists, similarity, View<std::int64_t, 2>(indices.row(first), {rows, k}),
                   View<double, 2>(distances.row(first), {rows, k}), execution);
  }
}

}  // namespace wavefix
