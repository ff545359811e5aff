// SPDX-License-Identifier: Apache-2.0
// A source's visibility learned: a tree of half-spaces of straight edges that grows by one edge at a time,
// docs/equations.md (3) and (19).
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "angles.hpp"
#include "gate_samples.hpp"
#include "wavefix/error.hpp"
#include "wavefix/source_fit.hpp"

namespace wavefix {
namespace {

constexpr std::size_t angles = 24, bins = 96;
constexpr std::array<double, 5> shifts{0.0, 0.15, 0.5, 1.5, 4.0};  // of a boundary, over the source's own move
constexpr double width = 0.04;                                     // of a new edge, as a part of the zone's half extent
constexpr std::size_t trials_a_leaf = 4, trials = 8;
constexpr std::size_t compared = 6000;   // samples that trials are compared on
constexpr std::size_t searched = 20000;  // samples that boundaries are looked for in

using Vector3 = Eigen::Vector3d;
using Plane = Eigen::Matrix<double, Eigen::Dynamic, 3>;

/// A straight boundary, normal . (x + shift * arm) = offset, and the leaf whose side above or below it changes.
struct Split {
  std::vector<int> leaf;
  bool lit = false, above = false;
  Vector3 normal = Vector3::Zero();
  double offset = 0.0, shift = 0.0, gain = 0.0;
};

/// A sample of a leaf, and what it is better by on the other side of a boundary.
struct Chosen {
  std::uint32_t user, antenna;
  float gain;
};

bool alike(const Split& a, const Split& b) {
  return a.leaf == b.leaf && a.shift == b.shift && std::abs(a.normal.dot(b.normal)) >= 0.95;
}

/// Orthonormal axes of the zone, one to three of them.
Plane axes_of(View<const double, 2> positions, Vector3& mean) {
  mean.setZero();
  const auto at = [&](std::size_t row) { return Eigen::Map<const Vector3>(positions.row(row)); };
  for (std::size_t row = 0; row < positions.shape[0]; ++row) mean += at(row) / double(positions.shape[0]);
  Eigen::Matrix3d spread = Eigen::Matrix3d::Zero();
  for (std::size_t row = 0; row < positions.shape[0]; ++row) {
    spread += (at(row) - mean) * (at(row) - mean).transpose();
  }
  const Eigen::SelfAdjointEigenSolver<Eigen::Matrix3d> solver(spread);
  Eigen::Index count = 1;
  while (count < 3 && solver.eigenvalues()(2 - count) > 1e-6 * solver.eigenvalues()(2)) ++count;
  return solver.eigenvectors().rowwise().reverse().leftCols(count).transpose();
}

Eigen::VectorXd direction_of(std::size_t index, Eigen::Index dimension) {
  Eigen::VectorXd out = Eigen::VectorXd::Ones(dimension);
  if (dimension == 2) {
    const double angle = pi * double(index) / double(angles);
    out << std::cos(angle), std::sin(angle);
  } else if (dimension == 3) {  // a spiral over the half sphere
    const double height = (double(index) + 0.5) / double(angles), angle = double(index) * pi * (3.0 - std::sqrt(5.0));
    const double wide = std::sqrt(1.0 - height * height);
    out << wide * std::cos(angle), wide * std::sin(angle), height;
  }
  return out;
}

class GateGrowth {
 public:
  GateGrowth(const Measurement& measurement, const double* source, const double* rotation, View<const float, 2> wanted,
             View<const float, 2> weight, const GateOptions& options, const Execution& execution)
      : source_(Eigen::Map<const Vector3>(source)),
        options_(options),
        execution_(execution),
        all_(measurement, source, rotation, wanted, weight) {
    plane_ = axes_of(measurement.positions, mean_);
    const std::size_t n = measurement.positions.shape[0], antennas = measurement.offsets.shape[0];
    places_.resize(static_cast<Eigen::Index>(n), plane_.rows());
    moves_.resize(static_cast<Eigen::Index>(antennas), plane_.rows());
    Vector3 low = Eigen::Map<const Vector3>(measurement.positions.row(0)), high = low;
    for (std::size_t row = 0; row < n; ++row) {
      const Eigen::Map<const Vector3> x(measurement.positions.row(row));
      places_.row(static_cast<Eigen::Index>(row)) = (plane_ * x).transpose();
      low = low.cwiseMin(x), high = high.cwiseMax(x);
    }
    half_ = 0.5 * (high - low).maxCoeff();
    const Eigen::Map<const Eigen::Matrix<double, 3, 3, Eigen::RowMajor>> turn(rotation);
    for (std::size_t j = 0; j < antennas; ++j) {
      moves_.row(static_cast<Eigen::Index>(j)) =
          (plane_ * (turn * Eigen::Map<const Vector3>(measurement.offsets.row(j)))).transpose();
    }
    sample_ = all_.some(compared);
  }

