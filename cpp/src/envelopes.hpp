// SPDX-License-Identifier: Apache-2.0
// The coherent cost in a box of many wavelengths for little: every path's product with the query is a slow envelope
// times a known carrier, so the envelopes are computed on a few nodes, interpolated, and given their carriers,
// docs/equations.md (15).
#pragma once

#include <array>
#include <vector>

#include "float_cost.hpp"

namespace wavefix {

/// A box: center + sum_d t_d axis_d, |t_d| <= half_width_d.
struct SearchBox {
  std::array<double, 3> center{};
  std::array<double, 9> axes{};  // [dimension, 3], orthonormal
  std::array<double, 3> half_width{};
  std::array<double, 3> pitch{};  // of the candidates along each axis
};

struct Minimum {
  double cost = 0.0;  // relative to ||H||^2
  std::array<double, 3> offset{}, position{};
};

class Envelopes {
 public:
  explicit Envelopes(const PathPlan& plan);

  /// Nodes at most `spacing` apart; `ridge` of free gains.
  void build(const Query& query, const SearchBox& box, double spacing, double ridge);
  /// The most that free gains explain, (13), at the nodes of a face of the box, as far as they lie in the region.
  double explained_on_face(std::size_t d, bool upper) const;
  /// Local minima of the cost on the box's candidates, refined on the interpolated cost, best first: the best
  /// `count` of them and no more. Costs below `least`, which free gains leave, are errors of interpolation.
  const std::vector<Minimum>& minima(std::size_t count, double least);
  /// Corrects a minimum with the envelopes at its own place, where interpolation between nodes may be far off.
  void sharpen(const Query& query, Minimum& minimum);
  /// Interpolated cost at an offset along the box's axes, with Gauss-Newton matrix and step direction if wanted.
  double evaluate(const double* offset, SmallMatrix* normal, SmallVector* gradient);
  std::size_t nodes() const { return node_count_; }

 private:
  struct Axis {
    std::size_t nodes = 3, points = 1;
    double spacing = 1.0;
  };
  struct Cell {
    std::size_t first;
    float weight[3];
  };

  std::size_t pair(std::size_t l, std::size_t m) const { return 3 * plan_.capacity + m * (m - 1) + 2 * l; }
  Cell cell_at(const Axis& axis, double half_width, double offset) const;
  void to_position(const double* offset, double* position) const;
  double rate_of(std::size_t path, std::size_t d) const;
  std::size_t slot_for(std::size_t path);
  void find_carriers();
  double phase(std::size_t slot, const double* offset) const;
  void turn_carriers(const double* offset);
  void fill_values(const Query& query, const double* offset, float* values);
  bool in_region(const double* offset) const;
  void explain_node(std::size_t node, double ridge);
  void mix_row(const double* offset);
  void carry_row(const double* offset);
  void cost_row(std::size_t row);
  void rank_minima(std::size_t count);
  void mix(const double* offset);
  void interpolate(const double* offset);
  void settle(Minimum& minimum);
  void bend_slow_axes(const double* offset, SmallMatrix& normal, SmallVector& gradient);

  const PathPlan& plan_;
  std::size_t dimension_, stride_, slots_ = 0, node_count_ = 0;
  PathSampler sampler_;
  Paths paths_;
  PathPairs pairs_;
  ComplexMatrix gram_;
  ComplexVector products_, gains_;
  SearchBox box_;
  std::array<Axis, 3> axis_;
  bool frozen_ = false;                   // here_ stands for the values everywhere
  std::vector<std::size_t> slot_of_;      // [atoms of the model], or none
  std::vector<std::size_t> index_;        // [slots], which atom of the model
  std::vector<double> rates_;             // [slots, d], turns a meter of the carrier along the box's axes
  std::vector<double> bends_;             // [slots, d, d], turns a square meter
  std::vector<double> slopes_;            // [slots, d], radians a meter, where evaluate() was last
  std::vector<float> values_;             // [nodes, stride]: envelopes (re, im), energies, then pairs (re, im)
  std::vector<double> explained_;         // [nodes], on the faces only
  std::vector<float> row_;                // [nodes of the first axis, stride]
  std::vector<float> here_;               // [stride]
  std::size_t lane_stride_ = 0;           // points of the first axis, in whole blocks of carriers
  std::vector<float> lane_re_, lane_im_;  // [slots, lane_stride_]
  std::vector<float> costs_;
  std::vector<double> phasors_;  // [3, capacity]
  std::vector<std::complex<float>> terms_, sums_;
  std::vector<Minimum> minima_;
};

}  // namespace wavefix
