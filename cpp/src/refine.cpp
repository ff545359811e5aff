// SPDX-License-Identifier: Apache-2.0
#include "wavefix/refine.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "channel_math.hpp"
#include "channel_model_kinds.hpp"
#include "kernels.hpp"
#include "path_groups.hpp"
#include "untrapped.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

using Matrix3 = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;
// Up to three unknowns, kept on the stack.
using SmallMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, 3, 3>;
using SmallVector = Eigen::Matrix<double, Eigen::Dynamic, 1, Eigen::ColMajor, 3, 1>;
using Basis = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, 3, Eigen::RowMajor, 3, 3>>;  // on the stack

Basis basis_of(const Region& region) { return {region.basis.data(), static_cast<Eigen::Index>(region.dimension()), 3}; }

}  // namespace

struct Refiner::Scratch {
  ChannelModel model;
  RefineOptions options;
  std::unique_ptr<ChannelModel::Workspace> workspace;
  std::vector<cfloat> channel, jacobian;
  Matrix3 information;
  Eigen::Vector3d gradient;
  Atoms atoms;
  PathGroups groups;
  std::vector<double> delays{};             // [atoms], means over the antennas
  std::vector<Eigen::Vector3cd> slopes{};   // [groups], J^H b of each, over j times the wavenumber
  std::vector<std::size_t> by_frequency{};  // subcarriers in order of frequency

  std::size_t size() const { return channel.size(); }

  /// Cost at `position`; information and gradient are left in the scratch.
  double linearize(const cfloat* measured, const double* position) {
    checkpoint();
    model.synthesize_one(position, channel.data(), jacobian.data(), *workspace);
    double a[normal_sums];
    kernels().add_normal_equations(
        {reinterpret_cast<const float*>(measured), reinterpret_cast<const float*>(channel.data()),
         reinterpret_cast<const float*>(jacobian.data()), 2 * size()},
        a);
    information << a[0], a[1], a[2], a[1], a[3], a[4], a[2], a[4], a[5];
    gradient << a[6], a[7], a[8];
    return known(a[9]);
  }

  /// Infinite where the model has no value.
  static double known(double cost) { return std::isnan(cost) ? std::numeric_limits<double>::infinity() : cost; }

  Refinement result(const double* position, double cost) const {
    Refinement refinement;
    std::copy_n(position, 3, refinement.position.begin());
    refinement.cost = cost;
    std::copy_n(information.data(), 9, refinement.information.begin());
    return refinement;
  }
};

Refiner::Refiner(const ChannelModel& model, const RefineOptions& options)
    : scratch_(new Scratch{model, options, model.make_workspace(),
                           std::vector<cfloat>(model.n_antennas() * model.n_subcarriers()),
                           std::vector<cfloat>(3 * model.n_antennas() * model.n_subcarriers()), Matrix3::Zero(),
                           Eigen::Vector3d::Zero(), Atoms(model.n_atoms(), model.n_antennas()),
                           PathGroups(model.n_atoms(), model.n_antennas(), model.frequencies())}) {
  scratch_->delays.resize(model.n_atoms());
  scratch_->slopes.resize(model.n_atoms());
  if (options.max_iterations < 0 || !(options.initial_damping > 0.0) || !(options.max_step > 0.0) ||
      !(options.tolerance >= 0.0)) {
    throw ShapeError("refine options: expected max_iterations >= 0, initial_damping > 0, max_step > 0, tolerance >= 0");
  }
  const std::vector<double>& frequencies = model.frequencies();
  scratch_->by_frequency.resize(frequencies.size());
  std::iota(scratch_->by_frequency.begin(), scratch_->by_frequency.end(), std::size_t{0});
  std::stable_sort(scratch_->by_frequency.begin(), scratch_->by_frequency.end(),
                   [&](std::size_t a, std::size_t b) { return frequencies[a] < frequencies[b]; });
}
Refiner::Refiner(Refiner&&) noexcept = default;
Refiner::~Refiner() = default;

double Refiner::cost(const cfloat* channel, const double* position) {
  Scratch& s = *scratch_;
  checkpoint();
  s.model.synthesize_one(position, s.channel.data(), nullptr, *s.workspace);
  return Scratch::known(detail::squared_distance(channel, s.channel.data(), s.size()));
}