  /// The tree refined, and split while an edge explains enough.
  SourceGate grow(const SourceGate& start) {
    GateTree gate = all_.tree_of(start);
    all_.resettle(gate);
    double cost = all_.cost(gate);
    const double share = double(sample_.count()) / double(all_.count());
    while (gate.lines.rows() < static_cast<Eigen::Index>(options_.most_lines)) {
      const std::vector<Split> splits = best_splits(gate);
      std::vector<GateTree> grown(splits.size());
      std::vector<double> costs(splits.size());
      parallel_for(splits.size(), execution_, [&](std::size_t i, int) {
        grown[i] = with_edge(gate, splits[i]);
        sample_.settle(grown[i], 5);
        costs[i] = sample_.cost(grown[i]);
      });
      if (splits.empty()) break;
      const auto best = static_cast<std::size_t>(std::min_element(costs.begin(), costs.end()) - costs.begin());
      if (!(sample_.cost(gate) - costs[best] >= 0.5 * share * options_.least_gain)) break;
      GateTree trial = grown[best];
      all_.resettle(trial);
      const double after = all_.cost(trial);
      if (!(cost - after >= options_.least_gain)) break;
      gate = trial, cost = after;
    }
    if (options_.number_worth > 0.0) {
      all_.place(gate, options_.number_worth);
      while (all_.simplify(gate, options_.number_worth)) {
      }
    }
    return all_.gate_of(gate, options_.number_worth > 0.0);
  }

 private:
  /// The most promising boundaries of each leaf, lit or dark, found by exhaustive search over straight lines.
  std::vector<Split> best_splits(const GateTree& gate) {
    std::vector<Split> out;
    std::vector<float> present, value;
    const auto antennas = static_cast<std::size_t>(moves_.rows());
    const std::size_t every = std::max<std::size_t>(1, all_.count() / searched);
    all_.values(gate, gate.leaves, present);
    for (const auto& [leaf, lit] : all_leaves(gate)) {
      all_.values(gate, {leaf}, value);
      double positive = 0.0;
      std::vector<Chosen> chosen;
      for (std::size_t s = 0; s < all_.count(); s += every) {
        const float change = lit ? -value[s] : value[s], error = all_.wanted(s) - present[s];
        const float gain = float(every) * all_.weight(s) * change * (2.0f * error - change);
        positive += std::max(gain, 0.0f);
        if (!(value[s] > 1e-4f)) continue;
        chosen.push_back({static_cast<std::uint32_t>(s / antennas), static_cast<std::uint32_t>(s % antennas), gain});
      }
      if (positive < options_.least_gain) continue;
      std::vector<std::vector<Split>> found(angles);
      parallel_for(plane_.rows() == 1 ? 1 : angles, execution_,
                   [&](std::size_t angle, int) { find_splits(angle, chosen, found[angle]); });
      std::vector<Split> of_leaf;
      for (const auto& part : found) of_leaf.insert(of_leaf.end(), part.begin(), part.end());
      for (Split& split : of_leaf) split.leaf = leaf, split.lit = lit;
      keep_best(of_leaf, trials_a_leaf, out);
    }
    std::stable_sort(out.begin(), out.end(), [](const Split& a, const Split& b) { return a.gain > b.gain; });
    if (out.size() > trials) out.resize(trials);
    return out;
  }

  static void keep_best(std::vector<Split>& found, std::size_t most, std::vector<Split>& out) {
    std::stable_sort(found.begin(), found.end(), [](const Split& a, const Split& b) { return a.gain > b.gain; });
    const std::size_t before = out.size();
    for (const Split& split : found) {
      if (out.size() - before >= most) break;
      const auto same = [&](const Split& kept) { return alike(split, kept); };
      if (std::none_of(out.begin(), out.end(), same)) out.push_back(split);
    }
  }

