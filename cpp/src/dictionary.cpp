// SPDX-License-Identifier: Apache-2.0
#include "wavefix/dictionary.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "channel_math.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

using RowMajorMatrix = Eigen::Matrix<cfloat, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const RowMajorMatrix>;

constexpr std::size_t query_chunk = 256;
constexpr std::size_t entry_block = 64;

/// An entry that may be among the k nearest, with a lower bound of its cost.
struct Candidate {
  double lower_bound;
  std::size_t index;
};

/// What is known of one query while the tiles pass by.
struct Shortlist {
  bool valid = false;
  double norm = 0.0;
  std::vector<double> best_upper_bounds;  // max-heap of the k smallest upper bounds
  std::vector<Candidate> candidates;

  void consider(std::size_t k, double cost, double error, std::size_t index) {
    const double upper = cost + error;
    if (best_upper_bounds.size() < k) {
      best_upper_bounds.push_back(upper);
      std::push_heap(best_upper_bounds.begin(), best_upper_bounds.end());
    } else if (upper < best_upper_bounds.front()) {
      std::pop_heap(best_upper_bounds.begin(), best_upper_bounds.end());
      best_upper_bounds.back() = upper;
      std::push_heap(best_upper_bounds.begin(), best_upper_bounds.end());
    }
    if (best_upper_bounds.size() < k || cost - error <= best_upper_bounds.front()) {
      candidates.push_back({cost - error, index});
    }
  }

  void prune(std::size_t k) {
    if (best_upper_bounds.size() < k) return;
    const double limit = best_upper_bounds.front();
    const auto hopeless = [limit](const Candidate& candidate) { return candidate.lower_bound > limit; };
    candidates.erase(std::remove_if(candidates.begin(), candidates.end(), hopeless), candidates.end());
  }
};

/// Order-preserving stand-ins for the distances: (4) squared, and the negative correlation of (5).
double cost_of(Similarity similarity, cdouble inner, double entry_energy, double query_norm) {
  if (similarity == Similarity::phase_sensitive) return entry_energy + query_norm * query_norm - 2.0 * inner.real();
  const double norms = std::sqrt(entry_energy) * query_norm;
  return norms > 0.0 ? -std::abs(inner) / norms : 0.0;
}

double exact_distance(Similarity similarity, const cfloat* query, const cfloat* entry, std::size_t size) {
  if (similarity == Similarity::phase_sensitive) return std::sqrt(detail::squared_distance(query, entry, size));
  const double norms = std::sqrt(detail::energy(query, size) * detail::energy(entry, size));
  const double correlation = norms > 0.0 ? std::abs(detail::inner_product(entry, query, size)) / norms : 0.0;
  return std::sqrt(std::max(0.0, 2.0 - 2.0 * correlation));
}

}  // namespace

Grid Grid::over(const Region& region, double spacing) {
  if (!(spacing > 0.0) || !std::isfinite(spacing)) {
    throw_shape("spacing", "a positive number of meters", std::to_string(spacing));
  }
  Grid grid;
  grid.origin = region.origin;
  grid.basis = region.basis;
  grid.spacing = spacing;
  double total = 1.0;
  for (std::size_t axis = 0; axis < region.dimension(); ++axis) {
    const double extent = region.upper[axis] - region.lower[axis];
    const double count = std::floor(extent / spacing + 1e-9) + 1.0;
    total *= count;
    if (total > 1099511627776.0) throw_shape("spacing", "a grid of at most 2^40 points", "a finer one");
    grid.counts.push_back(static_cast<std::size_t>(count));
    grid.lower.push_back(region.lower[axis] + (extent - (count - 1.0) * spacing) / 2.0);
  }
  return grid;
}

std::size_t Grid::size() const {
  std::size_t total = 1;
  for (const std::size_t count : counts) total *= count;
  return total;
}

void Grid::position(std::size_t index, double* xyz) const {
  std::copy(origin.begin(), origin.end(), xyz);
  for (std::size_t axis = counts.size(); axis-- > 0;) {  // the last axis runs fastest
    const double y = lower[axis] + spacing * static_cast<double>(index % counts[axis]);
    index /= counts[axis];
    for (std::size_t c = 0; c < 3; ++c) xyz[c] += y * basis[3 * axis + c];
  }
}

/// Where entries come from: stored channels if `model` is empty, the model on the grid otherwise.
struct Dictionary::Entries {
  std::size_t count = 0, n_antennas = 0, n_subcarriers = 0;
  std::vector<double> positions;  // stored: [count, 3]
  std::vector<cfloat> channels;   // stored: [count, n_antennas, n_subcarriers]
  std::vector<double> energies;   // stored: [count]
  std::unique_ptr<const ChannelModel> model;
  Grid grid;
  std::size_t memory_limit = default_memory_limit;

