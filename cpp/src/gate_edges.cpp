// SPDX-License-Identifier: Apache-2.0
// Where the edges of a gate lie: lines moved while they are soft, made steep, and placed between the samples next to
// them, docs/equations.md (19).
#include <algorithm>
#include <cmath>
#include <limits>

#include "gate_samples.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr double softened = 300.0;  // largest logit of a line that lets a step see samples on both of its sides
constexpr double sharper = 1.7;     // step of a sharpening
constexpr float reach = 30.0f;      // logits within which a sample tells on which side of a line it lies
constexpr int partings = 20;        // steps of a parting
constexpr int passes = 2;           // over the lines, each of which moves what the others are to part
constexpr std::size_t fewest = 8, nearest = 1000;  // samples that tell where a line is placed
constexpr std::size_t one_in = 32;                 // or so many, where that is more
constexpr std::size_t fewest_numbers = 3;          // an upright line has two and a steepness, any line two more
constexpr double soft = 5.0;                       // largest logit next to a line where its parting begins
constexpr double hopeless = 4.0;  // times the price before, from which placing lines anew does not bring it down

/// The tree with everything on one side of a line, and without the lines that part nothing then.
GateTree without_line(const GateTree& gate, Eigen::Index line, bool above) {
  GateTree out = with_side(gate, line, above);
  std::vector<int> number(std::size_t(gate.lines.rows()), 0);
  for (const auto& leaf : out.leaves) {
    for (const int one : leaf) number[std::size_t(std::abs(one) - 1)] = 1;
  }
  Eigen::Index kept = 0;
  for (std::size_t t = 0; t < number.size(); ++t) {
    if (number[t] == 0) continue;
    out.lines.row(kept) = gate.lines.row(Eigen::Index(t));
    number[t] = int(++kept);
  }
  out.lines.conservativeResize(kept, Eigen::NoChange);
  for (auto& leaf : out.leaves) {
    for (int& one : leaf) one = (one > 0 ? 1 : -1) * number[std::size_t(std::abs(one) - 1)];
  }
  return out;
}

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

GateSamples::Sides GateSamples::sides_of(const GateTree& gate, Eigen::Index line, float within,
                                         std::size_t most) const {
  const GateTree below = with_side(gate, line, false), above = with_side(gate, line, true);
  std::vector<float> low, high;
  values(below, below.leaves, low), values(above, above.leaves, high);
  const Eigen::VectorXf distance = (features_ * gate.lines.row(line).cast<float>().transpose()).cwiseAbs();
  std::vector<std::size_t> near;
  for (std::size_t s = 0; s < count(); ++s) {
    if (std::abs(high[s] - low[s]) >= 0.5f && distance[Eigen::Index(s)] < within) near.push_back(s);
  }
  if (near.size() > most) {
    std::nth_element(near.begin(), near.begin() + std::ptrdiff_t(most), near.end(), [&](std::size_t a, std::size_t b) {
      return distance[Eigen::Index(a)] < distance[Eigen::Index(b)];
    });
    near.resize(most);
  }
  double total = 0.0;
  for (const std::size_t s : near) total += double(weight_[s]);
  Sides out;
  if (near.size() < fewest || !(total > 0.0)) return out;
  out.rows.resize(Eigen::Index(near.size()), features_.cols());
  out.sign.resize(out.rows.rows()), out.weight.resize(out.rows.rows());
  for (std::size_t i = 0; i < near.size(); ++i) {
    const std::size_t s = near[i];
    const auto at = Eigen::Index(i);
    out.rows.row(at) = features_.row(Eigen::Index(s)).cast<double>();
    out.sign[at] = std::abs(wanted_[s] - high[s]) < std::abs(wanted_[s] - low[s]) ? 1.0 : -1.0;
    out.weight[at] = double(weight_[s]) / total;
  }
  return out;
}

