// SPDX-License-Identifier: Apache-2.0
#include "wavefix/dictionary.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "channel_math.hpp"
#include "packed_channels.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

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
  if (similarity == Similarity::phase_sensitive) {
    const double square = detail::squared_distance(query, entry, size);
    return std::isnan(square) ? std::numeric_limits<double>::infinity() : std::sqrt(square);  // the entry overflows
  }
  const double norms = std::sqrt(detail::energy(query, size) * detail::energy(entry, size));
  const double correlation = norms > 0.0 ? std::abs(detail::inner_product(entry, query, size)) / norms : 0.0;
  return std::sqrt(std::max(0.0, 2.0 - 2.0 * correlation));
}

/// Scratch of one thread for generated entries.
struct Generator {
  std::unique_ptr<ChannelModel::Workspace> workspace;
  std::vector<cfloat> channel;
  Buffer<float> block;
};

}  // namespace

/// Where entries come from: packed channels if `model` is empty, the model on the grid otherwise.
struct Dictionary::Entries {
  std::size_t count = 0, n_antennas = 0, n_subcarriers = 0;
  std::vector<double> positions;  // stored: [count, 3]
  Buffer<float> packed;           // stored: blocks of [2 n_antennas n_subcarriers][block_rows]
  std::vector<double> energies;   // stored: [count]
  std::unique_ptr<const ChannelModel> model;
  Grid grid;
  std::size_t memory_limit = default_memory_limit;

  std::size_t channel_size() const { return n_antennas * n_subcarriers; }
  std::size_t block_size() const { return 2 * channel_size() * block_rows; }
  std::size_t blocks() const { return (count + block_rows - 1) / block_rows; }
  const float* block(std::size_t index) const {
    return packed.data() + static_cast<std::ptrdiff_t>(index * block_size());
  }

  /// Queries whose columns take at most half of the limit.
  std::size_t query_chunk() const {
    return std::max<std::size_t>(memory_limit / 2 / (sizeof(float) * 2 * (2 * channel_size() + lane_padding)), 1);
  }

  /// Blocks whose products with `columns` query columns fit the limit.
  std::size_t tile_blocks(std::size_t columns) const {
    const std::size_t bytes = sizeof(float) * block_rows * std::max<std::size_t>(columns, 1);
    return std::clamp<std::size_t>(memory_limit / 2 / bytes, 1, blocks());
  }

  void position(std::size_t index, double* xyz) const {
    if (model) {
      grid.position(index, xyz);
    } else {
      std::copy_n(positions.data() + 3 * index, 3, xyz);
    }
  }

  std::vector<Generator> generators(int workers) const {
    std::vector<Generator> made(static_cast<std::size_t>(workers));
    for (Generator& generator : made) {
      generator.channel.resize(channel_size());
      if (!model) continue;
      generator.workspace = model->make_workspace();
      generator.block.setZero(static_cast<Eigen::Index>(block_size()));
    }
    return made;
  }

  /// The channel of one entry, in the generator's scratch.
  const cfloat* entry(std::size_t index, Generator& generator) const {
    if (model) {
      double xyz[3];
      grid.position(index, xyz);
      model->synthesize_one(xyz, generator.channel.data(), nullptr, *generator.workspace);
    } else {
      unpack_row(block(index / block_rows), channel_size(), index % block_rows, generator.channel.data());
    }
    return generator.channel.data();
  }

  /// One packed block with the energies of its entries.
  const float* prepare_block(std::size_t index, Generator& generator, double* block_energies) const {
    const std::size_t first = index * block_rows, rows = std::min(block_rows, count - first);
    if (!model) {
      std::copy_n(energies.data() + first, rows, block_energies);
      return block(index);
    }
    for (std::size_t row = 0; row < rows; ++row) {
      const cfloat* const channel = entry(first + row, generator);
      pack_row(channel, channel_size(), row, generator.block.data());
      block_energies[row] = detail::energy(channel, channel_size());
    }
    return generator.block.data();
  }

  std::vector<Shortlist> scan(View<const cfloat, 3> queries, Similarity similarity, std::size_t k,
                              const Execution& execution) const;
  void rank(View<const cfloat, 3> queries, const std::vector<Shortlist>& shortlists, Similarity similarity,
            View<std::int64_t, 2> indices, View<double, 2> distances, const Execution& execution) const;
};

Dictionary::Dictionary(std::shared_ptr<const Entries> entries) : entries_(std::move(entries)) {}

