// SPDX-License-Identifier: Apache-2.0
// Evaluates (1) with the gains and gates of (3), and its derivative
//   dH_jk/dx = sum_l (grad a_lj - j 2 pi f_k / c u_lj a_lj) e^(-j 2 pi f_k d_lj / c),  a_lj = g_lj W_l / d_lj.
// e^(-j 2 pi f_k d / c) is an entry of a table over rows of subcarriers, at the middle of the row, times one of a table
// over distances from there, or its conjugate on the other side: for each antenna the sum over l is a small matrix
// product, and so is each part of the derivative, f_k - f_r taken out of the sum. Of a and b the four real products
// make both a b and a conj(b), so that two subcarriers take as many multiplications as one.
#include "spherical_model.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "angles.hpp"
#include "kernels.hpp"
#include "packed_matrix.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr std::size_t long_block_terms = 1 << 14;  // for a block of antennas to be worth a question for interrupts

}  // namespace

class SphericalModel::Scratch final : public ChannelModel::Workspace {
 public:
  explicit Scratch(const SphericalParameters& net) {
    const auto make = [](auto& buffer, std::size_t size) { buffer.setZero(static_cast<Eigen::Index>(size)); };
    make(distances, net.sources * source_lanes);
    make(amplitudes, net.sources * source_sets * 2 * source_lanes);
    make(row_table, source_chunk * net.rows * 2 * source_lanes);
    make(pair_table, net.sources * net.pairs * 2 * source_lanes);
    make(phasors, net.sources * 2 * 2 * source_lanes);
    make(sums, 2 * source_segment * 2 * source_lanes);
  }

  // of the sources that a block of antennas sees: see SourceSum
  Buffer<double> distances;
  Buffer<float> amplitudes, row_table, pair_table, phasors, sums;
};

SphericalModel::SphericalModel(ModelCommon common_, SphericalParameters parameters)
    : Implementation(std::move(common_)), net_(std::move(parameters)) {}

std::unique_ptr<ChannelModel::Workspace> SphericalModel::make_workspace() const {
  return std::make_unique<Scratch>(net_);
}

SourceTrace SphericalModel::trace_from(const double* position, bool slopes) const {
  SourceTrace task{};
  for (std::size_t axis = 0; axis < 3; ++axis) task.position[axis] = position[axis] - common.region.origin[axis];
  task.stride = net_.stride;
  task.degree = net_.degree;
  task.terms = net_.terms;
  task.lines = net_.lines.data();
  task.carrier_slope = tau / common.wavelength;
  task.band_slope = tau / speed_of_light;
  task.slopes = slopes;
  return task;
}

/// Traces source l to the block of antennas from `first` on, into a slot of the scratch memory; false if it is hidden.
bool SphericalModel::trace_source(SourceTrace& task, std::size_t l, std::size_t first, std::size_t slot,
                                  Scratch& scratch) const {
  task.at = net_.sources_at.data() + 3 * l * net_.stride + first;
  task.variables = net_.variables.data() + 8 * l;
  task.coefficients = net_.coefficients.data() + 2 * l * net_.terms;
  task.cells = net_.cell_begin.data() + net_.source_begin[l];
  task.n_cells = net_.source_begin[l + 1] - net_.source_begin[l];
  task.distance = scratch.distances.data() + slot * source_lanes;
  task.amplitudes = scratch.amplitudes.data() + slot * source_sets * 2 * source_lanes;
  return kernels().trace_source(task);
}

void SphericalModel::synthesize_one(const double* position, cfloat* channel, cfloat* jacobian, Scratch& scratch) const {
  const std::size_t antennas = common.n_antennas(), subcarriers = common.n_subcarriers();
  SourceTrace trace = trace_from(position, jacobian != nullptr);
  SourceSum task{};
  task.distances = scratch.distances.data();
  task.amplitudes = scratch.amplitudes.data();
  task.sets = jacobian != nullptr ? source_sets : 1;
  task.subcarriers = subcarriers;
  task.wavenumbers = net_.wavenumbers.data();
  task.offsets = net_.offsets.data();
  task.equal = net_.equal;
  task.step = net_.step;
  task.rows = net_.rows;
  task.pairs = net_.pairs;
  task.row_table = scratch.row_table.data();
  task.pair_table = scratch.pair_table.data();
  task.phasors = scratch.phasors.data();
  task.sums = scratch.sums.data();
  task.axis_stride = 2 * antennas * subcarriers;
  const bool long_block = net_.sources * subcarriers > long_block_terms;
  for (std::size_t first = 0; first < antennas; first += source_lanes) {
    if (long_block) checkpoint();
    task.count = 0;
    for (std::size_t l = 0; l < net_.sources; ++l) {
      if (trace_source(trace, l, first, task.count, scratch)) ++task.count;
    }
    task.antennas = std::min(source_lanes, antennas - first);
    task.channel = reinterpret_cast<float*>(channel + first * subcarriers);
    if (jacobian != nullptr) task.jacobian = reinterpret_cast<float*>(jacobian + first * subcarriers);
    kernels().sum_sources(task);
  }
}

void SphericalModel::synthesize(const double* positions, std::size_t count, cfloat* channels, cfloat* jacobian,
                                ChannelModel::Workspace& workspace) const {
  const std::size_t entries = common.n_antennas() * common.n_subcarriers();
  for (std::size_t point = 0; point < count; ++point) {
    synthesize_one(positions + 3 * point, channels + point * entries,
                   jacobian != nullptr ? jacobian + point * 3 * entries : nullptr, static_cast<Scratch&>(workspace));
  }
}

void SphericalModel::atoms(const double* position, Atoms& atoms, ChannelModel::Workspace& workspace) const {
  auto& scratch = static_cast<Scratch&>(workspace);
  const std::size_t antennas = common.n_antennas();
  SourceTrace trace = trace_from(position, false);
  atoms.count = 0;
  for (std::size_t l = 0; l < net_.sources; ++l) {
    bool seen = false;
    float* real = atoms.real.data() + atoms.count * antennas;
    float* imag = atoms.imag.data() + atoms.count * antennas;
    double* delay = atoms.delay.data() + atoms.count * antennas;
    for (std::size_t first = 0; first < antennas; first += source_lanes) {
      seen = trace_source(trace, l, first, 0, scratch) || seen;
      const std::size_t lanes = std::min(source_lanes, antennas - first);
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        delay[first + lane] = trace.distance[lane] * (1.0 / speed_of_light);
      }
      float turned[2][source_lanes];
      kernels().turn_source(trace.distance, trace.amplitudes, 1.0 / common.wavelength, turned[0], turned[1]);
      std::copy_n(turned[0], lanes, real + first);
      std::copy_n(turned[1], lanes, imag + first);
    }
    if (!seen) continue;
    double away[3], square = 1e-12;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      away[axis] = trace.position[axis] - net_.reference[3 * l + axis];
      square += away[axis] * away[axis];
    }
    for (std::size_t axis = 0; axis < 3; ++axis) {
      atoms.direction[3 * atoms.count + axis] = away[axis] / std::sqrt(square);
    }
    atoms.index[atoms.count++] = l;
  }
}

}  // namespace wavefix
