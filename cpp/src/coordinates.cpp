// SPDX-License-Identifier: Apache-2.0
#include "coordinates.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "directions.hpp"
#include "kernels.hpp"

namespace wavefix {
namespace {

using Eigen::Index;

/// Rounded to the nearest for |value| < 2^51, without a call.
inline double nearest(double value) {
  constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52
  return (value + rounder) - rounder;
}

/// Not less than the root of a square that is known to `slack`.
inline float root_above(double square, double slack) {
  return static_cast<float>(std::sqrt(std::max(0.0, square) + slack) * (1.0 + 1e-6));
}

template <class T>
constexpr bool is_byte = sizeof(T) == 1;

}  // namespace

/// What rounding takes off, and what the coordinates leave, of a channel over its norm; its integers are `scale` times
/// its coordinates.
struct Coordinates::Rounded {
  double lead_lost, lost, scale;
  float lead_tail, tail;
};

Coordinates::Coordinates(const ChannelAt& channel, const double* norms, std::size_t count, std::size_t size, bool basis,
                         const Execution& execution)
    : size_(size), levels_(2 * size), lead_(2 * size) {
  constexpr std::size_t step = 4;
  if (size >= 2 * step) lead_ = 2 * ((size / 4 + step - 1) / step * step);
  if (basis && basis_may_pay(count, size)) choose_basis(channel, count, execution);
  in_bytes_ = rank_ == 0 && kernels().byte_products != nullptr;
  if (in_bytes_) {
    for (std::size_t* const levels : {&levels_, &lead_}) *levels = (*levels + byte_step - 1) / byte_step * byte_step;
  }
  if (4 * lead_ > 3 * levels_) lead_ = levels_;
  fill_entries(channel, norms, count, execution);
}

void Coordinates::choose_basis(const ChannelAt& channel, std::size_t count, const Execution& execution) {
  const Directions found = principal_directions(channel, count, size_, execution);
  if (found.basis.size() == 0) return;
  rank_ = static_cast<std::size_t>(found.basis.cols());
  levels_ = 2 * rank_, lead_ = 2 * found.lead;
  defect_ = found.defect;
  fill_basis(found.basis, execution);
}

template <class Store>
Coordinates::Rounded Coordinates::round(const double* coordinates, const cfloat* channel, double norm,
                                        const Store& store) const {
  const double inverse = norm > 0.0 ? 1.0 / norm : 0.0;
  const auto* const own = reinterpret_cast<const float*>(channel);
  const auto value_of = [&](std::size_t level) {
    if (rank_ > 0) return inverse * coordinates[level];
    return level < 2 * size_ ? inverse * static_cast<double>(own[level]) : 0.0;
  };
  double scale = length;
  if (in_bytes_) {
    double highest = 127.0 / length;
    for (std::size_t level = 0; level < levels_; ++level) highest = std::max(highest, std::abs(value_of(level)));
    scale = 127.0 / highest;
  }
  double inside[2] = {0.0, 0.0}, lost[2] = {0.0, 0.0};
  std::size_t level = 0;
  for (int part = 0; part < 2; ++part) {
    for (const std::size_t end = part == 0 ? lead_ : levels_; level < end; ++level) {
      const double value = value_of(level);
      const double integer = nearest(scale * value), off = value - (1.0 / scale) * integer;
      inside[part] += value * value;
      lost[part] += off * off;
      store(level, integer);
    }
  }
  // 1 - ||U^H e||^2 is exact up to the rounding of its sums and the defect of the basis
  const double slack = defect_ + 8.0 * std::sqrt(static_cast<double>(levels_)) *
                                     (2.0 * static_cast<double>(size_) + 4.0) * std::ldexp(1.0, -53);
  const double outside = rank_ > 0 ? 1.0 - inside[0] - inside[1] : 0.0;
  return {std::sqrt(lost[0]), std::sqrt(lost[0] + lost[1]), scale, root_above(1.0 - inside[0], slack),
          root_above(outside, slack)};
}

/// `rows` entries of a block, from entry `first` on.
template <class T>
void Coordinates::fill_rows(const cfloat* const* channels, const double* coordinates, std::size_t first,
                            std::size_t rows, const double* norms, Parts<T>& parts, double& most_lost) {
  constexpr std::size_t together = 4 / sizeof(T);
  constexpr double shift = is_byte<T> ? 128.0 : 0.0;
  T* const leading = parts.leading.data() + first * lead_;
  T* const others = parts.others.data() + first * (levels_ - lead_);
  std::fill_n(leading, lead_ * block_rows, T{0});
  std::fill_n(others, (levels_ - lead_) * block_rows, T{0});
  for (std::size_t row = 0; row < rows; ++row) {
    const Rounded rounded =
        round(coordinates + row * levels_, channels[row], norms[first + row], [&](std::size_t level, double value) {
          T* const part = level < lead_ ? leading : others;
          const std::size_t at = level < lead_ ? level : level - lead_;
          part[(at / together * block_rows + row) * together + at % together] = static_cast<T>(value + shift);
        });
    lead_tails_[first + row] = rounded.lead_tail, tails_[first + row] = rounded.tail;
    if (is_byte<T>) {
      byte_scales_[first + row] = static_cast<float>(1.0 / rounded.scale);
      lead_tails_[first + row] += static_cast<float>(2.000001 * rounded.lead_lost);
      tails_[first + row] += static_cast<float>(2.000001 * rounded.lost);
    } else {
      most_lost = std::max(most_lost, rounded.lost);
    }
    const double share = norms[first + row] / reference_;
    const bool small = share < 1e-18;  // its inverse says nothing in float
    norms_[first + row] = small ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(share);
    inverse_norms_[first + row] = small ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(1.0 / share);
  }
}

void Coordinates::fill_entries(const ChannelAt& channel, const double* norms, std::size_t count,
                               const Execution& execution) {
  const std::size_t blocks = (count + block_rows - 1) / block_rows, padded_count = blocks * block_rows;
  const auto make_room = [&](auto& parts) {
    parts.leading.resize(padded_count * lead_);
    parts.others.resize(padded_count * (levels_ - lead_));
  };
  if (in_bytes_) {
    make_room(bytes_), byte_scales_.assign(padded_count, 0.0f);
  } else {
    make_room(pairs_);
  }
  for (auto* const values : {&lead_tails_, &tails_, &norms_, &inverse_norms_}) values->assign(padded_count, 0.0f);
  const double highest = *std::max_element(norms, norms + count);
  reference_ = highest > 0.0 ? highest : 1.0;
  const auto workers = static_cast<std::size_t>(thread_count(blocks, execution.threads));
  const std::size_t together = rank_ > 0 ? group * levels_ : 0;  // their coordinates, then scratch
  std::vector<double> space(workers * (together + scratch_size())), lost(workers, 0.0);
  parallel_for(blocks, execution, [&](std::size_t block, int worker) {
    double* const coordinates = space.data() + static_cast<std::size_t>(worker) * (together + scratch_size());
    const std::size_t first = block * block_rows, rows = std::min(block_rows, count - first);
    const cfloat* channels[group] = {};
    for (std::size_t row = 0; row < rows; ++row) channels[row] = channel(first + row);
    if (rank_ > 0) multiply_basis(channels, rows, 0, slices(), coordinates, coordinates + together);
    double& most_lost = lost[static_cast<std::size_t>(worker)];
    if (in_bytes_) {
      fill_rows(channels, coordinates, first, rows, norms, bytes_, most_lost);
    } else {
      fill_rows(channels, coordinates, first, rows, norms, pairs_, most_lost);
    }
  });
  lost_ = *std::max_element(lost.begin(), lost.end());
}

void Coordinates::fill_basis(const Eigen::MatrixXcd& basis, const Execution& execution) {
  basis_.resize((2 * size_ + panel_depth - 1) / panel_depth);
  parallel_for(basis_.size(), execution, [&](std::size_t panel, int) {
    const std::size_t begin = panel * panel_depth, depth = std::min(panel_depth, 2 * size_ - begin);
    basis_[panel] = PackedMatrix<double>(rank_, depth);
    for (std::size_t i = 0; i < rank_; ++i) {
      for (std::size_t at = 0; at < depth; at += 2) {
        const cdouble value = basis(static_cast<Index>((begin + at) / 2), static_cast<Index>(i));
        basis_[panel].at(i, at) = value.real(), basis_[panel].at(i, at + 1) = value.imag();
      }
    }
  });
}

std::size_t Coordinates::bytes() const {
  return sizeof(double) * 2 * rank_ * size_ + sizeof(std::int16_t) * (pairs_.leading.size() + pairs_.others.size()) +
         bytes_.leading.size() + bytes_.others.size() +
         sizeof(float) *
             (byte_scales_.size() + lead_tails_.size() + tails_.size() + norms_.size() + inverse_norms_.size());
}

std::size_t Coordinates::slices() const { return (rank_ + slice_rows - 1) / slice_rows; }
std::size_t Coordinates::scratch_size() const {
  return rank_ == 0 ? 0 : 2 * group * (panel_depth + lane_padding + padded(rank_));
}

/// The product with a direction u is u^H q: real and imaginary parts are those of u's numbers, interleaved, with q's
/// and with -j q's. So the basis is stored, and read, once for both.
void Coordinates::multiply_basis(const cfloat* const* channels, std::size_t count, std::size_t first_slice,
                                 std::size_t n_slices, double* coordinates, double* scratch) const {
  constexpr std::size_t stride = panel_depth + lane_padding;
  double* const products = scratch + 2 * group * stride;
  const std::size_t begin = first_slice * slice_rows, rows = std::min(rank_ - begin, n_slices * slice_rows);
  for (std::size_t panel = 0; panel < basis_.size(); ++panel) {
    const std::size_t depth = basis_[panel].depth();
    for (std::size_t column = 0; column < count; ++column) {
      const auto* const interleaved = reinterpret_cast<const float*>(channels[column]) + panel * panel_depth;
      double* const plain = scratch + 2 * column * stride;
      double* const turned = plain + stride;
      for (std::size_t at = 0; at < depth; at += 2) {
        plain[at] = turned[at + 1] = interleaved[at];
        plain[at + 1] = turned[at] = interleaved[at + 1];
        turned[at + 1] = -turned[at + 1];
      }
    }
    basis_[panel].multiply_blocks(first_slice, n_slices, scratch, 2 * count, stride, products, rows);
    for (std::size_t column = 0; column < count; ++column) {
      const double* const real = products + 2 * column * rows;
      double* const to = coordinates + column * levels_ + 2 * begin;
      for (std::size_t i = 0; i < rows; ++i) {
        to[2 * i] = (panel == 0 ? 0.0 : to[2 * i]) + real[i];
        to[2 * i + 1] = (panel == 0 ? 0.0 : to[2 * i + 1]) + real[rows + i];
      }
    }
    checkpoint();
  }
}

Coordinates::Query Coordinates::project(const double* coordinates, const cfloat* channel, double norm,
                                        std::int16_t* out) const {
  const Rounded rounded = round(coordinates, channel, norm, [out](std::size_t level, double value) {
    out[level] = static_cast<std::int16_t>(value);
  });
  // Of entry and query; the basis; float64 coordinates; float32 sums of the products.
  const double rounding = lost_ + (1.0 + lost_) * rounded.lost + 3.0 * defect_ + 1e-6;
  return {rounded.lead_tail, rounded.tail, rounding, 1.0 / (length * length)};
}

/// <e, q> - <e - e', q - q'> = <e', q - q'> + <e, q'>, whose first part is at most half of ||q|| + ||q'|| times twice
/// ||e'||, which is in the tails of entries.
Coordinates::Query Coordinates::project(const cfloat* channel, double norm, std::int8_t* out) const {
  const Rounded rounded = round(
      nullptr, channel, norm, [out](std::size_t level, double value) { out[level] = static_cast<std::int8_t>(value); });
  const double half = 0.5 * (1.0 + rounded.lost) + 1e-6;
  return {std::max<double>(rounded.lead_tail, half), std::max<double>(rounded.tail, half), rounded.lost + 1e-6,
          1.0 / rounded.scale};
}

void Coordinates::multiply(std::size_t block, bool all, const std::int16_t* const* columns, float* const* products,
                           std::size_t n_columns) const {
  const std::size_t others = levels_ - lead_;
  kernels().pair_products(
      {{pairs_.leading.data() + block * lead_ * block_rows, pairs_.others.data() + block * others * block_rows},
       {lead_, all ? others : 0},
       columns,
       products,
       n_columns});
}

void Coordinates::multiply(std::size_t block, bool all, const std::int8_t* const* columns, const int* starts,
                           float* const* products, std::size_t n_columns) const {
  const std::size_t others = levels_ - lead_;
  kernels().byte_products(
      {{bytes_.leading.data() + block * lead_ * block_rows, bytes_.others.data() + block * others * block_rows},
       {lead_, all ? others : 0},
       byte_scales_.data() + block * block_rows,
       columns,
       starts,
       products,
       n_columns});
}

}  // namespace wavefix
