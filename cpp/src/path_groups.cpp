// SPDX-License-Identifier: Apache-2.0
#include "path_groups.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "channel_math.hpp"

namespace wavefix {
namespace {

constexpr double least_correlation = 0.5;  // of energy, that makes two paths alike

using Index = Eigen::Index;

/// What a delay, in periods of the spacing, leaves of the product of two waves over evenly spaced subcarriers.
double band_product(double periods, double subcarriers) {
  const double half = 3.14159265358979323846 * periods, one = std::sin(half);
  return std::abs(one) < 1e-9 ? 1.0 : std::sin(subcarriers * half) / (subcarriers * one);
}

double spacing_of(const std::vector<double>& frequencies) {
  if (frequencies.size() < 2) return 0.0;
  const auto [low, high] = std::minmax_element(frequencies.begin(), frequencies.end());
  return (*high - *low) / static_cast<double>(frequencies.size() - 1);
}

}  // namespace

PathGroups::PathGroups(std::size_t capacity, std::size_t antennas, const std::vector<double>& frequencies)
    : spacing_(spacing_of(frequencies)),
      subcarriers_(static_cast<double>(frequencies.size())),
      waves_(static_cast<Index>(antennas), static_cast<Index>(std::min(capacity, most_paths))),
      products_(waves_.cols(), waves_.cols()),
      energies_(capacity),
      rank_(capacity),
      group_(capacity) {
  order_.reserve(capacity);
  leaders_.reserve(capacity);
}

void PathGroups::assign(std::size_t count, const float* real, const float* imag, const double* delays) {
  const auto antennas = static_cast<std::size_t>(waves_.rows());
  leaders_.clear();
  order_.resize(count);
  if (count == 0) return;
  for (std::size_t l = 0; l < count; ++l) {
    double energy = 0.0;
    for (std::size_t j = l * antennas; j < (l + 1) * antennas; ++j)
      energy += detail::squared(cdouble(real[j], imag[j]));
    energies_[l] = std::isfinite(energy) ? energy : 0.0;
  }
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::sort(order_.begin(), order_.end(), [this](std::size_t a, std::size_t b) {
    return energies_[a] != energies_[b] ? energies_[a] > energies_[b] : a < b;
  });
  for (std::size_t r = 0; r < count; ++r) rank_[order_[r]] = r;
  const auto n = static_cast<Index>(paired());
  for (Index r = 0; r < n; ++r) {
    const std::size_t first = order_[static_cast<std::size_t>(r)] * antennas;
    for (std::size_t j = 0; j < antennas; ++j)
      waves_(static_cast<Index>(j), r) = cdouble(real[first + j], imag[first + j]);
  }
  auto products = products_.topLeftCorner(n, n);
  products.setZero();
  products.selfadjointView<Eigen::Lower>().rankUpdate(waves_.leftCols(n).adjoint());
  for (Index m = 0; m < n; ++m) {
    const double delay = delays[order_[static_cast<std::size_t>(m)]];
    for (Index l = m + 1; l < n; ++l)
      products(l, m) *= band_product(spacing_ * (delays[order_[static_cast<std::size_t>(l)]] - delay), subcarriers_);
  }
  for (std::size_t r = 0; r < count; ++r) {
    double most = least_correlation;
    std::size_t group = leaders_.size();
    for (std::size_t g = 0; r < paired() && g < leaders_.size(); ++g) {
      const double energies = energies_[order_[r]] * energies_[order_[leaders_[g]]];
      const double correlation = std::norm(product(r, leaders_[g])) / energies;
      if (correlation > most) most = correlation, group = g;
    }
    if (group == leaders_.size()) leaders_.push_back(r);
    group_[order_[r]] = group;
  }
}

cdouble PathGroups::product_with_group(std::size_t path) const {
  if (rank_[path] >= paired()) return energies_[path];
  cdouble sum = 0.0;
  for (std::size_t r = 0; r < paired(); ++r)
    if (group_[order_[r]] == group_[path]) sum += product(rank_[path], r);
  return sum;
}

}  // namespace wavefix
