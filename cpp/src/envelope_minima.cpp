// SPDX-License-Identifier: Apache-2.0
// Local minima among the candidates of a box.
#include <algorithm>
#include <cmath>
#include <limits>

#include "envelopes.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr int most_steps = 12;  // long valleys take as many, most minima two or three
constexpr double slow = 10.0;   // square of the radians, root mean square, that paths run between nodes of a slow axis

}  // namespace

/// Carriers alone make the slopes of evaluate(). Along an axis that hardly any path runs along the antennas' phases say
/// as much, and the envelopes hold these: there a difference of costs is the slope.
void Envelopes::bend_slow_axes(const double* offset, SmallMatrix& normal, SmallVector& gradient) {
  double energy = 0.0;
  for (std::size_t l = 0; l < slots_; ++l) energy += static_cast<double>(here_[2 * plan_.capacity + l]);
  for (std::size_t d = 0; d < dimension_; ++d) {
    const auto at = static_cast<Eigen::Index>(d);
    const double spacing = axis_[d].spacing, bend = energy / (spacing * spacing);
    if (normal(at, at) > slow * bend) continue;
    normal(at, at) += bend;
    if (frozen_) continue;  // and so are the envelopes
    const double step = 0.03 * spacing;
    double there[3] = {offset[0], offset[1], offset[2]};
    there[d] = offset[d] + step;
    const double above = evaluate(there, nullptr, nullptr);
    there[d] = offset[d] - step;
    gradient(at) = 0.25 * (evaluate(there, nullptr, nullptr) - above) / step;
  }
}

/// Levenberg-Marquardt on the interpolated cost, within the box.
void Envelopes::settle(Minimum& minimum) {
  checkpoint();
  SmallMatrix normal;
  SmallVector gradient;
  double damping = 1e-3;
  minimum.cost = evaluate(minimum.offset.data(), &normal, &gradient);
  bend_slow_axes(minimum.offset.data(), normal, gradient);
  for (int iteration = 0; iteration < most_steps; ++iteration) {
    SmallMatrix damped = normal;
    damped.diagonal() *= 1.0 + damping;
    SmallVector step = damped.ldlt().solve(gradient);
    if (!step.allFinite()) break;
    // Along an axis that no path runs along, candidates lie far apart, and so may a step be long.
    double longest = 0.0;  // in candidates
    for (std::size_t d = 0; d < dimension_; ++d)
      longest = std::max(longest, std::abs(step(static_cast<Eigen::Index>(d))) / box_.pitch[d]);
    if (longest > 1.0) step /= longest;
    Minimum trial = minimum;
    for (std::size_t d = 0; d < dimension_; ++d) {
      trial.offset[d] =
          std::clamp(trial.offset[d] + step(static_cast<Eigen::Index>(d)), -box_.half_width[d], box_.half_width[d]);
    }
    SmallMatrix trial_normal;
    SmallVector trial_gradient;
    trial.cost = evaluate(trial.offset.data(), &trial_normal, &trial_gradient);
    const double gain = minimum.cost - trial.cost;
    if (gain > 0.0) {
      minimum = trial;
      bend_slow_axes(trial.offset.data(), trial_normal, trial_gradient);
      normal = trial_normal;
      gradient = trial_gradient;
      damping *= 0.1;
    } else {
      damping *= 10.0;
    }
    if (std::abs(gain) < 1e-5) break;
  }
  if (std::isnan(minimum.cost)) minimum.cost = std::numeric_limits<double>::infinity();  // which can be sorted
  for (std::size_t c = 0; c < 3; ++c) {
    minimum.position[c] = box_.center[c];
    for (std::size_t d = 0; d < dimension_; ++d) minimum.position[c] += minimum.offset[d] * box_.axes[3 * d + c];
  }
}

void Envelopes::sharpen(const Query& query, Minimum& minimum) {
  std::fill(here_.begin(), here_.end(), 0.0f);
  fill_values(query, minimum.offset.data(), here_.data());
  frozen_ = true;
  settle(minimum);
  frozen_ = false;
}

