// SPDX-License-Identifier: Apache-2.0
#include "gate_samples.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>

#include "source_rays.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr float faint = 1e-4f;         // slopes below this do not move a line
constexpr double alike = 1e-7;         // relative difference of a line from one of a kind
constexpr double untold = 1e-9;        // relative size of a number's feature that samples tell nothing of
constexpr double dependent = 5e-7;     // of features: a combination of the others
constexpr Eigen::Index together = 32;  // sigmoids, samples next to each other

/// Which of the six numbers of a line may differ from zero where the edge stands upright, lies level, or neither.
const std::array<std::vector<Eigen::Index>, 3> kinds{{{0, 1, 5}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4, 5}}};

/// Of samples in a row, which mostly are on one side of a line.
void sigmoids(Eigen::Ref<Eigen::ArrayXf> logits) {
  constexpr float closed = GateSamples::closed;
  if (logits.minCoeff() > closed) {
    logits = 1.0f;
  } else if (logits.maxCoeff() < -closed) {
    logits = 0.0f;
  } else {
    logits = (1.0f + (-logits).min(closed).max(-closed).exp()).inverse();
  }
}

}  // namespace

struct GateSamples::Block {
  static constexpr std::size_t most = 256;
  std::size_t first = 0, count = 0;
  Eigen::MatrixXf half;                       // [most, T], sigmoids
  std::vector<std::array<float, most>> leaf;  // [leaves]
  std::array<float, most> gate;
};

struct GateSamples::System {
  Eigen::MatrixXd matrix;
  Eigen::VectorXd gradient;
};

std::vector<std::pair<std::vector<int>, bool>> all_leaves(const GateTree& gate) {
  std::vector<std::pair<std::vector<int>, bool>> out;
  std::vector<std::vector<int>> stack{{}};
  while (!stack.empty()) {
    const std::vector<int> prefix = stack.back();
    stack.pop_back();
    int line = 0;
    bool lit = false;
    for (const auto& leaf : gate.leaves) {
      if (leaf.size() < prefix.size() || !std::equal(prefix.begin(), prefix.end(), leaf.begin())) continue;
      if (leaf.size() == prefix.size())
        lit = true;
      else
        line = std::abs(leaf[prefix.size()]);
    }
    if (line == 0) {
      out.emplace_back(prefix, lit);
      continue;
    }
    for (const int sign : {1, -1}) {
      stack.push_back(prefix);
      stack.back().push_back(sign * line);
    }
  }
  return out;
}

GateTree with_side(const GateTree& gate, Eigen::Index line, bool above) {
  GateTree out{gate.lines, {}};
  const int number = static_cast<int>(line) + 1;
  for (std::vector<int> leaf : gate.leaves) {
    if (std::find(leaf.begin(), leaf.end(), above ? -number : number) != leaf.end()) continue;
    leaf.erase(std::remove(leaf.begin(), leaf.end(), above ? number : -number), leaf.end());
    out.leaves.push_back(std::move(leaf));
  }
  return out;
}

