// SPDX-License-Identifier: Apache-2.0
// Kind "spherical": virtual sources (1) with the gains and gates of (3).
#pragma once

#include <memory>
#include <vector>

#include "channel_model_kinds.hpp"
#include "source_kernels.hpp"

namespace wavefix {

/// What the file says, ordered for evaluation. Positions are relative to the region's origin.
struct SphericalParameters {
  std::size_t sources = 0;                // L
  std::size_t stride = 0;                 // antennas, padded to whole blocks with copies of the last
  std::size_t degree = 0;                 // q
  std::size_t terms = 0;                  // (q + 1)(q + 2) / 2
  std::vector<double> reference;          // [L, 3], s_l
  std::vector<double> sources_at;         // [L, 3, stride], s_lj
  std::vector<double> variables;          // [L, 2, 4], M_l
  std::vector<float> coefficients;        // [L, 2, terms], real parts, then imaginary parts, meters
  std::vector<GateLine> lines;            // [E]
  std::vector<std::size_t> cell_begin;    // [C + 1], into lines
  std::vector<std::size_t> source_begin;  // [L + 1], into cells; a source without cells is visible everywhere
  std::vector<double> wavenumbers;        // [K], f_k / c
  std::vector<float> offsets;             // [K], f_k - f_r
  bool equal = false;                     // f_k at equal steps
  double step = 0;                        // of the wavenumbers
  std::size_t rows = 1, pairs = 1;        // a segment of subcarriers: in each row, so many on either side of its middle
};

SphericalParameters read_spherical_parameters(const ModelCommon& common, TensorReader& tensors);

class SphericalModel final : public ChannelModel::Implementation {
 public:
  SphericalModel(ModelCommon common, SphericalParameters parameters);

  std::size_t n_atoms() const override { return net_.sources; }
  std::unique_ptr<ChannelModel::Workspace> make_workspace() const override;
  std::size_t preferred_batch() const override { return 1; }
  void synthesize(const double* positions, std::size_t count, cfloat* channels, cfloat* jacobian,
                  ChannelModel::Workspace& workspace) const override;
  void atoms(const double* position, Atoms& atoms, ChannelModel::Workspace& workspace) const override;

 private:
  class Scratch;

  SourceTrace trace_from(const double* position, bool slopes) const;
  bool trace_source(SourceTrace& task, std::size_t source, std::size_t first, std::size_t slot, Scratch& scratch) const;
  void synthesize_one(const double* position, cfloat* channel, cfloat* jacobian, Scratch& scratch) const;

  SphericalParameters net_;
};

}  // namespace wavefix