/// Grid points below all of their neighbors, with the cost that a parabola through them predicts.
void Envelopes::rank_minima(std::size_t count) {
  const std::size_t lanes = axis_[0].points;
  const std::size_t points[3] = {lanes, dimension_ > 1 ? axis_[1].points : 1, dimension_ > 2 ? axis_[2].points : 1};
  const auto at = [&](std::size_t i, std::size_t j, std::size_t k) { return (j * points[2] + k) * lanes + i; };
  minima_.clear();
  for (std::size_t j = 0; j < points[1]; ++j) {
    for (std::size_t k = 0; k < points[2]; ++k) {
      for (std::size_t i = 0; i < lanes; ++i) {
        const float here = costs_[at(i, j, k)];
        bool lowest = true;
        for (std::size_t a = i - (i > 0); lowest && a <= std::min(i + 1, lanes - 1); ++a) {
          for (std::size_t b = j - (j > 0); lowest && b <= std::min(j + 1, points[1] - 1); ++b) {
            for (std::size_t c = k - (k > 0); lowest && c <= std::min(k + 1, points[2] - 1); ++c) {
              lowest = here < costs_[at(a, b, c)] || (here == costs_[at(a, b, c)] && at(i, j, k) <= at(a, b, c));
            }
          }
        }
        if (!lowest) continue;
        Minimum minimum;
        minimum.cost = static_cast<double>(here);
        const std::size_t index[3] = {i, j, k};
        for (std::size_t d = 0; d < dimension_; ++d) {
          minimum.offset[d] = box_.pitch[d] * (static_cast<double>(index[d]) - static_cast<double>(points[d] / 2));
          if (index[d] == 0 || index[d] + 1 == points[d]) continue;
          const auto shifted = [&](std::size_t to) {
            return static_cast<double>(costs_[at(d == 0 ? to : i, d == 1 ? to : j, d == 2 ? to : k)]);
          };
          const double above = shifted(index[d] + 1), below = shifted(index[d] - 1);
          const double slope = 0.5 * (above - below), bend = above - 2.0 * static_cast<double>(here) + below;
          if (bend > 0.0) minimum.cost -= 0.5 * slope * slope / bend;
        }
        minima_.push_back(minimum);
      }
    }
  }
  const auto better = [](const Minimum& a, const Minimum& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.offset < b.offset;
  };
  const std::size_t kept = std::min(count, minima_.size());
  std::partial_sort(minima_.begin(), minima_.begin() + static_cast<std::ptrdiff_t>(kept), minima_.end(), better);
  minima_.resize(kept);
}

const std::vector<Minimum>& Envelopes::minima(std::size_t count, double least) {
  for (std::size_t d = 0; d < dimension_; ++d) {
    axis_[d].points = 2 * static_cast<std::size_t>(box_.half_width[d] / box_.pitch[d] + 1e-9) + 1;
  }
  lane_stride_ = (axis_[0].points + carrier_lanes - 1) / carrier_lanes * carrier_lanes;
  lane_re_.resize(slots_ * lane_stride_);
  lane_im_.resize(slots_ * lane_stride_);
  std::size_t rows = 1;
  for (std::size_t d = 1; d < dimension_; ++d) rows *= axis_[d].points;
  costs_.resize(rows * axis_[0].points);
  for (std::size_t row = 0; row < rows; ++row) cost_row(row);
  rank_minima(count);
  // A parabola misses the depth of a valley by a part of what it explains.
  const double lowest = minima_.empty() ? 0.0 : std::max(minima_.front().cost, least);
  const double window = lowest + 0.3 * std::max(1.0 - lowest, 0.05);
  while (minima_.size() > 1 && minima_.back().cost > window) minima_.pop_back();
  if (minima_.empty()) minima_.emplace_back();  // a model whose values overflow has no costs
  for (Minimum& minimum : minima_) settle(minimum);
  std::sort(minima_.begin(), minima_.end(), [](const Minimum& a, const Minimum& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.offset < b.offset;
  });
  return minima_;
}

}  // namespace wavefix