GateSamples::GateSamples(const Measurement& measurement, const double* source, const double* rotation,
                         View<const float, 2> wanted, View<const float, 2> weight)
    : wanted_(wanted.data, wanted.data + wanted.size()), weight_(weight.data, weight.data + weight.size()) {
  using Vector3 = Eigen::Vector3d;
  const std::size_t n = measurement.positions.shape[0], antennas = measurement.offsets.shape[0];
  Eigen::MatrixXd raw(Eigen::Index(n * antennas), 6);
  double total = 0.0, lit_weight = 0.0;
  std::size_t lit = 0;
  for (std::size_t row = 0; row < n; ++row) {
    const Eigen::Map<const Vector3> x(measurement.positions.row(row));
    for (std::size_t j = 0; j < antennas; ++j) {
      const Ray ray = ray_of(x.data(), source, rotation, measurement.offsets.row(j));
      const Eigen::Map<const Vector3> at(ray.from.data());
      const auto s = Eigen::Index(row * antennas + j);
      raw.row(s) << (x - at).transpose(), -x.cross(at).transpose();
      const auto sample = static_cast<std::size_t>(s);
      total += double(weight_[sample]);
      if (wanted_[sample] > 0.5f) lit_weight += double(weight_[sample]), ++lit;
    }
  }
  // along their principal axes: features of a plane of users and a line of antennas span less than six
  const Eigen::Map<const Eigen::VectorXf> w(weight_.data(), Eigen::Index(weight_.size()));
  const Eigen::MatrixXd gram = raw.transpose() * (w.cast<double>().asDiagonal() * raw) / std::max(total, 1e-300);
  const Eigen::VectorXd size = gram.diagonal().cwiseMax(std::max(1e-18 * gram.trace(), 1e-300)).cwiseSqrt();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(size.cwiseInverse().asDiagonal() * gram *
                                                              size.cwiseInverse().asDiagonal());
  Eigen::Index rank = 1;
  while (rank < 6 && solver.eigenvalues()(5 - rank) > 1e-12 * solver.eigenvalues()(5)) ++rank;
  const Eigen::MatrixXd axes = solver.eigenvectors().rightCols(rank);
  const Eigen::VectorXd spread = solver.eigenvalues().tail(rank).cwiseMax(1e-300).cwiseSqrt();
  whiten_ = size.cwiseInverse().asDiagonal() * axes * spread.cwiseInverse().asDiagonal();
  raw_ = size.asDiagonal() * axes * spread.asDiagonal();
  features_ = (raw * whiten_).cast<float>();
  mean_weight_ = lit > 0 ? lit_weight / double(lit) : 0.0;
  for (const auto& numbers : kinds) kinds_.push_back(kind_with(numbers));
}

/// In coordinates in which each number counts alike; one that the samples tell nothing of stays zero.
GateSamples::Kind GateSamples::kind_with(const std::vector<Eigen::Index>& numbers) const {
  const double largest = raw_.rowwise().norm().maxCoeff();
  Eigen::MatrixXd pick = Eigen::MatrixXd::Zero(6, Eigen::Index(numbers.size()));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const double size = raw_.row(numbers[i]).norm();
    if (size > untold * largest) pick(numbers[i], Eigen::Index(i)) = 1.0 / size;
  }
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(pick.transpose() * raw_, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::VectorXd& size = svd.singularValues();
  Eigen::Index rank = 1;
  while (rank < size.size() && size(rank) > dependent * size(0)) ++rank;
  const Eigen::MatrixXd span = svd.matrixV().leftCols(rank).transpose();
  return {span, pick * svd.matrixU().leftCols(rank) * size.head(rank).cwiseInverse().asDiagonal() * span};
}

std::size_t GateSamples::kind_of(const Eigen::RowVectorXd& line) const {
  std::size_t kind = 0;
  for (; kind + 1 < kinds_.size(); ++kind) {
    const Eigen::MatrixXd& span = kinds_[kind].span;
    if ((line - line * span.transpose() * span).norm() < alike * line.norm()) break;
  }
  return kind;
}

GateSamples GateSamples::some(std::size_t most) const {
  std::vector<std::size_t> chosen(std::min(most, count()));
  for (std::size_t i = 0; i < chosen.size(); ++i) chosen[i] = i * count() / chosen.size();
  return part(chosen);
}

GateSamples GateSamples::part(const std::vector<std::size_t>& chosen) const {
  GateSamples out;
  out.whiten_ = whiten_, out.raw_ = raw_, out.kinds_ = kinds_, out.mean_weight_ = mean_weight_;
  out.features_.resize(Eigen::Index(chosen.size()), features_.cols());
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    out.features_.row(Eigen::Index(i)) = features_.row(Eigen::Index(chosen[i]));
    out.wanted_.push_back(wanted_[chosen[i]]), out.weight_.push_back(weight_[chosen[i]]);
  }
  return out;
}

GateSamples GateSamples::around(const GateTree& gate, float margin) const {
  const Eigen::MatrixXf logits = features_ * gate.lines.cast<float>().transpose();
  std::vector<std::size_t> near;
  for (std::size_t s = 0; s < count(); ++s) {
    if (logits.row(Eigen::Index(s)).cwiseAbs().minCoeff() < margin) near.push_back(s);
  }
  return part(near);
}

