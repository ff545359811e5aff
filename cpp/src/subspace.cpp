// SPDX-License-Identifier: Apache-2.0
#include "subspace.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>

#include "channel_math.hpp"

namespace wavefix {
namespace {

using Matrix = Eigen::MatrixXcd;
using Eigen::Index;

constexpr double wanted_tail = 1e-3;     // of the energy: an inner product of noise-free channels then errs by as much
constexpr double tolerated_tail = 3e-2;  // where that takes too many directions
constexpr std::size_t most_samples = 320;
constexpr std::size_t rank_step = 8;

/// More directions than this would cost more than they save: a sweep is to cost a quarter of the full one at most, and
/// the projection of a query is not to cost more than the sweep.
std::size_t highest_rank(std::size_t count, std::size_t size, std::size_t samples) {
  return std::min({size / 4, count / 16, samples / 2}) / rank_step * rank_step;
}

/// Entries spread over the dictionary, each divided by the largest norm.
Matrix samples_of(const ChannelAt& channel, std::size_t count, std::size_t size) {
  const std::size_t taken = std::min(most_samples, count / 4);
  Matrix samples(static_cast<Index>(size), static_cast<Index>(taken));
  const double golden = 0.5 * (std::sqrt(5.0) - 1.0);  // its multiples fill the unit interval evenly
  double highest = 0.0;
  for (Index column = 0; column < samples.cols(); ++column) {
    const double place = golden * static_cast<double>(column + 1);
    const auto index = static_cast<std::size_t>((place - std::floor(place)) * static_cast<double>(count));
    const Eigen::Map<const Eigen::VectorXcf> entry(channel(std::min(index, count - 1)), samples.rows());
    samples.col(column) = entry.cast<cdouble>();
    highest = std::max(highest, samples.col(column).norm());
  }
  if (highest > 0.0 && std::isfinite(1.0 / highest)) samples *= 1.0 / highest;
  return samples;
}

/// Columns span the directions of most energy among the samples; none if that takes too many.
Matrix principal_directions(const Matrix& samples, std::size_t count, std::size_t size) {
  const bool wide = samples.cols() >= samples.rows();
  const Matrix gram = wide ? Matrix(samples * samples.adjoint()) : Matrix(samples.adjoint() * samples);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(gram);
  const Eigen::VectorXd& energies = solver.eigenvalues();  // ascending
  const double total = energies.sum();
  const std::size_t highest = highest_rank(count, size, static_cast<std::size_t>(gram.rows()));
  if (solver.info() != Eigen::Success || !(total > 0.0) || highest == 0) return {};
  const auto tail = [&](std::size_t rank) {
    return energies.head(gram.rows() - static_cast<Index>(rank)).sum() / total;
  };
  std::size_t rank = rank_step;
  while (rank < highest && tail(rank) > wanted_tail) rank += rank_step;
  if (tail(rank) > tolerated_tail) return {};
  const Matrix chosen = solver.eigenvectors().rightCols(static_cast<Index>(rank)).rowwise().reverse();
  const Eigen::HouseholderQR<Matrix> factors(wide ? chosen : Matrix(samples * chosen));
  return factors.householderQ() * Matrix::Identity(samples.rows(), static_cast<Index>(rank));
}

}  // namespace

Subspace Subspace::of(const ChannelAt& channel, std::size_t count, std::size_t size, const Execution& execution) {
  Subspace made;
  if (highest_rank(count, size, most_samples) == 0) return made;
  const Matrix basis = principal_directions(samples_of(channel, count, size), count, size);
  if (basis.size() == 0) return made;
  made.rank_ = static_cast<std::size_t>(basis.cols());
  made.size_ = size;
  made.defect_ = (basis.adjoint() * basis - Matrix::Identity(basis.cols(), basis.cols())).norm();
  made.fill_basis(basis);
  const std::size_t blocks = (count + block_rows - 1) / block_rows, depth = 2 * made.rank_;
  made.packed_.setZero(static_cast<Index>(blocks * depth * block_rows));
  made.tails_.assign(blocks * block_rows, 0.0);
  const auto workers = static_cast<std::size_t>(thread_count(blocks, execution.threads));
  std::vector<double> scratch(workers * (made.scratch_size() + group * depth));
  parallel_for(blocks, execution, [&](std::size_t block, int worker) {
    double* const coordinates =
        scratch.data() + static_cast<std::size_t>(worker) * (made.scratch_size() + group * depth);
    float* const packed = made.packed_.data() + block * depth * block_rows;
    const std::size_t end = std::min(count, (block + 1) * block_rows);
    for (std::size_t first = block * block_rows; first < end; first += group) {
      const cfloat* channels[group] = {};
      const std::size_t rows = std::min(group, end - first);
      for (std::size_t row = 0; row < rows; ++row) channels[row] = channel(first + row);
      made.project(channels, rows, coordinates, made.tails_.data() + first, coordinates + group * depth);
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t level = 0; level < depth; ++level) {
          packed[level * block_rows + first % block_rows + row] = static_cast<float>(coordinates[row * depth + level]);
        }
      }
    }
  });
  return made;
}

