// SPDX-License-Identifier: Apache-2.0
// Levenberg-Marquardt over gains, positions and rotations of virtual sources, docs/equations.md (18).
#include <Eigen/Cholesky>
#include <Eigen/Geometry>
#include <Eigen/LU>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "angles.hpp"
#include "source_rays.hpp"
#include "source_terms.hpp"
#include "wavefix/source_fit.hpp"

namespace wavefix {
namespace {

constexpr int retries = 6;
constexpr double trust = 0.3;  // of the energy left, spread over the sources, that a step's nonlinearity may make
constexpr double most_damping = 1e3, least_damping = 1e-6;
constexpr std::size_t looked_at = 48;  // locations, about, that tell how nonlinear a step is

using Vector3 = Eigen::Vector3d;
using Rotation = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Rotation rotation_of(const Vector3& vector) {
  const double angle = vector.norm();
  return Eigen::AngleAxisd(angle, angle > 0.0 ? Vector3(vector / angle) : Vector3::UnitX()).toRotationMatrix();
}

struct State {
  std::vector<double> positions, rotations;
  std::vector<cdouble> coefficients;
};

class SourceRefinement {
 public:
  SourceRefinement(const Measurement& measurement, View<const cfloat, 3> channels, View<const double, 2> factors,
                   View<const double, 1> middle, double reference_frequency, const MovingSources& sources,
                   const Execution& execution)
      : measurement_(measurement),
        channels_(channels),
        factors_(factors),
        middle_(middle),
        reference_frequency_(reference_frequency),
        sources_(sources),
        execution_(execution),
        count_(sources.positions.shape[0]) {
    for (std::size_t l = 0; l < count_; ++l) {
      first_.push_back(first_.back() + 2 * static_cast<std::size_t>(sources.terms.data[l]) + motions);
    }
    const auto unknowns = static_cast<Eigen::Index>(first_.back());
    matrix_.resize(unknowns, unknowns), scaled_.resize(unknowns, unknowns);
    gradient_.resize(unknowns), scale_.resize(unknowns), step_.resize(unknowns);
    const std::size_t rays = channels.shape[0] * channels.shape[1] * count_;
    basis_.resize(rays * sources.coefficients.shape[1]);
    amplitudes_.resize(rays);
    keep_gates();
    const std::size_t n = channels.shape[0], every = std::max<std::size_t>(1, n / looked_at);
    for (std::size_t row = 0; row < n; row += every) rows_.push_back(row);
    const double* f = measurement.frequencies.data;
    const auto [lowest, highest] = std::minmax_element(f, f + measurement.frequencies.shape[0]);
    for (const double one : {*lowest, reference_frequency, *highest}) wavenumbers_.push_back(wavenumber_of(one));
  }

  double run(const SourceRefineOptions& options) {
    const auto began = std::chrono::steady_clock::now();
    State current{copy(sources_.positions), copy(sources_.rotations), copy(sources_.coefficients)}, trial;
    std::vector<cfloat> left, trial_left;
    double cost = residual(current, left);
    dampings_.assign(count_, options.damping);
    bool fresh = true;
    for (std::size_t iteration = 0; iteration < options.iterations; ++iteration) {
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - began;
      if (iteration > 0 && passed.count() > options.seconds) break;
      if (fresh) linearize(current, left);
      trusted_step(current, trial, cost / static_cast<double>(channels_.size()));
      const double after = residual(trial, trial_left);
      fresh = after < cost;
      if (!fresh) {
        for (double& damping : dampings_) damping *= 10.0;
        if (*std::min_element(dampings_.begin(), dampings_.end()) > most_damping) break;
        continue;
      }
      const double gain = 1.0 - after / cost;
      std::swap(current, trial), std::swap(left, trial_left);
      cost = after;
      for (double& damping : dampings_) damping = std::max(damping / 5.0, least_damping);
      if (gain < options.least_gain) break;
    }
    std::copy(current.positions.begin(), current.positions.end(), sources_.positions.data);
    std::copy(current.rotations.begin(), current.rotations.end(), sources_.rotations.data);
    std::copy(current.coefficients.begin(), current.coefficients.end(), sources_.coefficients.data);
    return cost;
  }

 private:
  template <class T, std::size_t N>
  static std::vector<T> copy(View<T, N> view) {
    return {view.data, view.data + view.size()};
  }

  static double wavenumber_of(double frequency) { return tau * frequency / speed_of_light; }

  SourceGeometry geometry_of(const State& state) const {
    return {{state.positions.data(), {count_, 3}}, {state.rotations.data(), {count_, 3, 3}}};
  }

  SourceGains gains_of(const State& state) const {
    SourceGains gains = sources_.gains;
    gains.coefficients = {state.coefficients.data(), sources_.coefficients.shape};
    return gains;
  }

  double factor(std::size_t row, std::size_t antenna) const {
    return factors_.size() > 0 ? factors_.row(row)[antenna] : 1.0;
  }

