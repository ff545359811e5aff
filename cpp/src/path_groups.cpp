// SPDX-License-Identifier: Apache-2.0
#include "path_groups.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

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
    : antennas_(antennas),
      spacing_(spacing_of(frequencies)),
      subcarriers_(static_cast<double>(frequencies.size())),
      waves_(static_cast<Index>(antennas), static_cast<Index>(capacity)),
      products_(static_cast<Index>(capacity), static_cast<Index>(capacity)),
      energies_(capacity),
      group_(capacity) {
  order_.reserve(capacity);
  leaders_.reserve(capacity);
}

void PathGroups::assign(std::size_t count, const float* real, const float* imag, const double* delays) {
  const auto n = static_cast<Index>(count);
  leaders_.clear();
  if (n == 0) return;
  for (Index l = 0; l < n; ++l) {
    const std::size_t first = static_cast<std::size_t>(l) * antennas_;
    for (std::size_t j = 0; j < antennas_; ++j)
      waves_(static_cast<Index>(j), l) = cdouble(real[first + j], imag[first + j]);
  }
  auto products = products_.topLeftCorner(n, n);
  products.setZero();
  products.selfadjointView<Eigen::Lower>().rankUpdate(waves_.leftCols(n).adjoint());
  for (std::size_t m = 0; m < count; ++m) {
    for (std::size_t l = m + 1; l < count; ++l)
      products(static_cast<Index>(l), static_cast<Index>(m)) *=
          band_product(spacing_ * (delays[l] - delays[m]), subcarriers_);
    const double energy = product(m, m).real();
    energies_[m] = std::isfinite(energy) ? energy : 0.0;
  }
  order_.resize(count);
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::sort(order_.begin(), order_.end(), [this](std::size_t a, std::size_t b) {
    return energies_[a] != energies_[b] ? energies_[a] > energies_[b] : a < b;
  });
  for (const std::size_t l : order_) {
    double most = least_correlation;
    group_[l] = leaders_.size();
    for (std::size_t g = 0; g < leaders_.size(); ++g) {
      const double correlation = std::norm(product(l, leaders_[g])) / (energies_[l] * energies_[leaders_[g]]);
      if (correlation > most) most = correlation, group_[l] = g;
    }
    if (group_[l] == leaders_.size()) leaders_.push_back(l);
  }
}

}  // namespace wavefix