  std::size_t channel_size() const { return n_antennas * n_subcarriers; }

  std::size_t tile_rows(std::size_t n_queries) const {
    const std::size_t columns = std::clamp<std::size_t>(n_queries, 1, query_chunk);
    const std::size_t row = sizeof(cfloat) * (columns + (model ? channel_size() : 0));
    return std::clamp<std::size_t>(memory_limit / row, 1, count);
  }

  void position(std::size_t index, double* xyz) const {
    if (model) {
      grid.position(index, xyz);
    } else {
      std::copy_n(positions.data() + 3 * index, 3, xyz);
    }
  }

  /// Entries [begin, begin + rows), in `buffer` where they are generated.
  const cfloat* tile(std::size_t begin, std::size_t rows, std::vector<cfloat>& buffer, std::vector<double>& tile_energies,
                     const Execution& execution) const {
    if (!model) {
      tile_energies.assign(energies.begin() + static_cast<std::ptrdiff_t>(begin),
                           energies.begin() + static_cast<std::ptrdiff_t>(begin + rows));
      return channels.data() + begin * channel_size();
    }
    std::vector<double> tile_positions(3 * rows);
    for (std::size_t row = 0; row < rows; ++row) grid.position(begin + row, tile_positions.data() + 3 * row);
    buffer.resize(rows * channel_size());
    model->synthesize(View<const double, 2>(tile_positions.data(), {rows, 3}),
                      View<cfloat, 3>(buffer.data(), {rows, n_antennas, n_subcarriers}), execution);
    tile_energies.resize(rows);
    for (std::size_t row = 0; row < rows; ++row) {
      tile_energies[row] = detail::energy(buffer.data() + row * channel_size(), channel_size());
    }
    return buffer.data();
  }

  std::vector<Shortlist> scan(View<const cfloat, 3> queries, Similarity similarity, std::size_t k,
                              const Execution& execution) const;
  void rank(View<const cfloat, 3> queries, const std::vector<Shortlist>& shortlists, Similarity similarity,
            View<std::int64_t, 2> indices, View<double, 2> distances, const Execution& execution) const;
};

Dictionary::Dictionary(std::shared_ptr<const Entries> entries) : entries_(std::move(entries)) {}

Dictionary Dictionary::from_measurements(View<const double, 2> positions, View<const cfloat, 3> channels) {
  if (channels.empty()) throw_shape("channels", "at least one location, antenna and subcarrier", shape_text(channels.shape));
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
  entries->channels.assign(channels.data, channels.data + channels.size());
  entries->energies.resize(entries->count);
  for (std::size_t row = 0; row < entries->count; ++row) {
    entries->energies[row] = detail::energy(channels.row(row), channels.stride());
    if (!std::isfinite(entries->energies[row])) throw DataError("channels: all values must be finite");
  }
  return Dictionary(std::move(entries));
}