  void weigh(float* values, std::size_t a_sample) const {
    for (std::size_t sample = 0; sample < factors_.size(); ++sample) {
      const auto own = static_cast<float>(factors_.data[sample]);
      for (std::size_t i = 0; i < a_sample; ++i) values[sample * a_sample + i] *= own;
    }
  }

  /// The gates of the sources where they begin.
  void keep_gates() {
    const std::size_t antennas = channels_.shape[1];
    gates_.resize(channels_.shape[0] * antennas * count_);
    const SourceGeometry geometry{{sources_.positions.data, {count_, 3}}, {sources_.rotations.data, {count_, 3, 3}}};
    SourceGains gains = sources_.gains;
    gains.coefficients = {sources_.coefficients.data, sources_.coefficients.shape};
    const SourceTerms terms(measurement_, geometry, gains);
    parallel_for(channels_.shape[0], execution_, [&](std::size_t row, int) {
      for (std::size_t j = 0; j < antennas; ++j) {
        for (std::size_t l = 0; l < count_; ++l) {
          gates_[(row * antennas + j) * count_ + l] = static_cast<float>(terms.gate(row, j, l));
        }
      }
    });
  }

  View<const float, 3> gates() const { return {gates_.data(), {channels_.shape[0], channels_.shape[1], count_}}; }

  /// What the sources leave, and its energy.
  double residual(const State& state, std::vector<cfloat>& left) {
    const View<cfloat, 3> amplitudes{amplitudes_.data(), {channels_.shape[0], channels_.shape[1], count_}};
    source_terms(measurement_, geometry_of(state), gains_of(state), gates(), {}, amplitudes, execution_);
    for (cfloat& one : amplitudes_) one = -one;
    weigh(reinterpret_cast<float*>(amplitudes_.data()), 2 * count_);
    left.assign(channels_.data, channels_.data + channels_.size());
    source_accumulate(measurement_, geometry_of(state), amplitudes, {left.data(), channels_.shape}, execution_);
    const std::size_t size = channels_.shape[1] * channels_.shape[2];
    double energy = 0.0;
    for (std::size_t row = 0; row < channels_.shape[0]; ++row) {
      double own = 0.0;
      for (std::size_t i = row * size; i < (row + 1) * size; ++i) own += static_cast<double>(std::norm(left[i]));
      energy += own;
    }
    return energy;
  }

  void linearize(const State& state, const std::vector<cfloat>& left) {
    const std::size_t n = channels_.shape[0], antennas = channels_.shape[1], terms = sources_.coefficients.shape[1];
    const View<float, 4> basis{basis_.data(), {n, antennas, count_, terms}};
    const View<cfloat, 3> amplitudes{amplitudes_.data(), {n, antennas, count_}};
    source_terms(measurement_, geometry_of(state), gains_of(state), gates(), basis, amplitudes, execution_);
    weigh(basis_.data(), count_ * terms);
    weigh(reinterpret_cast<float*>(amplitudes_.data()), 2 * count_);
    const std::size_t unknowns = first_.back();
    source_normal_equations(measurement_, geometry_of(state), basis, sources_.terms, amplitudes,
                            {left.data(), channels_.shape}, middle_, reference_frequency_,
                            {matrix_.data(), {unknowns, unknowns}}, {gradient_.data(), {unknowns}}, execution_);
    const double least = std::max(1e-9 * matrix_.diagonal().maxCoeff(), 1e-30);
    scale_ = matrix_.diagonal().cwiseMax(least).cwiseSqrt().cwiseInverse();
  }

  /// The damped step; a source that leaves the range where its equations are linear is damped more.
  void trusted_step(const State& current, State& trial, double noise) {
    std::vector<double> errors(count_);
    for (int attempt = 0; attempt < retries; ++attempt) {
      solve();
      trial = current;
      for (std::size_t l = 0; l < count_; ++l) move(l, trial);
      const SourceGeometry before = geometry_of(current), after = geometry_of(trial);
      const SourceTerms terms(measurement_, before, gains_of(current), gates());
      const SourceTerms then(measurement_, after, gains_of(trial), gates());
      parallel_for(count_, execution_,
                   [&](std::size_t l, int) { errors[l] = nonlinearity(l, before, after, terms, then); });
      bool wild = false;
      for (std::size_t l = 0; l < count_; ++l) {
        if (!(errors[l] > trust * noise / static_cast<double>(count_))) continue;
        dampings_[l] *= 10.0, wild = true;
      }
      if (!wild) return;
    }
  }