  void find_splits(std::size_t angle, const std::vector<Chosen>& chosen, std::vector<Split>& found) const {
    const Eigen::VectorXd direction = direction_of(angle, plane_.rows());
    const Eigen::VectorXd place = places_ * direction, move = moves_ * direction;
    Eigen::VectorXf place_bin(place.size()), move_bin(move.size());
    for (const double shift : shifts) {
      const double low = place.minCoeff() + shift * move.minCoeff(), high = place.maxCoeff() + shift * move.maxCoeff();
      if (high - low < 1e-6) continue;
      std::array<double, bins> sums{};
      const double scale = double(bins) / (high - low);
      place_bin = ((place.array() - low) * scale).cast<float>();
      move_bin = (move.array() * (shift * scale)).cast<float>();
      for (const Chosen& one : chosen) {
        const float bin = place_bin[Eigen::Index(one.user)] + move_bin[Eigen::Index(one.antenna)];
        sums[static_cast<std::size_t>(std::min(std::max(static_cast<int>(bin), 0), int(bins) - 1))] += double(one.gain);
      }
      for (std::size_t b = 1; b < bins; ++b) sums[b] += sums[b - 1];
      const auto [least, most] = std::minmax_element(sums.begin(), sums.end());
      for (const bool above : {false, true}) {
        const double explained = above ? sums.back() - *least : *most;
        if (!(explained > options_.least_gain)) continue;
        const auto at = static_cast<double>((above ? least : most) - sums.begin());
        Split split;
        split.above = above;
        split.normal = plane_.transpose() * direction;
        split.offset = low + (at + 1.0) / scale;
        split.shift = shift;
        split.gain = explained;
        found.push_back(split);
      }
    }
  }

  GateTree with_edge(const GateTree& gate, const Split& split) const {
    GateTree out = gate;
    const int number = static_cast<int>(gate.lines.rows()) + 1;
    out.lines.conservativeResize(number, Eigen::NoChange);
    out.lines.row(number - 1) = all_.whitened(edge_line(split));
    out.leaves.erase(std::remove(out.leaves.begin(), out.leaves.end(), split.leaf), out.leaves.end());
    out.leaves.push_back(split.leaf);
    out.leaves.back().push_back(split.above != split.lit ? number : -number);
    return out;
  }

  /// The edge whose shadow the boundary is, positive above it. A source that moves by a moves a shadow by
  /// -a (1 - t) / t; the edge lies at t of the way to the user.
  Eigen::Matrix<double, 6, 1> edge_line(const Split& split) const {
    const Vector3 foot = mean_ + (split.offset - mean_.dot(split.normal)) * split.normal;
    const auto across = [&](Eigen::Index axis) -> Vector3 {
      const Vector3 a = plane_.row(axis).transpose();
      return a - a.dot(split.normal) * split.normal;
    };
    Vector3 along = across(0);
    if (plane_.rows() > 1 && along.norm() < 0.5) along = across(1);
    if (plane_.rows() == 1) along = split.normal.cross(foot - source_);
    along.normalize();
    const Vector3 point = source_ + (foot - source_) / (1.0 + split.shift);
    const Vector3 moment = point.cross(along), step = foot + width * half_ * split.normal;
    double scale = (step - source_).dot(moment) - step.cross(source_).dot(along);
    if (std::abs(scale) < 1e-12) scale = 1e-12;  // the ray lies in the boundary's plane
    Eigen::Matrix<double, 6, 1> line;
    line << moment, along;
    return line / scale;
  }

  Vector3 source_, mean_;
  GateOptions options_;
  const Execution& execution_;
  Plane plane_;
  Eigen::MatrixXd places_, moves_;
  double half_ = 0.0;
  GateSamples all_, sample_;
};

}  // namespace

SourceGate source_grow_gate(const Measurement& measurement, View<const double, 1> position,
                            View<const double, 2> rotation, const SourceGate& start, View<const float, 2> wanted,
                            View<const float, 2> weight, const GateOptions& options, const Execution& execution) {
  for (const auto& leaf : start.leaves) {
    for (const int line : leaf) {
      if (line == 0 || static_cast<std::size_t>(std::abs(line)) > start.lines.size()) {
        throw_shape("leaves", "numbers of lines, signed", std::to_string(line));
      }
    }
  }
  GateGrowth growth(measurement, position.data, rotation.data, wanted, weight, options, execution);
  return growth.grow(start);
}

}  // namespace wavefix
