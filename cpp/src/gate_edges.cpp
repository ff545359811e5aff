// SPDX-License-Identifier: Apache-2.0
// Where the edges of a gate lie: lines moved while they are soft, made steep, and placed between the samples next to
// them, docs/equations.md (19).
#include <algorithm>
#include <cmath>
#include <numeric>

#include "gate_samples.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr double softened = 300.0;  // largest logit of a line that lets a step see samples on both of its sides
constexpr double sharper = 1.7;     // step of a sharpening
constexpr float reach = 30.0f;      // logits within which a sample tells on which side of a line it lies
constexpr int separations = 20;     // steps of a separation
constexpr int partings = 20;        // steps of a parting
constexpr int passes = 2;           // over the lines, each of which moves what the others are to part
constexpr std::size_t fewest = 8, nearest = 1000;  // samples that tell where a line lies
constexpr std::size_t one_in = 32;                 // or so many, where that is more
constexpr std::size_t fewest_numbers = 3;          // an upright line has two and a steepness, any line two more
constexpr double soft = 5.0;                       // largest logit next to a line where its parting begins

}  // namespace

/// The samples next to a line, and on which side of it they want to be.
struct GateSamples::Sides {
  Eigen::MatrixXd rows;          // features
  Eigen::VectorXd sign, weight;  // weights add up to one
};

double GateSamples::price(const GateTree& gate, double number_worth) const {
  double numbers = 0.0;
  for (Eigen::Index t = 0; t < gate.lines.rows(); ++t) numbers += double(fewest_numbers + kind_of(gate.lines.row(t)));
  return cost(gate) + number_worth * mean_weight_ * numbers;
}

/// Each line as steep as lowers the cost: the edges of walls are sharp, but steps fade with the samples they cross.
void GateSamples::sharpen(GateTree& gate) const {
  for (Eigen::Index t = 0; t < gate.lines.rows(); ++t) sharpen(gate, t);
}

void GateSamples::sharpen(GateTree& gate, Eigen::Index t) const {
  const GateSamples samples = around({gate.lines.row(t), {}}, closed);  // farther away a steeper line changes nothing
  double current = samples.cost(gate);
  for (double largest = largest_logits(gate.lines.row(t))(0); largest < steepest; largest *= sharper) {
    GateTree trial = gate;
    trial.lines.row(t) *= sharper;
    const double after = samples.cost(trial);
    if (!(after < (1.0 - 1e-3) * current)) break;
    gate = std::move(trial), current = after;
  }
}

/// Moves one line to where it parts the samples near it, by logistic regression. That is convex, where least squares
/// of sigmoids as steep as walls make them are flat almost everywhere.
void GateSamples::separate(GateTree& gate, Eigen::Index line) const {
  const GateTree below = with_side(gate, line, false), above = with_side(gate, line, true);
  std::vector<float> low, high;
  values(below, below.leaves, low), values(above, above.leaves, high);
  const Eigen::VectorXf logits = features_ * gate.lines.row(line).cast<float>().transpose();
  std::vector<std::size_t> near;
  double total = 0.0;
  for (std::size_t s = 0; s < count(); ++s) {
    if (std::abs(high[s] - low[s]) < 0.5f || !(std::abs(logits[Eigen::Index(s)]) < reach)) continue;
    near.push_back(s), total += double(weight_[s]);
  }
  if (near.size() < 8 || !(total > 0.0)) return;
  Eigen::MatrixXd rows(Eigen::Index(near.size()), features_.cols());
  Eigen::VectorXd sign(rows.rows()), weight(rows.rows());
  for (std::size_t i = 0; i < near.size(); ++i) {
    const std::size_t s = near[i];
    const auto at = Eigen::Index(i);
    rows.row(at) = features_.row(Eigen::Index(s)).cast<double>();
    sign[at] = std::abs(wanted_[s] - high[s]) < std::abs(wanted_[s] - low[s]) ? 1.0 : -1.0;
    weight[at] = double(weight_[s]) / total;
  }
  Eigen::VectorXd current = 0.2 * gate.lines.row(line).transpose();
  const auto loss = [&](const Eigen::VectorXd& w) {
    const Eigen::ArrayXd margin = sign.array() * (rows * w).array();
    return (weight.array() * ((-margin.abs()).exp().log1p() + (-margin).max(0.0))).sum();
  };
  double now = loss(current);
  for (int i = 0; i < separations; ++i) {
    const Eigen::ArrayXd wrong = 1.0 / (1.0 + (sign.array() * (rows * current).array()).exp());
    const Eigen::VectorXd gradient = rows.transpose() * (weight.array() * sign.array() * wrong).matrix();
    Eigen::MatrixXd curvature =
        rows.transpose() * (weight.array() * wrong * (1.0 - wrong)).matrix().asDiagonal() * rows;
    curvature.diagonal().array() += 1e-12 + 1e-9 * curvature.trace();
    const Eigen::VectorXd step = curvature.ldlt().solve(gradient);
    double length = 1.0, after = loss(current + step);
    for (; !(after < now) && length > 0.1; after = loss(current + length * step)) length *= 0.5;
    if (!(after < 0.999 * now)) break;
    current += length * step, now = after;
  }
  if (current.allFinite()) gate.lines.row(line) = current.transpose();
  limit(gate.lines, steepest);
}