Dictionary Dictionary::from_model(const ChannelModel& model, const Grid& grid, std::size_t memory_limit) {
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
std::size_t Dictionary::bytes() const {
  return sizeof(double) * (entries_->positions.size() + entries_->energies.size()) +
         sizeof(cfloat) * entries_->channels.size() + (entries_->model ? entries_->model->bytes() : 0);
}
std::size_t Dictionary::search_bytes(std::size_t n_queries) const {
  const std::size_t columns = std::min(n_queries, query_chunk) + (entries_->model ? entries_->channel_size() : 0);
  return entries_->tile_rows(n_queries) * columns * sizeof(cfloat);
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

/// correlations [rows, n] = <entry, query> in float32, blocks of entries in parallel.
void correlate(const cfloat* tile, std::size_t rows, View<const cfloat, 3> queries, std::size_t first, std::size_t n,
               std::vector<cfloat>& correlations, const Execution& execution) {
  const auto columns = static_cast<Eigen::Index>(n), size = static_cast<Eigen::Index>(queries.stride());
  correlations.resize(rows * n);
  const ConstMap query_matrix(queries.row(first), columns, size);
  parallel_for((rows + entry_block - 1) / entry_block, execution, [&](std::size_t block, int) {
    const std::size_t begin = block * entry_block;
    const auto count = static_cast<Eigen::Index>(std::min(entry_block, rows - begin));
    const ConstMap entry_matrix(tile + begin * queries.stride(), count, size);
    Eigen::Map<RowMajorMatrix> out(correlations.data() + begin * n, count, columns);
    out.noalias() = entry_matrix.conjugate() * query_matrix.transpose();
  });
}

}  // namespace

/// The float32 pass: every entry that its error bound cannot exclude stays on the shortlist of its query.
std::vector<Shortlist> Dictionary::Entries::scan(View<const cfloat, 3> queries, Similarity similarity, std::size_t k,
                                                 const Execution& execution) const {
  const std::size_t n = queries.shape[0], size = channel_size();
  std::vector<Shortlist> shortlists(n);
  for (std::size_t query = 0; query < n; ++query) {
    const double energy = detail::energy(queries.row(query), size);
    shortlists[query].valid = std::isfinite(energy);
    shortlists[query].norm = std::sqrt(energy);
  }
  // A float32 inner product of `size` complex entries errs by at most (2 size + 4) 2^-24 ||a|| ||b|| in each part.
  const double rounding = std::sqrt(2.0) * (2.0 * static_cast<double>(size) + 4.0) * std::ldexp(1.0, -24);
  std::vector<cfloat> buffer, correlations;
  std::vector<double> tile_energies;
  const std::size_t step = tile_rows(n);
  for (std::size_t begin = 0; n > 0 && begin < count; begin += step) {
    const std::size_t rows = std::min(step, count - begin);
    const cfloat* const entries = tile(begin, rows, buffer, tile_energies, execution);
    for (std::size_t first = 0; first < n; first += query_chunk) {
      const std::size_t columns = std::min(query_chunk, n - first);
      correlate(entries, rows, queries, first, columns, correlations, execution);
      parallel_for(columns, execution, [&](std::size_t column, int) {
        Shortlist& shortlist = shortlists[first + column];
        if (!shortlist.valid) return;
        for (std::size_t row = 0; row < rows; ++row) {
          const cdouble inner(correlations[row * columns + column]);
          const bool squared = similarity == Similarity::phase_sensitive;
          const double scale = squared ? 2.0 * std::sqrt(tile_energies[row]) * shortlist.norm : 1.0;
          shortlist.consider(k, cost_of(similarity, inner, tile_energies[row], shortlist.norm), rounding * scale,
                             begin + row);
        }
        shortlist.prune(k);
      });
    }
  }
  return shortlists;
}

/// The shortlists in float64, k best each.
void Dictionary::Entries::rank(View<const cfloat, 3> queries, const std::vector<Shortlist>& shortlists,
                               Similarity similarity, View<std::int64_t, 2> indices, View<double, 2> distances,
                               const Execution& execution) const {
  const std::size_t n = queries.shape[0], k = indices.shape[1], size = channel_size();
  const auto workers = static_cast<std::size_t>(thread_count(n, execution.threads));
  std::vector<std::unique_ptr<ChannelModel::Workspace>> workspaces;
  for (std::size_t worker = 0; model && worker < workers; ++worker) workspaces.push_back(model->make_workspace());
  std::vector<std::vector<cfloat>> generated(workers, std::vector<cfloat>(model ? size : 0));
  parallel_for(n, execution, [&](std::size_t query, int worker_number) {
    const auto worker = static_cast<std::size_t>(worker_number);
    std::fill_n(indices.row(query), k, std::int64_t{-1});
    std::fill_n(distances.row(query), k, std::numeric_limits<double>::quiet_NaN());
    if (!shortlists[query].valid) return;
    std::vector<std::pair<double, std::size_t>> ranked;
    for (const Candidate& candidate : shortlists[query].candidates) {
      const cfloat* entry = channels.data() + candidate.index * size;
      if (model) {
        double xyz[3];
        grid.position(candidate.index, xyz);
        model->synthesize_one(xyz, generated[worker].data(), nullptr, *workspaces[worker]);
        entry = generated[worker].data();
      }
      ranked.emplace_back(exact_distance(similarity, queries.row(query), entry, size), candidate.index);
    }
    std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(k), ranked.end());
    for (std::size_t place = 0; place < k; ++place) {
      distances.row(query)[place] = ranked[place].first;
      indices.row(query)[place] = static_cast<std::int64_t>(ranked[place].second);
    }
  });
}

void Dictionary::search(View<const cfloat, 3> queries, Similarity similarity, View<std::int64_t, 2> indices,
                        View<double, 2> distances, const Execution& execution) const {
  validate_search(queries, *this, indices, distances);
  const auto shortlists = entries_->scan(queries, similarity, indices.shape[1], execution);
  entries_->rank(queries, shortlists, similarity, indices, distances, execution);
}

}  // namespace wavefix
