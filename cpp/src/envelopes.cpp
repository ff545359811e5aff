// SPDX-License-Identifier: Apache-2.0
#include "envelopes.hpp"

#include <algorithm>
#include <cmath>

#include "angles.hpp"
#include "kernels.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr std::size_t none = static_cast<std::size_t>(-1);
constexpr std::size_t most_values = std::size_t{1} << 26;  // at the nodes of one box
constexpr std::size_t most_nodes = 2048;  // 10 to 100 do; more would find nothing where every path is astray
constexpr double out_of_scale = 0x1p40;   // a query so much weaker or stronger than the model fits nowhere anyway

}  // namespace

Envelopes::Envelopes(const PathPlan& plan)
    : plan_(plan), dimension_(plan.model->common.region.dimension()), sampler_(plan), pairs_(plan, 1) {
  const std::size_t capacity = plan.capacity;
  stride_ = 3 * capacity + capacity * (capacity - 1);
  paths_.reserve(capacity, plan.antennas());
  gram_.resize(static_cast<Eigen::Index>(capacity), static_cast<Eigen::Index>(capacity));
  products_.resize(static_cast<Eigen::Index>(capacity));
  gains_.resize(static_cast<Eigen::Index>(capacity));
  slot_of_.assign(plan.model->n_atoms(), none);
  index_.reserve(capacity);
  rates_.resize(capacity * dimension_);
  slopes_.resize(capacity * dimension_);
  bends_.resize(capacity * dimension_ * dimension_);
  here_.resize(stride_);
  phasors_.resize(3 * capacity);
  terms_.resize(capacity);
  sums_.resize(capacity);
}

/// Quadratic interpolation from the three nodes around the nearest one.
Envelopes::Cell Envelopes::cell_at(const Axis& axis, double half_width, double offset) const {
  const double at = (offset + half_width) / axis.spacing;
  const double middle = std::clamp(std::nearbyint(at), 1.0, static_cast<double>(axis.nodes) - 2.0);
  const auto s = static_cast<float>(at - middle);
  return {static_cast<std::size_t>(middle) - 1, {0.5f * s * (s - 1.0f), 1.0f - s * s, 0.5f * s * (s + 1.0f)}};
}

void Envelopes::build(const Query& query, const SearchBox& box, double spacing, double ridge) {
  box_ = box;
  do {
    node_count_ = 1;
    for (std::size_t d = 0; d < dimension_; ++d) {
      Axis& axis = axis_[d];
      axis.nodes = std::max<std::size_t>(3, static_cast<std::size_t>(std::ceil(2.0 * box.half_width[d] / spacing)) + 1);
      axis.spacing = 2.0 * box.half_width[d] / static_cast<double>(axis.nodes - 1);
      node_count_ *= axis.nodes;
    }
    spacing *= 1.25;
  } while (node_count_ > std::max<std::size_t>(27, std::min(most_nodes, most_values / stride_)));
  for (const std::size_t index : index_) slot_of_[index] = none;
  index_.clear();
  slots_ = 0;
  find_carriers();
  values_.assign(node_count_ * stride_, 0.0f);
  explained_.assign(node_count_, 0.0);
  for (std::size_t node = 0; node < node_count_; ++node) {
    double offset[3] = {};
    std::size_t rest = node;
    bool on_face = false;
    for (std::size_t d = dimension_; d-- > 0; rest /= axis_[d].nodes) {
      const std::size_t at = rest % axis_[d].nodes;
      offset[d] = axis_[d].spacing * static_cast<double>(at) - box.half_width[d];
      on_face = on_face || at == 0 || at + 1 == axis_[d].nodes;
    }
    fill_values(query, offset, values_.data() + node * stride_);
    if (on_face && in_region(offset)) explain_node(node, ridge);
  }
}

/// Whether a point of the box lies in the region, give or take a wavelength.
bool Envelopes::in_region(const double* offset) const {
  const ModelCommon& common = plan_.model->common;
  Point position;
  to_position(offset, position.data());
  return within(common.region, position, common.wavelength);
}