Dictionary Dictionary::from_measurements(View<const double, 2> positions, View<const cfloat, 3> channels) {
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
  entries->energies.resize(entries->count);
  entries->packed.setZero(static_cast<Eigen::Index>(entries->blocks() * entries->block_size()));
  for (std::size_t row = 0; row < entries->count; ++row) {
    entries->energies[row] = detail::energy(channels.row(row), channels.stride());
    if (!std::isfinite(entries->energies[row])) throw DataError("channels: all values must be finite");
    pack_row(channels.row(row), channels.stride(), row % block_rows,
             entries->packed.data() + static_cast<std::ptrdiff_t>(row / block_rows * entries->block_size()));
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
         sizeof(float) * static_cast<std::size_t>(entries_->packed.size()) +
         (entries_->model ? entries_->model->bytes() : 0);
}
std::size_t Dictionary::search_bytes(std::size_t n_queries) const {
  const std::size_t columns = 2 * std::min(n_queries, entries_->query_chunk());  // (5) takes two each
  const std::size_t workers = static_cast<std::size_t>(thread_count(entries_->blocks(), 0));
  return sizeof(float) * (entries_->tile_blocks(columns) * block_rows * columns +
                          columns * (2 * entries_->channel_size() + lane_padding) +
                          (entries_->model ? workers * entries_->block_size() : 0));
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
  // Terms below the least normal number lose up to half of the least denormal one each, in product and sum.
  const double rounding = std::sqrt(2.0) * (2.0 * static_cast<double>(size) + 4.0) * std::ldexp(1.0, -24);
  const double underflow = std::sqrt(2.0) * 4.0 * static_cast<double>(size) * std::ldexp(1.0, -149);
  const QueryColumns columns(queries, similarity);
  const std::size_t step = tile_blocks(columns.count), tile_rows = step * block_rows;
  std::vector<float> products(columns.count * tile_rows);  // [column][row of the tile]
  std::vector<double> tile_energies(tile_rows);
  std::vector<Generator> scratch = generators(thread_count(step, execution.threads));
  for (std::size_t first = 0; first < blocks(); first += step) {
    parallel_for(std::min(step, blocks() - first), execution, [&](std::size_t index, int worker) {
      const float* const ready = prepare_block(first + index, scratch[static_cast<std::size_t>(worker)],
                                               tile_energies.data() + index * block_rows);
      columns.multiply(ready, block_rows, products.data() + index * block_rows, tile_rows);
    });
    const std::size_t begin = first * block_rows, rows = std::min(tile_rows, count - begin);
    parallel_for(n, execution, [&](std::size_t query, int) {
      Shortlist& shortlist = shortlists[query];
      if (!shortlist.valid) return;
      const float* const real = products.data() + query * columns.per_query * tile_rows;
      const float* const imag = columns.per_query == 2 ? real + tile_rows : real;
      for (std::size_t row = 0; row < rows; ++row) {
        const double scale = columns.scale[query], norms = std::sqrt(tile_energies[row]) * shortlist.norm;
        const cdouble inner = scale * cdouble(real[row], imag[row]);
        double error = rounding * norms + underflow * scale;
        error = similarity == Similarity::phase_sensitive ? 2.0 * error : norms > 0.0 ? error / norms : 0.0;
        const double cost = cost_of(similarity, inner, tile_energies[row], shortlist.norm);
        if (std::isfinite(cost)) {
          shortlist.consider(k, cost, error, begin + row);
        } else {  // float32 overflowed: float64 decides
          shortlist.consider(k, 0.0, std::numeric_limits<double>::infinity(), begin + row);
        }
      }
      shortlist.prune(k);
    });
  }
  return shortlists;
}

/// The shortlists in float64, k best each.
void Dictionary::Entries::rank(View<const cfloat, 3> queries, const std::vector<Shortlist>& shortlists,
                               Similarity similarity, View<std::int64_t, 2> indices, View<double, 2> distances,
                               const Execution& execution) const {
  const std::size_t n = queries.shape[0], k = indices.shape[1], size = channel_size();
  std::vector<Generator> scratch = generators(thread_count(n, execution.threads));
  parallel_for(n, execution, [&](std::size_t query, int worker) {
    std::fill_n(indices.row(query), k, std::int64_t{-1});
    std::fill_n(distances.row(query), k, std::numeric_limits<double>::quiet_NaN());
    if (!shortlists[query].valid) return;
    std::vector<std::pair<double, std::size_t>> ranked;
    for (const Candidate& candidate : shortlists[query].candidates) {
      const cfloat* const channel = entry(candidate.index, scratch[static_cast<std::size_t>(worker)]);
      ranked.emplace_back(exact_distance(similarity, queries.row(query), channel, size), candidate.index);
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
  const std::size_t n = queries.shape[0], k = indices.shape[1];
  const std::size_t chunk = entries_->query_chunk();
  for (std::size_t first = 0; first < n; first += chunk) {
    const std::size_t rows = std::min(chunk, n - first);
    const View<const cfloat, 3> part(queries.row(first), {rows, queries.shape[1], queries.shape[2]});
    const auto shortlists = entries_->scan(part, similarity, k, execution);
    entries_->rank(part, shortlists, similarity, View<std::int64_t, 2>(indices.row(first), {rows, k}),
                   View<double, 2>(distances.row(first), {rows, k}), execution);
  }
}

}  // namespace wavefix
