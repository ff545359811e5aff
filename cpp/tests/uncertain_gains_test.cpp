// SPDX-License-Identifier: Apache-2.0
#include "uncertain_gains.hpp"

#include <doctest/doctest.h>

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <complex>
#include <numeric>
#include <vector>

#include "float_fix_plan.hpp"
#include "plane_wave_model.hpp"
#include "virtual_source_model.hpp"

namespace {

using namespace wavefix;

/// (23) as least squares, one row for each number and one for each gain.
double least_cost(const ChannelModel& model, const double* position, const std::vector<cfloat>& channel,
                  double variance, int& grouped) {
  const ModelCommon& common = model.implementation().common;
  const std::size_t antennas = common.n_antennas(), subcarriers = common.n_subcarriers(), size = antennas * subcarriers;
  Atoms atoms(model.n_atoms(), antennas);
  const auto workspace = model.make_workspace();
  model.implementation().atoms(position, atoms, *workspace);
  const auto n = static_cast<Eigen::Index>(atoms.count), rows = static_cast<Eigen::Index>(size);
  Eigen::MatrixXd waves = Eigen::MatrixXd::Zero(2 * rows + n, n);
  Eigen::VectorXd error = Eigen::VectorXd::Zero(2 * rows + n);
  for (std::size_t i = 0; i < size; ++i) {
    const auto row = static_cast<Eigen::Index>(i);
    const double frequency = common.frequencies[i % subcarriers] - common.center_frequency;
    std::complex<double> left(channel[i]);
    for (std::size_t l = 0; l < atoms.count; ++l) {
      const std::size_t at = l * antennas + i / subcarriers;
      const std::complex<double> wave = std::complex<double>(atoms.real[at], atoms.imag[at]) *
                                        std::polar(1.0, -2.0 * std::acos(-1.0) * frequency * atoms.delay[at]);
      left -= wave;
      waves(row, static_cast<Eigen::Index>(l)) = wave.real();
      waves(rows + row, static_cast<Eigen::Index>(l)) = wave.imag();
    }
    error(row) = left.real(), error(rows + row) = left.imag();
  }
  const Eigen::VectorXd energies = waves.colwise().squaredNorm();
  for (Eigen::Index l = 0; l < n; ++l) {  // too weak to be taken into account
    if (energies(l) < weakest_path * energies.maxCoeff()) waves.col(l).setZero();
  }
  const Eigen::MatrixXcd each = waves.topRows(rows) + std::complex<double>(0.0, 1.0) * waves.middleRows(rows, rows);
  waves.setZero();
  std::vector<Eigen::Index> order(atoms.count), leaders;
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](auto l, auto m) { return energies(l) > energies(m); });
  for (const Eigen::Index l : order) {
    double most = 0.5;
    std::size_t group = leaders.size();
    for (std::size_t g = 0; g < leaders.size(); ++g) {
      const double like = std::norm(each.col(leaders[g]).dot(each.col(l))) / energies(l) / energies(leaders[g]);
      if (like > most) most = like, group = g;
    }
    if (group == leaders.size())
      leaders.push_back(l);
    else
      ++grouped;
    waves.col(static_cast<Eigen::Index>(group)).head(rows) += each.col(l).real();
    waves.col(static_cast<Eigen::Index>(group)).segment(rows, rows) += each.col(l).imag();
  }
  waves.bottomRows(n).diagonal().setConstant(std::sqrt(variance) / 0.3);
  return (error - waves * waves.colPivHouseholderQr().solve(error)).squaredNorm();
}

TEST_CASE("the cost with uncertain gains is the least of its equation") {
  int grouped = 0;
  for (const ChannelModel& model : {testing::plane_wave_model(8, 12, 6), testing::plane_wave_model(4, 6, 6),
                                    testing::spherical_model(19, 12, true), testing::spherical_model(3, 2, false)}) {
    CAPTURE(model.kind());
    const auto plan = make_float_fix_plan(model, {});
    UncertainGains gains(plan->model, plan->paths);
    const auto positions = testing::random_positions(model, 6);
    const auto channels = testing::synthesize(model, positions);
    const std::size_t size = channels.size() / 6;
    for (std::size_t row = 0; row + 1 < 6; ++row) {
      const std::vector<cfloat> channel(channels.begin() + static_cast<std::ptrdiff_t>((row + 1) * size),
                                        channels.begin() + static_cast<std::ptrdiff_t>((row + 2) * size));
      const double* position = positions.data() + 3 * row;
      for (const double variance : {1e-6, 1e-3, 10.0}) {
        Query query;
        query.channel = channel.data();
        query.scale = 4.0;
        const double wanted = 16.0 * least_cost(model, position, channel, variance, grouped);
        CHECK(gains.cost(query, position, 16.0 * variance) == doctest::Approx(wanted).epsilon(1e-4));
      }
    }
  }
  CHECK(grouped > 0);
}

}  // namespace