/// Uses up gram_.
void Envelopes::explain_node(std::size_t node, double ridge) {
  const auto n = static_cast<Eigen::Index>(paths_.count);
  if (n == 0) return;
  for (Eigen::Index l = 0; l < n; ++l) gram_(l, l) += ridge + 1e-6 * gram_(0, 0).real();
  auto gram = gram_.topLeftCorner(n, n);
  const Eigen::LLT<Eigen::Ref<ComplexMatrix>> factor(gram);  // in place: nothing is allocated
  auto gains = gains_.head(n);
  gains = products_.head(n);
  factor.matrixL().solveInPlace(gains);
  explained_[node] = gains.squaredNorm();
}

/// The most energy that the nodes of a face explain, or a parabola through three of them: it may peak between nodes.
double Envelopes::explained_on_face(std::size_t d, bool upper) const {
  std::size_t stride[3] = {1, 1, 1};
  for (std::size_t e = dimension_; e-- > 1;) stride[e - 1] = stride[e] * axis_[e].nodes;
  double most = 0.0;
  for (std::size_t node = 0; node < node_count_; ++node) {
    if (node / stride[d] % axis_[d].nodes != (upper ? axis_[d].nodes - 1 : 0)) continue;
    double value = explained_[node];
    for (std::size_t e = 0; e < dimension_; ++e) {
      const std::size_t at = node / stride[e] % axis_[e].nodes;
      if (e == d || at == 0 || at + 1 == axis_[e].nodes) continue;
      const double below = explained_[node - stride[e]], above = explained_[node + stride[e]];
      if (below == 0.0 || above == 0.0) continue;  // outside the region
      const double slope = 0.5 * (above - below), bend = above - 2.0 * explained_[node] + below;
      if (bend < 0.0 && std::abs(slope) <= -bend) value -= 0.5 * slope * slope / bend;
    }
    most = std::max(most, value);
  }
  return most;
}

void Envelopes::to_position(const double* offset, double* position) const {
  for (std::size_t c = 0; c < 3; ++c) {
    position[c] = box_.center[c];
    for (std::size_t d = 0; d < dimension_; ++d) position[c] += offset[d] * box_.axes[3 * d + c];
  }
}

/// Turns a meter along axis d of the box.
double Envelopes::rate_of(std::size_t path, std::size_t d) const {
  double along = 0.0;
  for (std::size_t c = 0; c < 3; ++c) along += paths_.direction[3 * path + c] * box_.axes[3 * d + c];
  return along / plan_.model->common.wavelength;
}

/// The slot of one of paths_; a new one gets a straight carrier along its direction. none if there is no room.
std::size_t Envelopes::slot_for(std::size_t path) {
  std::size_t& slot = slot_of_[paths_.index[path]];
  if (slot != none || slots_ == plan_.capacity) return slot;
  slot = slots_++;
  index_.push_back(paths_.index[path]);
  for (std::size_t d = 0; d < dimension_; ++d) rates_[slot * dimension_ + d] = rate_of(path, d);
  const std::size_t square = dimension_ * dimension_;
  std::fill_n(bends_.begin() + static_cast<std::ptrdiff_t>(slot * square), square, 0.0);
  return slot;
}

/// Any smooth carrier would do, since the envelopes are relative to it; the best one leaves them flattest: straight
/// along the direction at the center, bent as the directions turn.
void Envelopes::find_carriers() {
  sampler_.sample(box_.center.data(), paths_);
  for (std::size_t l = 0; l < paths_.count; ++l) slot_for(l);
  const double step = 0.25 * plan_.model->common.wavelength;
  for (std::size_t e = 0; e < dimension_; ++e) {
    double offset[3] = {}, position[3];
    offset[e] = step;
    to_position(offset, position);
    sampler_.sample(position, paths_);
    for (std::size_t l = 0; l < paths_.count; ++l) {
      const std::size_t slot = slot_of_[paths_.index[l]];
      for (std::size_t d = 0; slot != none && d < dimension_; ++d) {
        const double change = rate_of(l, d) - rates_[slot * dimension_ + d];
        bends_[(slot * dimension_ + d) * dimension_ + e] = 0.5 * change / step;
      }
    }
  }
}