double Refiner::structured_cost(const cfloat* channel, const double* position) {
  Scratch& s = *scratch_;
  s.model.synthesize_one(position, s.channel.data(), nullptr, *s.workspace);
  const bool by_subcarrier = s.model.n_subcarriers() > 1;
  const std::size_t along = by_subcarrier ? s.model.n_subcarriers() : s.model.n_antennas();
  if (along < 2) return detail::squared_distance(channel, s.channel.data(), s.size());
  cdouble sum = 0.0, previous = 0.0;
  for (std::size_t i = 0; i < s.size(); ++i) {
    const std::size_t entry = by_subcarrier ? i - i % along + s.by_frequency[i % along] : i;
    const cdouble rest = cdouble(channel[entry]) - cdouble(s.channel[entry]);
    if (i % along != 0) sum += rest * std::conj(previous);
    previous = rest;
  }
  return std::abs(sum) * static_cast<double>(along) / static_cast<double>(along - 1);
}

std::array<double, 9> Refiner::error_information(const double* position, double error_energy) {
  Scratch& s = *scratch_;
  const Atoms& atoms = s.atoms;
  s.model.implementation().atoms(position, s.atoms, *s.workspace);
  for (std::size_t l = 0; l < atoms.count; ++l) {
    const double* const delay = atoms.delay.data() + l * atoms.stride;
    s.delays[l] = std::accumulate(delay, delay + atoms.stride, 0.0) / static_cast<double>(atoms.stride);
  }
  s.groups.assign(atoms.count, atoms.real.data(), atoms.imag.data(), s.delays.data());
  const double wavenumber = 2.0 * 3.14159265358979323846 / s.model.wavelength();
  double total = 0.0;
  std::fill_n(s.slopes.begin(), s.groups.count(), Eigen::Vector3cd::Zero());
  for (std::size_t l = 0; l < atoms.count; ++l) {
    const cdouble product = s.groups.product_with_group(l);
    total += product.real();
    s.slopes[s.groups.of(l)] += product * Eigen::Map<const Eigen::Vector3d>(atoms.direction.data() + 3 * l);
  }
  Matrix3 sum = Matrix3::Zero();
  for (std::size_t group = 0; group < s.groups.count(); ++group) {
    const Eigen::Vector3cd& slope = s.slopes[group];
    sum += slope.real() * slope.real().transpose() + slope.imag() * slope.imag().transpose();
  }
  std::array<double, 9> result{};
  const auto subcarriers = static_cast<double>(s.model.n_subcarriers());
  if (total > 0.0)
    Eigen::Map<Matrix3>(result.data()) = (0.5 * subcarriers * wavenumber * wavenumber * error_energy / total) * sum;
  return result;
}

Refinement Refiner::evaluate(const cfloat* channel, const double* position) {
  const double cost = scratch_->linearize(channel, position);
  return scratch_->result(position, cost);
}

Refinement Refiner::refine(const cfloat* channel, const double* start) {
  Scratch& s = *scratch_;
  const Basis basis = basis_of(s.model.region());
  const double longest = s.options.max_step * s.model.wavelength();
  const double shortest = s.options.tolerance * s.model.wavelength();
  Eigen::Vector3d position(start[0], start[1], start[2]);
  Refinement best = s.result(position.data(), s.linearize(channel, position.data()));
  SmallMatrix normal = basis * s.information * basis.transpose();
  SmallVector gradient = basis * s.gradient;
  const double energy = detail::energy(channel, s.size());
  double damping = s.options.initial_damping;
  for (int iteration = 1; iteration <= s.options.max_iterations && normal.rows() > 0; ++iteration) {
    best.iterations = iteration;
    // (6): (A + damping diag A) step = Re(J^H r)
    SmallMatrix damped = normal;
    damped.diagonal() *= 1.0 + damping;
    SmallVector step = damped.ldlt().solve(gradient);
    if (!step.allFinite()) break;
    if (step.norm() > longest) step *= longest / step.norm();
    // A step whose gain drowns in the float32 rounding of the cost would be tried and refused over and over.
    const bool drowned = gradient.dot(step) <= 1e-8 * std::sqrt(best.cost * energy);
    best.converged = drowned || step.norm() <= shortest;
    if (drowned) break;
    const Eigen::Vector3d trial = position + basis.transpose() * step;
    const double cost = s.linearize(channel, trial.data());
    if (cost < best.cost) {
      position = trial;
      std::copy_n(position.data(), 3, best.position.begin());
      best.cost = cost;
      std::copy_n(s.information.data(), 9, best.information.begin());
      normal = basis * s.information * basis.transpose();
      gradient = basis * s.gradient;
      damping = std::max(damping * 0.1, 1e-12);
    } else {
      damping *= 10.0;
    }
    if (best.converged) break;
  }
  return best;
}

