// SPDX-License-Identifier: Apache-2.0
#include "uncertain_gains.hpp"

#include <Eigen/Cholesky>
#include <algorithm>

#include "kernels.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr double spread = 0.3;  // standard deviation of a gain's error, relative to the gain

using Index = Eigen::Index;

}  // namespace

UncertainGains::UncertainGains(const ChannelModel& model, const PathPlan& plan)
    : model_(model),
      plan_(plan),
      sampler_(plan),
      workspace_(model.make_workspace()),
      channel_(model.n_antennas() * model.n_subcarriers()),
      turns_(3 * model.n_subcarriers()),
      groups_(plan.capacity, plan.antennas(), model.frequencies()),
      delays_(plan.capacity) {
  const auto paths = static_cast<Index>(plan.capacity), numbers = static_cast<Index>(2 * model.n_subcarriers());
  paths_.reserve(plan.capacity, plan.antennas());
  waves_.resize(numbers, paths);
  gram_.resize(paths, paths);
  error_.resize(numbers);
  products_.resize(paths);
  gains_.resize(paths);
}

/// Of the sampled paths.
void UncertainGains::group_paths() {
  const std::size_t antennas = plan_.antennas();
  for (std::size_t l = 0; l < paths_.count; ++l) {
    double sum = 0.0;
    for (std::size_t j = 0; j < antennas; ++j) sum += plan_.profile.delay(paths_.delay[l * antennas + j]);
    delays_[l] = sum / static_cast<double>(antennas);
  }
  groups_.assign(paths_.count, paths_.real.data(), paths_.imag.data(), delays_.data());
}

/// The waves of its groups, as real and imaginary parts below each other, and their products.
void UncertainGains::add_antenna(const Query& query, std::size_t antenna) {
  const ModelCommon& common = plan_.model->common;
  const std::size_t subcarriers = common.n_subcarriers();
  const auto rows = static_cast<Index>(subcarriers), columns = static_cast<Index>(groups_.count());
  const double scale = query.scale / plan_.scale;
  double *turns = turns_.data(), *cosine = turns + subcarriers, *sine = cosine + subcarriers;
  waves_.leftCols(columns).setZero();
  for (std::size_t l = 0; l < paths_.count; ++l) {
    const double delay = plan_.profile.delay(paths_.delay[l * plan_.antennas() + antenna]);
    for (std::size_t k = 0; k < subcarriers; ++k) turns[k] = -(common.frequencies[k] - common.center_frequency) * delay;
    kernels().unit_phasors(turns, subcarriers, cosine, sine);
    const double real = scale * static_cast<double>(paths_.real[l * plan_.antennas() + antenna]);
    const double imag = scale * static_cast<double>(paths_.imag[l * plan_.antennas() + antenna]);
    double* const wave = waves_.col(static_cast<Index>(groups_.of(l))).data();
    for (std::size_t k = 0; k < subcarriers; ++k) {
      wave[k] += real * cosine[k] - imag * sine[k];
      wave[subcarriers + k] += real * sine[k] + imag * cosine[k];
    }
  }
  for (std::size_t k = 0; k < subcarriers; ++k) {
    const std::size_t at = antenna * subcarriers + k;
    const cdouble left = query.scale * (cdouble(query.channel[at]) - cdouble(channel_[at]));
    error_(static_cast<Index>(k)) = left.real(), error_(static_cast<Index>(k) + rows) = left.imag();
  }
  unexplained_ += error_.squaredNorm();
  if (columns == 0) return;  // an empty product of Eigen's binds references to nothing
  const auto waves = waves_.leftCols(columns);
  products_.head(columns).noalias() += waves.transpose() * error_;
  gram_.topLeftCorner(columns, columns).selfadjointView<Eigen::Lower>().rankUpdate(waves.transpose());
}

double UncertainGains::cost(const Query& query, const double* position, double variance) {
  sampler_.sample(position, paths_);
  model_.synthesize_one(position, channel_.data(), nullptr, *workspace_);
  group_paths();
  const auto n = static_cast<Index>(groups_.count());
  unexplained_ = 0.0;
  products_.head(n).setZero();
  gram_.topLeftCorner(n, n).setZero();
  for (std::size_t antenna = 0; antenna < plan_.antennas(); ++antenna) {
    checkpoint();
    add_antenna(query, antenna);
  }
  auto gram = gram_.topLeftCorner(n, n);
  gram.diagonal().array() += variance / (spread * spread);
  const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> factor(gram);  // in place
  auto gains = gains_.head(n);
  gains = products_.head(n);
  factor.solveInPlace(gains);
  const double explained = products_.head(n).dot(gains);
  return explained > 0.0 ? unexplained_ - explained : unexplained_;
}

}  // namespace wavefix