/// Turns by which the carrier of a slot falls from the center to `offset`.
double Envelopes::phase(std::size_t slot, const double* offset) const {
  double turns = 0.0;
  for (std::size_t d = 0; d < dimension_; ++d) {
    double rate = rates_[slot * dimension_ + d];
    for (std::size_t e = 0; e < dimension_; ++e) rate += bends_[(slot * dimension_ + d) * dimension_ + e] * offset[e];
    turns += rate * offset[d];
  }
  return turns;
}

/// terms_: e^(j phase) of every slot
void Envelopes::turn_carriers(const double* offset) {
  double *turns = phasors_.data(), *real = turns + plan_.capacity, *imag = real + plan_.capacity;
  for (std::size_t slot = 0; slot < slots_; ++slot) turns[slot] = phase(slot, offset);
  kernels().unit_phasors(turns, slots_, real, imag);
  for (std::size_t slot = 0; slot < slots_; ++slot) {
    terms_[slot] = {static_cast<float>(real[slot]), static_cast<float>(imag[slot])};
  }
}

/// Envelopes, energies and pairs at an offset, where `values` are zero.
void Envelopes::fill_values(const Query& query, const double* offset, float* values) {
  checkpoint();
  double position[3];
  to_position(offset, position);
  sampler_.sample(position, paths_);
  path_gram(paths_, 0, plan_.groups(), pairs_, gram_);
  const std::size_t antennas = plan_.antennas();
  const double scale = std::clamp(plan_.scale / query.scale, 1.0 / out_of_scale, out_of_scale);
  for (std::size_t l = 0; l < paths_.count; ++l) slot_for(l);
  turn_carriers(offset);
  const double linear = -2.0 / (scale * query.energy), square = 1.0 / (scale * scale * query.energy);
  for (std::size_t l = 0; l < paths_.count; ++l) {
    float sum[2];
    kernels().path_product({paths_.real.data() + l * antennas, paths_.imag.data() + l * antennas,
                            paths_.delay.data() + l * antennas, query.profile.data(), antennas, plan_.profile.nodes()},
                           sum);
    const cdouble product(sum[0], sum[1]);
    products_(static_cast<Eigen::Index>(l)) = product;
    const std::size_t slot = slot_of_[paths_.index[l]];
    if (slot == none) continue;
    const auto envelope = std::complex<float>(linear * product) * std::conj(terms_[slot]);
    values[2 * slot] = envelope.real();
    values[2 * slot + 1] = envelope.imag();
    values[2 * plan_.capacity + slot] =
        static_cast<float>(square * gram_(static_cast<Eigen::Index>(l), static_cast<Eigen::Index>(l)).real());
    for (std::size_t m = 0; m < l; ++m) {
      const std::size_t other = slot_of_[paths_.index[m]];
      if (other == none) continue;
      // conj(b_first) b_second without carriers, times 2 for both orders
      const bool ordered = other < slot;
      const auto entry = gram_(static_cast<Eigen::Index>(m), static_cast<Eigen::Index>(l));
      auto value = std::complex<float>(2.0 * square * entry) * std::conj(terms_[other]) * terms_[slot];
      if (!ordered) value = std::conj(value);
      const std::size_t at = ordered ? pair(other, slot) : pair(slot, other);
      values[at] = value.real();
      values[at + 1] = value.imag();
    }
  }
}