/// Logistic regression from `line` on: of the lines with such features, the one that parts the samples. That is convex,
/// where least squares of sigmoids as steep as walls make them are flat almost everywhere.
Eigen::VectorXd GateSamples::parting(const Sides& sides, const Eigen::MatrixXd& rows, Eigen::VectorXd line) {
  const auto loss = [&](const Eigen::VectorXd& w) {
    const Eigen::ArrayXd margin = sides.sign.array() * (rows * w).array();
    return (sides.weight.array() * ((-margin.abs()).exp().log1p() + (-margin).max(0.0))).sum();
  };
  double now = loss(line);
  for (int i = 0; i < partings; ++i) {
    const Eigen::ArrayXd wrong = 1.0 / (1.0 + (sides.sign.array() * (rows * line).array()).exp());
    const Eigen::VectorXd gradient = rows.transpose() * (sides.weight.array() * sides.sign.array() * wrong).matrix();
    Eigen::MatrixXd curvature =
        rows.transpose() * (sides.weight.array() * wrong * (1.0 - wrong)).matrix().asDiagonal() * rows;
    curvature.diagonal().array() += 1e-12 + 1e-9 * curvature.trace();
    const Eigen::VectorXd step = curvature.ldlt().solve(gradient);
    double length = 1.0, after = loss(line + step);
    for (; !(after < now) && length > 0.1; after = loss(line + length * step)) length *= 0.5;
    if (!(after < 0.999 * now)) break;
    line += length * step, now = after;
  }
  return line;
}

/// Moves one line to where it parts the samples near it.
void GateSamples::separate(GateTree& gate, Eigen::Index line) const {
  const Sides sides = sides_of(gate, line, reach, count());
  if (sides.rows.rows() == 0) return;
  const Eigen::VectorXd moved = parting(sides, sides.rows, 0.2 * gate.lines.row(line).transpose());
  if (moved.allFinite()) gate.lines.row(line) = moved.transpose();
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

/// Each line to where it parts the samples next to it, with the rest of the tree as it is: as an edge of the kind with
/// the fewest numbers that does it.
void GateSamples::place(GateTree& gate, double number_worth) const {
  const std::size_t most = std::max(nearest, count() / one_in);
  double current = price(gate, number_worth);
  for (int pass = 0; pass < passes; ++pass) {
    for (Eigen::Index line = 0; line < gate.lines.rows(); ++line) {
      checkpoint();
      const Sides sides = sides_of(gate, line, std::numeric_limits<float>::infinity(), most);
      if (sides.rows.rows() == 0) continue;
      const Eigen::VectorXd steep = gate.lines.row(line).transpose();
      const Eigen::VectorXd start = steep * (soft / std::max((sides.rows * steep).cwiseAbs().maxCoeff(), soft));
      for (const Kind& kind : kinds_) {
        GateTree trial = gate;
        const Eigen::VectorXd found = parting(sides, sides.rows * kind.span.transpose(), kind.span * start);
        trial.lines.row(line) = found.transpose() * kind.span;
        if (!trial.lines.allFinite()) continue;
        limit(trial.lines, steepest);
        sharpen(trial, line);
        const double after = price(trial, number_worth);
        if (after < current) gate = std::move(trial), current = after;
      }
    }
  }
}

/// A line that went where another should be leaves that one no place: without it, what is left is placed anew.
bool GateSamples::simplify(GateTree& gate, double number_worth) const {
  const double current = price(gate, number_worth);
  for (Eigen::Index line = 0; line < gate.lines.rows(); ++line) {
    for (const bool above : {false, true}) {
      GateTree trial = without_line(gate, line, above);
      if (trial.leaves.empty() || !(price(trial, number_worth) < hopeless * current)) continue;
      place(trial, number_worth);
      if (!(price(trial, number_worth) < current)) continue;
      gate = std::move(trial);
      return true;
    }
  }
  return false;
}

}  // namespace wavefix