void refine(const ChannelModel& model, View<const cfloat, 3> channels, View<const double, 2> starts,
            const RefineOptions& options, View<double, 2> positions, View<double, 1> costs, View<int, 1> iterations,
            const Execution& execution) {
  const Untrapped untrapped;
  const std::size_t n = channels.shape[0];
  const std::array<std::size_t, 3> expected{n, model.n_antennas(), model.n_subcarriers()};
  if (channels.shape != expected) throw_shape("channels", "shape " + shape_text(expected), shape_text(channels.shape));
  for (const auto& shape : {starts.shape, positions.shape}) {
    if (shape != std::array<std::size_t, 2>{n, 3}) {
      throw_shape("starts", "shape (" + std::to_string(n) + ", 3)", shape_text(shape));
    }
  }
  std::vector<Refiner> refiners;
  for (int worker = 0; worker < thread_count(n, execution.threads); ++worker) refiners.emplace_back(model, options);
  parallel_for(n, execution, [&](std::size_t row, int worker) {
    const double* start = starts.row(row);
    const bool finite = std::all_of(start, start + 3, [](double v) { return std::isfinite(v); }) &&
                        detail::all_finite(channels.row(row), channels.stride());
    const auto refuse = [&] {
      std::fill_n(positions.row(row), 3, nan);
      costs.data[row] = nan;
      iterations.data[row] = -1;
    };
    if (!finite) {
      refuse();
      return;
    }
    const Refinement result = refiners[static_cast<std::size_t>(worker)].refine(channels.row(row), start);
    if (!std::isfinite(result.cost)) {  // so far outside that the model has no value there
      refuse();
      return;
    }
    std::copy_n(result.position.data(), 3, positions.row(row));
    costs.data[row] = result.cost;
    iterations.data[row] = result.converged ? result.iterations : -result.iterations;
  });
}

std::array<double, 9> covariance(const std::array<double, 9>& information, const Region& region, double noise_variance,
                                 const std::array<double, 9>& error_information) {
  const Basis basis = basis_of(region);
  const Eigen::Map<const Matrix3> full(information.data());
  const SmallMatrix reduced = basis * full * basis.transpose();
  std::array<double, 9> result;
  Eigen::Map<Matrix3> out(result.data());
  const Eigen::LDLT<SmallMatrix> factors(reduced);
  const double largest = reduced.diagonal().size() ? reduced.diagonal().maxCoeff() : 0.0;
  if (!reduced.allFinite() || !(largest > 0.0) || factors.vectorD().minCoeff() <= 1e-12 * largest) {
    out.setConstant(nan);
    return result;
  }
  const SmallMatrix inverse = factors.solve(SmallMatrix::Identity(reduced.rows(), reduced.cols()));
  const SmallMatrix errors = basis * Eigen::Map<const Matrix3>(error_information.data()) * basis.transpose();
  out = basis.transpose() * (0.5 * noise_variance * inverse + inverse * errors * inverse) * basis;
  return result;
}

void position_error_bound(const ChannelModel& model, View<const double, 2> positions, double snr_db,
                          View<double, 1> bounds, const Execution& execution) {
  const Untrapped untrapped;
  const std::size_t n = positions.shape[0], size = model.n_antennas() * model.n_subcarriers();
  if (positions.shape[1] != 3) throw_shape("positions", "shape (n, 3)", shape_text(positions.shape));
  if (bounds.shape[0] != n) throw_shape("bounds", "shape (" + std::to_string(n) + ",)", shape_text(bounds.shape));
  if (!std::isfinite(snr_db)) throw ShapeError("snr_db: expected a finite number of decibels");
  std::vector<Refiner> refiners;
  for (int worker = 0; worker < thread_count(n, execution.threads); ++worker)
    refiners.emplace_back(model, RefineOptions{});
  const std::vector<cfloat> silence(size);
  const double inverse_snr = std::pow(10.0, -snr_db / 10.0);
  parallel_for(n, execution, [&](std::size_t row, int worker) {
    const double* position = positions.row(row);
    bounds.data[row] = nan;
    if (!std::all_of(position, position + 3, [](double v) { return std::isfinite(v); })) return;
    // The cost against a zero channel is the energy of the model's channel.
    const Refinement at = refiners[static_cast<std::size_t>(worker)].evaluate(silence.data(), position);
    const double noise_variance = at.cost / static_cast<double>(size) * inverse_snr;
    const auto spread = covariance(at.information, model.region(), noise_variance);
    bounds.data[row] = std::sqrt(spread[0] + spread[4] + spread[8]);
  });
}

}  // namespace wavefix