/// row_: the values at the nodes of the first axis, interpolated along the others.
void Envelopes::mix_row(const double* offset) {
  const std::size_t first = axis_[0].nodes, used = pair(0, std::max<std::size_t>(slots_, 1));
  row_.assign(first * stride_, 0.0f);
  std::size_t combinations = 1, inner = 1;
  Cell cells[3];
  for (std::size_t d = 1; d < dimension_; ++d) {
    cells[d] = cell_at(axis_[d], box_.half_width[d], offset[d]);
    combinations *= 3;
    inner *= axis_[d].nodes;
  }
  for (std::size_t combination = 0; combination < combinations; ++combination) {
    std::size_t rest = combination, column = 0;
    float weight = 1.0f;
    for (std::size_t d = 1; d < dimension_; ++d, rest /= 3) {
      column = column * axis_[d].nodes + cells[d].first + rest % 3;
      weight *= cells[d].weight[rest % 3];
    }
    for (std::size_t node = 0; node < first; ++node) {
      const float* from = values_.data() + (node * inner + column) * stride_;
      float* to = row_.data() + node * stride_;
      for (std::size_t i = 0; i < used; ++i) to[i] += weight * from[i];
    }
  }
}

/// The carriers of every slot along one row of points: the phase is a parabola along the first axis.
void Envelopes::carry_row(const double* offset) {
  const std::size_t square = dimension_ * dimension_;
  const double first = -box_.pitch[0] * static_cast<double>(axis_[0].points / 2);
  double middle[3] = {0.0, offset[1], offset[2]};
  for (std::size_t slot = 0; slot < slots_; ++slot) {
    const double* bends = bends_.data() + slot * square;
    double rate = rates_[slot * dimension_];
    for (std::size_t d = 1; d < dimension_; ++d) rate += (bends[d] + bends[d * dimension_]) * offset[d];
    float *real = lane_re_.data() + slot * lane_stride_, *imag = lane_im_.data() + slot * lane_stride_;
    kernels().fill_carrier({phase(slot, middle), rate, bends[0], first, box_.pitch[0], axis_[0].points, real, imag});
  }
}

/// Costs of one row of grid points; the lanes of a cell share their coefficients.
void Envelopes::cost_row(std::size_t row) {
  checkpoint();
  const Axis& axis = axis_[0];
  double offset[3] = {};
  std::size_t rest = row;
  for (std::size_t d = dimension_; d-- > 1; rest /= axis_[d].points) {
    const std::size_t at = rest % axis_[d].points;
    offset[d] = box_.pitch[d] * (static_cast<double>(at) - static_cast<double>(axis_[d].points / 2));
  }
  mix_row(offset);
  const std::size_t lanes = axis.points, capacity = plan_.capacity;
  carry_row(offset);
  float* cost = costs_.data() + row * lanes;
  std::fill_n(cost, lanes, 1.0f);
  const double half = static_cast<double>(lanes / 2), pitch = box_.pitch[0];
  for (std::size_t begin = 0; begin < lanes;) {
    const Cell cell = cell_at(axis, box_.half_width[0], pitch * (static_cast<double>(begin) - half));
    std::size_t end = begin + 1;
    while (end < lanes &&
           cell_at(axis, box_.half_width[0], pitch * (static_cast<double>(end) - half)).first == cell.first)
      ++end;
    EnvelopeCell work{
        row_.data() + cell.first * stride_,
        stride_,
        slots_,
        capacity,
        lane_re_.data() + begin,
        lane_im_.data() + begin,
        lane_stride_,
        cost + begin,
        end - begin,
        static_cast<float>((pitch * (static_cast<double>(begin) - half) + box_.half_width[0]) / axis.spacing -
                           static_cast<double>(cell.first + 1)),
        static_cast<float>(pitch / axis.spacing)};
    kernels().envelope_costs(work);
    begin = end;
  }
}