GateTree GateSamples::tree_of(const SourceGate& gate) const {
  GateTree out{Eigen::MatrixXd(Eigen::Index(gate.lines.size()), raw_.cols()), gate.leaves};
  for (std::size_t t = 0; t < gate.lines.size(); ++t) {
    out.lines.row(Eigen::Index(t)) = whitened(Eigen::Map<const Eigen::Matrix<double, 6, 1>>(gate.lines[t].data()));
  }
  return out;
}

SourceGate GateSamples::gate_of(const GateTree& tree, bool by_kind) const {
  SourceGate out{{}, tree.leaves};
  for (Eigen::Index t = 0; t < tree.lines.rows(); ++t) {
    const Eigen::MatrixXd& raw = by_kind ? kinds_[kind_of(tree.lines.row(t))].raw : whiten_;
    const Eigen::Matrix<double, 6, 1> line = raw * tree.lines.row(t).transpose();
    out.lines.push_back({line(0), line(1), line(2), line(3), line(4), line(5)});
  }
  return out;
}

Eigen::RowVectorXd GateSamples::whitened(const Eigen::Matrix<double, 6, 1>& line) const {
  return line.transpose() * raw_;
}

void GateSamples::fill_block(const GateTree& gate, std::size_t first, Block& block) const {
  block.first = first;
  block.count = std::min(Block::most, count() - first);
  const auto rows = Eigen::Index(block.count), lines = gate.lines.rows();
  block.half.resize(Eigen::Index(Block::most), lines);
  if (lines > 0) {
    block.half.topRows(rows).noalias() =
        features_.middleRows(Eigen::Index(first), rows) * gate.lines.cast<float>().transpose();
  }
  for (Eigen::Index t = 0; t < lines; ++t) {
    for (Eigen::Index s = 0; s < rows; s += together) {
      sigmoids(block.half.col(t).segment(s, std::min(together, rows - s)).array());
    }
  }
  block.leaf.resize(gate.leaves.size());
  block.gate.fill(0.0f);
  for (std::size_t i = 0; i < gate.leaves.size(); ++i) {
    auto& value = block.leaf[i];
    value.fill(1.0f);
    for (const int line : gate.leaves[i]) {
      const float* half = block.half.col(std::abs(line) - 1).data();
      if (line > 0) {
        for (std::size_t s = 0; s < block.count; ++s) value[s] *= half[s];
      } else {
        for (std::size_t s = 0; s < block.count; ++s) value[s] *= 1.0f - half[s];
      }
    }
    for (std::size_t s = 0; s < block.count; ++s) block.gate[s] += value[s];
  }
}

/// By how much the gate changes with each line's logit.
void GateSamples::fill_rates(const GateTree& gate, const Block& block, Eigen::ArrayXXf& rates) {
  const auto rows = Eigen::Index(block.count);
  rates.topRows(rows) = 0.0f;
  for (std::size_t i = 0; i < gate.leaves.size(); ++i) {
    const Eigen::Map<const Eigen::ArrayXf> value(block.leaf[i].data(), rows);
    for (const int line : gate.leaves[i]) {
      const auto half = block.half.col(std::abs(line) - 1).head(rows).array();
      auto rate = rates.col(std::abs(line) - 1).head(rows);
      if (line > 0) {
        rate += value * (1.0f - half);
      } else {
        rate -= value * half;
      }
    }
  }
}

double GateSamples::cost(const GateTree& gate) const {
  Block block;
  double sum = 0.0;
  for (std::size_t first = 0; first < count(); first += Block::most) {
    fill_block(gate, first, block);
    float part = 0.0f;
    for (std::size_t s = 0; s < block.count; ++s) {
      const float error = wanted_[first + s] - block.gate[s];
      part += weight_[first + s] * error * error;
    }
    sum += double(part);
  }
  return sum;
}

void GateSamples::values(const GateTree& gate, const std::vector<std::vector<int>>& leaves,
                         std::vector<float>& out) const {
  const GateTree part{gate.lines, leaves};
  Block block;
  out.resize(count());
  for (std::size_t first = 0; first < count(); first += Block::most) {
    fill_block(part, first, block);
    std::copy_n(block.gate.begin(), block.count, out.begin() + std::ptrdiff_t(first));
  }
}