  /// With every unknown scaled to a unit column.
  void solve() {
    const auto fill = [&] {
      scaled_.triangularView<Eigen::Lower>() = scale_.asDiagonal() * matrix_ * scale_.asDiagonal();
      for (std::size_t l = 0; l < count_; ++l) {
        const auto begin = static_cast<Eigen::Index>(first_[l]), end = static_cast<Eigen::Index>(first_[l + 1]);
        scaled_.diagonal().segment(begin, end - begin).array() += dampings_[l] + 1e-7;
      }
    };
    fill();
    step_ = scale_.cwiseProduct(gradient_);
    const Eigen::LLT<Eigen::Ref<Matrix>> factor(scaled_);  // in place
    if (factor.info() == Eigen::Success) {
      factor.solveInPlace(step_);
    } else {  // sums in single precision may leave it a little indefinite
      fill();
      step_ = Matrix(scaled_.selfadjointView<Eigen::Lower>()).partialPivLu().solve(step_).eval();
    }
    step_.array() *= scale_.array();
  }

  /// Source l after its step. The coefficients turn by the phase that the range step adds at the middle.
  void move(std::size_t l, State& state) const {
    const auto terms = static_cast<std::size_t>(sources_.terms.data[l]);
    const double* step = step_.data() + first_[l];
    Eigen::Map<Vector3> position(state.positions.data() + 3 * l);
    Eigen::Map<Rotation> rotation(state.rotations.data() + 9 * l);
    const Eigen::Map<const Vector3> middle(middle_.data), shift(step + 2 * terms), turn(step + 2 * terms + 3);
    const double before = (middle - position).norm();
    position += shift;
    rotation = (rotation_of(turn) * rotation).eval();
    const cdouble phase = std::polar(1.0, wavenumbers_[1] * ((middle - position).norm() - before));
    cdouble* own = state.coefficients.data() + l * sources_.coefficients.shape[1];
    for (std::size_t t = 0; t < terms; ++t) own[t] = (own[t] + cdouble(step[t], step[terms + t])) * phase;
  }

  /// Mean square, over locations, antennas and the ends and middle of the band, of what the step of source l does
  /// beyond (18).
  double nonlinearity(std::size_t l, const SourceGeometry& before, const SourceGeometry& after,
                      const SourceTerms& terms, const SourceTerms& then) const {
    const auto own = static_cast<std::size_t>(sources_.terms.data[l]);
    const double* step = step_.data() + first_[l];
    const Eigen::Map<const Vector3> shift(step + 2 * own), turn(step + 2 * own + 3);
    const Eigen::Map<const Vector3> middle(middle_.data), position(before.positions.row(l));
    const double there = -(middle - position).normalized().dot(shift);
    std::vector<double> basis(sources_.coefficients.shape[1]), unused(basis.size());
    double total = 0.0;
    for (const std::size_t row : rows_) {
      const double* user = measurement_.positions.row(row);
      for (std::size_t j = 0; j < channels_.shape[1]; ++j) {
        const double weight = factor(row, j);
        if (weight == 0.0) continue;
        const double* offset = measurement_.offsets.row(j);
        const Ray ray = ray_of(user, before.positions.row(l), before.rotations.row(l), offset);
        const Ray moved = ray_of(user, after.positions.row(l), after.rotations.row(l), offset);
        const cdouble value = weight * terms.fill(row, j, l, basis.data());
        const cdouble value_after = weight * then.fill(row, j, l, unused.data());
        cdouble change = 0.0;
        for (std::size_t t = 0; t < own; ++t) change += weight * basis[t] * cdouble(step[t], step[own + t]);
        const Eigen::Map<const Vector3> arm(ray.arm.data()), direction(ray.direction.data());
        const double range = -direction.dot(shift) - arm.cross(direction).dot(turn);
        for (const double wavenumber : wavenumbers_) {
          const cdouble turned = cdouble(0.0, wavenumber * range - wavenumbers_[1] * there) * value;
          const cdouble exact = value_after * std::polar(1.0, -wavenumber * (moved.distance - ray.distance));
          total += std::norm(exact - (value + change - turned));
        }
      }
    }
    return total / static_cast<double>(wavenumbers_.size() * rows_.size() * channels_.shape[1]);
  }

  const Measurement& measurement_;
  View<const cfloat, 3> channels_;
  View<const double, 2> factors_;
  View<const double, 1> middle_;
  double reference_frequency_;
  const MovingSources& sources_;
  const Execution& execution_;
  std::size_t count_;
  std::vector<std::size_t> first_{0}, rows_;
  std::vector<double> wavenumbers_;  // of the ends of the band, and in the middle of the reference
  std::vector<float> basis_, gates_;
  std::vector<cfloat> amplitudes_;
  std::vector<double> dampings_;
  Matrix matrix_, scaled_;
  Eigen::VectorXd gradient_, scale_, step_;
};

}  // namespace

double source_refine(const Measurement& measurement, View<const cfloat, 3> channels, View<const double, 2> factors,
                     View<const double, 1> middle, double reference_frequency, const MovingSources& sources,
                     const SourceRefineOptions& options, const Execution& execution) {
  return SourceRefinement(measurement, channels, factors, middle, reference_frequency, sources, execution).run(options);
}

}  // namespace wavefix