void GateSamples::resettle(GateTree& gate) const {
  if (gate.lines.rows() == 0) return;
  GateTree trial = gate;
  limit(trial.lines, softened);
  around(trial, 2.0f * closed).settle(trial, 8);
  sharpen(trial);
  const GateSamples samples = around(trial, reach);
  samples.settle(trial, 4);
  double current = samples.cost(trial);
  for (Eigen::Index line = 0; line < trial.lines.rows(); ++line) {
    GateTree parted = trial;
    samples.separate(parted, line);
    samples.sharpen(parted);
    const double after = samples.cost(parted);
    if (after < current) trial = std::move(parted), current = after;
  }
  if (cost(trial) < cost(gate)) gate = std::move(trial);
}

GateSamples::Sides GateSamples::sides_of(const GateTree& gate, Eigen::Index line) const {
  const GateTree below = with_side(gate, line, false), above = with_side(gate, line, true);
  std::vector<float> low, high;
  values(below, below.leaves, low), values(above, above.leaves, high);
  const Eigen::VectorXf distance = (features_ * gate.lines.row(line).cast<float>().transpose()).cwiseAbs();
  std::vector<std::size_t> near;
  for (std::size_t s = 0; s < count(); ++s) {
    if (std::abs(high[s] - low[s]) >= 0.5f && weight_[s] > 0.0f) near.push_back(s);
  }
  const std::size_t most = std::max(nearest, count() / one_in);
  if (near.size() > most) {
    std::nth_element(near.begin(), near.begin() + std::ptrdiff_t(most), near.end(), [&](std::size_t a, std::size_t b) {
      return distance[Eigen::Index(a)] < distance[Eigen::Index(b)];
    });
    near.resize(most);
  }
  Sides out;
  if (near.size() < fewest) return out;
  out.rows.resize(Eigen::Index(near.size()), features_.cols());
  out.sign.resize(out.rows.rows()), out.weight.resize(out.rows.rows());
  for (std::size_t i = 0; i < near.size(); ++i) {
    const std::size_t s = near[i];
    const auto at = Eigen::Index(i);
    out.rows.row(at) = features_.row(Eigen::Index(s)).cast<double>();
    out.sign[at] = std::abs(wanted_[s] - high[s]) < std::abs(wanted_[s] - low[s]) ? 1.0 : -1.0;
    out.weight[at] = double(weight_[s]);
  }
  out.weight /= out.weight.sum();
  return out;
}

/// The line of a kind that parts the samples, by logistic regression. That is convex, where least squares of sigmoids
/// as steep as walls make them are flat almost everywhere.
Eigen::RowVectorXd GateSamples::parting(const Sides& sides, const Eigen::MatrixXd& span,
                                        const Eigen::RowVectorXd& start) const {
  const Eigen::MatrixXd rows = sides.rows * span.transpose();
  const double scale = soft / std::max((sides.rows * start.transpose()).cwiseAbs().maxCoeff(), soft);
  Eigen::VectorXd current = scale * (span * start.transpose());
  const auto loss = [&](const Eigen::VectorXd& w) {
    const Eigen::ArrayXd margin = sides.sign.array() * (rows * w).array();
    return (sides.weight.array() * ((-margin.abs()).exp().log1p() + (-margin).max(0.0))).sum();
  };
  double now = loss(current);
  for (int i = 0; i < partings; ++i) {
    const Eigen::ArrayXd wrong = 1.0 / (1.0 + (sides.sign.array() * (rows * current).array()).exp());
    const Eigen::VectorXd gradient = rows.transpose() * (sides.weight.array() * sides.sign.array() * wrong).matrix();
    const Eigen::VectorXd bend = (sides.weight.array() * wrong * (1.0 - wrong)).matrix();
    Eigen::MatrixXd curvature = rows.transpose() * bend.asDiagonal() * rows;
    curvature.diagonal().array() += 1e-14 + 1e-9 * curvature.trace();
    const Eigen::VectorXd step = curvature.ldlt().solve(gradient);
    double length = 1.0, after = loss(current + step);
    for (; !(after < now) && length > 1e-3; after = loss(current + length * step)) length *= 0.5;
    if (!(after < 0.999 * now)) break;
    current += length * step, now = after;
  }
  return current.transpose() * span;
}

/// Each line to where it parts the samples next to it, with the rest of the tree as it is: as an edge of the kind with
/// the fewest numbers that does it.
void GateSamples::place(GateTree& gate, double number_worth) const {
  double current = price(gate, number_worth);
  for (int pass = 0; pass < passes; ++pass) {
    for (Eigen::Index line = 0; line < gate.lines.rows(); ++line) {
      checkpoint();
      const Sides sides = sides_of(gate, line);
      if (sides.rows.rows() == 0) continue;
      const Eigen::RowVectorXd start = gate.lines.row(line);
      for (const Kind& kind : kinds_) {
        GateTree trial = gate;
        trial.lines.row(line) = parting(sides, kind.span, start);
        if (!trial.lines.allFinite()) continue;
        limit(trial.lines, steepest);
        sharpen(trial, line);
        const double after = price(trial, number_worth);
        if (after < current) gate = std::move(trial), current = after;
      }
    }
  }
}

}  // namespace wavefix