/// here_: the values at an offset.
void Envelopes::mix(const double* offset) {
  const std::size_t used = pair(0, std::max<std::size_t>(slots_, 1));
  Cell cells[3];
  std::size_t combinations = 1;
  for (std::size_t d = 0; d < dimension_; ++d) {
    cells[d] = cell_at(axis_[d], box_.half_width[d], offset[d]);
    combinations *= 3;
  }
  std::fill(here_.begin(), here_.begin() + static_cast<std::ptrdiff_t>(used), 0.0f);
  for (std::size_t combination = 0; combination < combinations; ++combination) {
    std::size_t rest = combination, node = 0;
    float weight = 1.0f;
    for (std::size_t d = 0; d < dimension_; ++d, rest /= 3) {
      node = node * axis_[d].nodes + cells[d].first + rest % 3;
      weight *= cells[d].weight[rest % 3];
    }
    const float* from = values_.data() + node * stride_;
    for (std::size_t i = 0; i < used; ++i) here_[i] += weight * from[i];
  }
}

/// here_: the values at an offset; terms_: e^(j phase) there, slopes_: its rates; sums_: the energies.
void Envelopes::interpolate(const double* offset) {
  if (!frozen_) mix(offset);
  turn_carriers(offset);
  for (std::size_t l = 0; l < slots_; ++l) {
    for (std::size_t d = 0; d < dimension_; ++d) {
      double rate = rates_[l * dimension_ + d];
      for (std::size_t e = 0; e < dimension_; ++e) {
        rate +=
            (bends_[(l * dimension_ + d) * dimension_ + e] + bends_[(l * dimension_ + e) * dimension_ + d]) * offset[e];
      }
      slopes_[l * dimension_ + d] = tau * rate;
    }
    sums_[l] = here_[2 * plan_.capacity + l];
  }
}

double Envelopes::evaluate(const double* offset, SmallMatrix* normal, SmallVector* gradient) {
  const std::size_t capacity = plan_.capacity;
  interpolate(offset);
  double cost = 1.0;
  // sums_ becomes the sum over m of G_lm, of which twice is stored
  SmallMatrix curvature =
      SmallMatrix::Zero(static_cast<Eigen::Index>(dimension_), static_cast<Eigen::Index>(dimension_));
  for (std::size_t m = 0; m < slots_; ++m) {
    const double* of_m = slopes_.data() + m * dimension_;
    for (std::size_t l = 0; l < m; ++l) {
      const float* g = here_.data() + pair(l, m);
      const auto entry = 0.5f * std::complex<float>(g[0], g[1]) * terms_[l] * std::conj(terms_[m]);
      sums_[l] += entry;
      sums_[m] += std::conj(entry);
      if (normal == nullptr) continue;
      const double* of_l = slopes_.data() + l * dimension_;
      for (std::size_t d = 0; d < dimension_; ++d) {
        for (std::size_t e = 0; e < dimension_; ++e) {
          curvature(static_cast<Eigen::Index>(d), static_cast<Eigen::Index>(e)) +=
              static_cast<double>(entry.real()) * (of_l[d] * of_m[e] + of_m[d] * of_l[e]);
        }
      }
    }
    for (std::size_t d = 0; d < dimension_; ++d) {
      for (std::size_t e = 0; e < dimension_; ++e) {
        curvature(static_cast<Eigen::Index>(d), static_cast<Eigen::Index>(e)) +=
            static_cast<double>(here_[2 * capacity + m]) * of_m[d] * of_m[e];
      }
    }
  }
  if (gradient != nullptr) gradient->setZero(static_cast<Eigen::Index>(dimension_));
  for (std::size_t l = 0; l < slots_; ++l) {
    const auto product = -0.5f * std::complex<float>(here_[2 * l], here_[2 * l + 1]) * terms_[l];
    cost += static_cast<double>(sums_[l].real()) - 2.0 * static_cast<double>(product.real());
    for (std::size_t d = 0; gradient != nullptr && d < dimension_; ++d) {
      (*gradient)(static_cast<Eigen::Index>(d)) -=
          slopes_[l * dimension_ + d] * static_cast<double>(product.imag() - sums_[l].imag());
    }
  }
  if (normal != nullptr) *normal = curvature;
  return cost;
}

}  // namespace wavefix