void GateSamples::equations(const GateTree& gate, System& system) const {
  constexpr Eigen::Index most = 6;  // numbers of a line; what it lacks of them stays zero
  using Features = Eigen::Matrix<double, most, 1>;
  const Eigen::Index lines = gate.lines.rows(), rank = gate.lines.cols();
  using FeatureProducts = Eigen::Matrix<double, most, most>;
  std::vector<FeatureProducts> matrix(std::size_t(lines * lines), FeatureProducts::Zero());
  std::vector<Features> gradient(static_cast<std::size_t>(lines), Features::Zero());
  Block block;
  Eigen::ArrayXXf rates(Eigen::Index(Block::most), lines);
  std::vector<std::size_t> moved;  // lines next to which a sample lies, one as a rule
  Features row = Features::Zero();
  for (std::size_t first = 0; first < count(); first += Block::most) {
    fill_block(gate, first, block);
    fill_rates(gate, block, rates);
    for (std::size_t s = 0; s < block.count; ++s) {
      const auto at = Eigen::Index(s);
      moved.clear();
      for (Eigen::Index t = 0; t < lines; ++t) {
        if (std::abs(rates(at, t)) >= faint) moved.push_back(static_cast<std::size_t>(t));
      }
      if (moved.empty()) continue;
      const double weight = double(weight_[first + s]), error = double(wanted_[first + s] - block.gate[s]);
      row.head(rank) = features_.row(Eigen::Index(first) + at).cast<double>().transpose();
      const FeatureProducts products = weight * (row * row.transpose());
      for (const std::size_t t : moved) {
        const double rate = double(rates(at, Eigen::Index(t)));
        gradient[t] += (weight * error * rate) * row;
        for (const std::size_t u : moved) {
          if (u <= t) matrix[t * std::size_t(lines) + u] += (rate * double(rates(at, Eigen::Index(u)))) * products;
        }
      }
    }
  }
  system.matrix.setZero(lines * rank, lines * rank);
  system.gradient.resize(lines * rank);
  for (Eigen::Index t = 0; t < lines; ++t) {
    system.gradient.segment(t * rank, rank) = gradient[static_cast<std::size_t>(t)].head(rank);
    for (Eigen::Index u = 0; u <= t; ++u) {
      system.matrix.block(t * rank, u * rank, rank, rank) =
          matrix[std::size_t(t * lines + u)].topLeftCorner(rank, rank);
    }
  }
  system.matrix = system.matrix.selfadjointView<Eigen::Lower>();
}

Eigen::VectorXd GateSamples::largest_logits(const Eigen::MatrixXd& lines) const {
  if (count() == 0) return Eigen::VectorXd::Zero(lines.rows());
  return (features_ * lines.cast<float>().transpose()).cwiseAbs().colwise().maxCoeff().transpose().cast<double>();
}

void GateSamples::limit(Eigen::MatrixXd& lines, double largest) const {
  const Eigen::VectorXd now = largest_logits(lines);
  for (Eigen::Index t = 0; t < lines.rows(); ++t) {
    if (now(t) > largest) lines.row(t) *= largest / now(t);
  }
}

void GateSamples::settle(GateTree& gate, int iterations) const {
  if (gate.lines.rows() == 0) return;
  const Eigen::Index rank = gate.lines.cols();
  double current = cost(gate), damping = 1e-3;
  System system;
  bool fresh = true;
  for (int i = 0; i < iterations; ++i) {
    checkpoint();
    if (fresh) equations(gate, system);
    const double trace = system.matrix.trace();
    if (!(trace > 0.0)) return;  // no sample lies on any edge
    Eigen::MatrixXd damped = system.matrix;
    damped.diagonal() += damping * system.matrix.diagonal();
    damped.diagonal().array() += 1e-9 * trace / double(damped.rows());
    const Eigen::VectorXd step = damped.ldlt().solve(system.gradient);
    GateTree trial = gate;
    for (Eigen::Index t = 0; t < trial.lines.rows(); ++t)
      trial.lines.row(t) += step.segment(t * rank, rank).transpose();
    if (!trial.lines.allFinite()) return;
    limit(trial.lines, steepest);
    const double after = cost(trial);
    fresh = after < current;
    if (fresh) {
      const bool enough = current - after < 1e-4 * after;
      gate = std::move(trial), current = after;
      damping = std::max(damping / 10.0, 1e-8);
      if (enough) return;
    } else if ((damping *= 10.0) > 1e4) {
      return;
    }
  }
}

}  // namespace wavefix
