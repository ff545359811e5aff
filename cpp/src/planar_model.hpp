// SPDX-License-Identifier: Apache-2.0
// Kind "planar": the planar network (2).
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "channel_model_kinds.hpp"
#include "mlp.hpp"
#include "packed_matrix.hpp"

namespace wavefix {

/// Points on a line at equal steps, found once so that phase tables are made by multiplication.
struct Spacing {
  bool equal = false;
  std::vector<double> first;  // of each coordinate
  std::vector<double> step;
};

/// What the file says, in the units of evaluation.
struct PlanarParameters {
  std::size_t atoms = 0;                     // D
  std::size_t stride = 0;                    // padded(D)
  std::size_t dimension = 0;                 // d
  std::size_t rank = 0;                      // r
  std::vector<double> directions;            // [D, 3], u_i / wavelength, turns a meter
  std::vector<double> offsets;               // [A, r], b_q . (p_j - p_r) / wavelength, turns
  std::vector<double> delays;                // [K], (f_k - f_r) / c, turns a meter
  std::vector<double> middle, inverse_half;  // [d], of the region
  double scale = 0;
  double farthest_offset = 0, widest_delay = 0;  // largest magnitude of the two
  Spacing antennas, subcarriers;
  // Phases need more digits than float32 has: 64 antennas make an error in a slope a hundred times larger.
  Mlp<double> path;   // output [D], L_i in meters
  Mlp<double> slope;  // output [r, padded(D)]
  Mlp<float> weight;  // output [2, padded(D)]: real and imaginary part of z
};

PlanarParameters read_planar_parameters(const ModelCommon& common, TensorReader& tensors);

class PlanarModel final : public ChannelModel::Implementation {
 public:
  PlanarModel(ModelCommon common, PlanarParameters parameters);

  std::size_t n_atoms() const override { return net_.atoms; }
  std::unique_ptr<ChannelModel::Workspace> make_workspace() const override;
  std::size_t preferred_batch() const override { return 8; }
  void synthesize(const double* positions, std::size_t count, cfloat* channels, cfloat* jacobian,
                  ChannelModel::Workspace& workspace) const override;
  void atoms(const double* position, Atoms& atoms, ChannelModel::Workspace& workspace) const override;

 private:
  class Scratch;
  struct Outputs;  // of the three networks, at one position

  void fill_inputs(const double* positions, std::size_t count, std::size_t tangents, Scratch& scratch) const;
  void weigh(const Outputs& outputs, std::size_t tangents, Scratch& scratch) const;
  void select(const Outputs& outputs, std::size_t tangents, Scratch& scratch) const;
  void make_tables(const double* position, const Outputs& outputs, Scratch& scratch) const;
  void make_antenna_table(const Outputs& outputs, Scratch& scratch) const;
  void make_subcarrier_table(const Outputs& outputs, Scratch& scratch) const;
  void multiply_antennas(float* out, const Scratch& scratch) const;
  void synthesize_channel(cfloat* channel, Scratch& scratch) const;
  void synthesize_jacobian(const Outputs& outputs, cfloat* jacobian, Scratch& scratch) const;
  void add_delay_terms(const Outputs& outputs, cfloat* jacobian, Scratch& scratch) const;

  PlanarParameters net_;
};

}  // namespace wavefix
