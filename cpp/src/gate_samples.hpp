// SPDX-License-Identifier: Apache-2.0
// What a gate is fitted to: its wanted value and weight at each location and antenna, docs/equations.md (19).
#pragma once

#include <Eigen/Dense>
#include <array>
#include <utility>
#include <vector>

#include "wavefix/source_fit.hpp"

namespace wavefix {

/// As SourceGate, with the lines [T, rank] in the coordinates in which features are uncorrelated.
struct GateTree {
  Eigen::MatrixXd lines;
  std::vector<std::vector<int>> leaves{{}};
};

/// Every leaf, with whether it is lit.
std::vector<std::pair<std::vector<int>, bool>> all_leaves(const GateTree& gate);

/// The tree with everything on one side of a line.
GateTree with_side(const GateTree& gate, Eigen::Index line, bool above);

class GateSamples {
 public:
  static constexpr float closed = 17.0f;   // a logit whose sigmoid is 0 or 1 in float
  static constexpr double steepest = 1e5;  // largest logit

  GateSamples() = default;
  GateSamples(const Measurement& measurement, const double* source, const double* rotation, View<const float, 2> wanted,
              View<const float, 2> weight);

  /// About `most` of them, equally spaced.
  GateSamples some(std::size_t most) const;

  std::size_t count() const { return wanted_.size(); }
  float wanted(std::size_t s) const { return wanted_[s]; }
  float weight(std::size_t s) const { return weight_[s]; }

  GateTree tree_of(const SourceGate& gate) const;
  /// `by_kind`: of the numbers that the samples do not tell, those that an edge of its kind lacks are zero.
  SourceGate gate_of(const GateTree& tree, bool by_kind) const;
  Eigen::RowVectorXd whitened(const Eigen::Matrix<double, 6, 1>& line) const;

  double cost(const GateTree& gate) const;
  /// Of the given leaves together, at each sample.
  void values(const GateTree& gate, const std::vector<std::vector<int>>& leaves, std::vector<float>& out) const;
  /// The cost, and for each number that a line has what so many samples weigh.
  double price(const GateTree& gate, double number_worth) const;
  /// Levenberg-Marquardt on all lines.
  void settle(GateTree& gate, int iterations) const;
  /// All lines moved while they are soft, then made steep again; never at a higher price than before.
  void resettle(GateTree& gate) const;
  /// Each line to where it parts the samples next to it; never at a higher price than before.
  void place(GateTree& gate, double number_worth) const;
  /// Without one of the lines, where those that are left can be placed at a lower price; whether there is such a one.
  bool simplify(GateTree& gate, double number_worth) const;

 private:
  GateSamples part(const std::vector<std::size_t>& chosen) const;
  /// Those within some logits of any line.
  GateSamples around(const GateTree& gate, float margin) const;
  struct Block;
  struct System;
  struct Sides;

  void fill_block(const GateTree& gate, std::size_t first, Block& block) const;
  static void fill_rates(const GateTree& gate, const Block& block, Eigen::ArrayXXf& rates);
  void equations(const GateTree& gate, System& system) const;
  Eigen::VectorXd largest_logits(const Eigen::MatrixXd& lines) const;
  void limit(Eigen::MatrixXd& lines, double largest) const;
  void sharpen(GateTree& gate) const;
  void sharpen(GateTree& gate, Eigen::Index line) const;
  void separate(GateTree& gate, Eigen::Index line) const;
  /// Within so many logits of a line, and the nearest ones of them where there are more than `most`.
  Sides sides_of(const GateTree& gate, Eigen::Index line, float within, std::size_t most) const;
  static Eigen::VectorXd parting(const Sides& sides, const Eigen::MatrixXd& rows, Eigen::VectorXd line);
  std::size_t kind_of(const Eigen::RowVectorXd& line) const;
  /// The lines of edges that stand upright, lie level, or neither.
  struct Kind {
    Eigen::MatrixXd span;  // [numbers, rank], orthonormal
    Eigen::MatrixXd raw;   // [6, rank]: raw line = raw * line
  };
  Kind kind_with(const std::vector<Eigen::Index>& numbers) const;

  Eigen::MatrixXf features_;      // [count, rank], whitened
  Eigen::MatrixXd whiten_, raw_;  // features = raw features * whiten_; lines = raw lines * raw_
  std::vector<Kind> kinds_;
  std::vector<float> wanted_, weight_;
  double mean_weight_ = 0.0;
};

}  // namespace wavefix