void Subspace::fill_basis(const Eigen::MatrixXcd& basis) {
  for (std::size_t begin = 0; begin < 2 * size_; begin += panel_depth) {
    const std::size_t depth = std::min(panel_depth, 2 * size_ - begin);
    basis_.emplace_back(2 * rank_, depth);
    for (std::size_t i = 0; i < rank_; ++i) {
      for (std::size_t at = 0; at < depth; at += 2) {
        const cdouble value = basis(static_cast<Index>((begin + at) / 2), static_cast<Index>(i));
        basis_.back().at(2 * i, at) = value.real(), basis_.back().at(2 * i, at + 1) = value.imag();
        basis_.back().at(2 * i + 1, at) = -value.imag(), basis_.back().at(2 * i + 1, at + 1) = value.real();
      }
    }
  }
}

std::size_t Subspace::bytes() const {
  return sizeof(double) * (4 * rank_ * size_ + tails_.size()) +
         sizeof(float) * static_cast<std::size_t>(packed_.size());
}

double Subspace::rounding() const {
  const double rank = static_cast<double>(rank_), size = static_cast<double>(size_);
  // a float32 product of `rank` complex numbers that were rounded to float32; the basis; float64 coordinates
  return std::sqrt(2.0) * (2.0 * rank + 6.0) * std::ldexp(1.0, -24) + 3.0 * defect_ +
         4.0 * std::sqrt(2.0 * rank) * (2.0 * size + 4.0) * std::ldexp(1.0, -53);
}

void Subspace::project(const cfloat* const* channels, std::size_t count, double* coordinates, double* tails,
                       double* scratch) const {
  const std::size_t stride = panel_depth + lane_padding, depth = 2 * rank_;
  double* const part = scratch + group * stride;
  double energies[group];
  for (std::size_t column = 0; column < count; ++column) energies[column] = detail::energy(channels[column], size_);
  std::fill_n(coordinates, count * depth, 0.0);
  for (std::size_t panel = 0; panel < basis_.size(); ++panel) {
    for (std::size_t column = 0; column < count; ++column) {
      const auto* const interleaved = reinterpret_cast<const float*>(channels[column]) + panel * panel_depth;
      std::copy_n(interleaved, basis_[panel].depth(), scratch + column * stride);
    }
    basis_[panel].multiply(scratch, count, stride, part, depth);
    for (std::size_t i = 0; i < count * depth; ++i) coordinates[i] += part[i];
  }
  // ||e||^2 - ||U^H e||^2 is exact up to the rounding of its sums and the defect of the basis
  const double slack = defect_ + 8.0 * std::sqrt(static_cast<double>(depth)) *
                                     (2.0 * static_cast<double>(size_) + 4.0) * std::ldexp(1.0, -53);
  for (std::size_t column = 0; column < count; ++column) {
    double inside = 0.0;
    for (std::size_t level = 0; level < depth; ++level) {
      inside += coordinates[column * depth + level] * coordinates[column * depth + level];
    }
    tails[column] = std::sqrt(std::max(0.0, energies[column] - inside) + slack * energies[column]);
  }
}

}  // namespace wavefix
