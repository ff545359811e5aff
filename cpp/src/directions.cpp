// SPDX-License-Identifier: Apache-2.0
#include "directions.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <vector>

#include "channel_math.hpp"

namespace wavefix {
namespace {

using Matrix = Eigen::MatrixXcd;
using Eigen::Index;

constexpr double wanted_tail = 1e-3;     // of the energy: an inner product of noise-free channels then errs by as much
constexpr double tolerated_tail = 3e-2;  // where that takes too many directions
constexpr std::size_t most_samples = 320;
constexpr std::size_t rank_step = 8;
constexpr std::size_t lead_step = 4;
constexpr double lead_tail = 0.1;     // of the energy, that the coordinates which are compared first may leave
constexpr double rotated_tail = 0.3;  // that a quarter of the directions may leave, if the basis is to hold all
constexpr std::size_t largest_rotation = 128;  // by which a query is turned in less time than it is searched for
constexpr Index tile = 32;                     // columns, of a Gram matrix
constexpr Index panel = 1024;                  // rows of a tall matrix that are multiplied between two checkpoints

/// More directions than this would cost more than they save: a sweep is to cost a quarter of the full one at most, and
/// the projection of a query is not to cost more than the sweep.
std::size_t highest_rank(std::size_t count, std::size_t size, std::size_t samples) {
  return std::min({size / 4, count / 16, samples / 2}) / rank_step * rank_step;
}

/// Entries spread over the dictionary, each divided by the largest norm.
Matrix samples_of(const ChannelAt& channel, std::size_t count, std::size_t size, const Execution& execution) {
  const std::size_t taken = std::min(most_samples, count / 4);
  Matrix samples(static_cast<Index>(size), static_cast<Index>(taken));
  Eigen::VectorXd norms(samples.cols());
  const double golden = 0.5 * (std::sqrt(5.0) - 1.0);  // its multiples fill the unit interval evenly
  parallel_for(taken, execution, [&](std::size_t at, int) {
    const double place = golden * static_cast<double>(at + 1);
    const auto index = static_cast<std::size_t>((place - std::floor(place)) * static_cast<double>(count));
    const Eigen::Map<const Eigen::VectorXcf> entry(channel(std::min(index, count - 1)), samples.rows());
    auto column = samples.col(static_cast<Index>(at));
    column = entry.cast<cdouble>();
    norms[static_cast<Index>(at)] = column.norm();
  });
  const double highest = norms.maxCoeff(), inverse = 1.0 / highest;
  if (!(highest > 0.0) || !std::isfinite(inverse)) return samples;
  parallel_for(taken, execution, [&](std::size_t at, int) { samples.col(static_cast<Index>(at)) *= inverse; });
  return samples;
}

/// a^H a of a tall matrix; the tiles below and on the diagonal, the others stay zero.
Matrix lower_gram(const Matrix& a, const Execution& execution) {
  const Index across = (a.cols() + tile - 1) / tile;
  std::vector<std::pair<Index, Index>> places;
  for (Index j = 0; j < across; ++j) {
    for (Index i = j; i < across; ++i) places.emplace_back(i * tile, j * tile);
  }
  Matrix gram = Matrix::Zero(a.cols(), a.cols());
  parallel_for(places.size(), execution, [&](std::size_t at, int) {
    const auto [i, j] = places[at];
    auto block = gram.block(i, j, std::min(tile, a.cols() - i), std::min(tile, a.cols() - j));
    for (Index row = 0; row < a.rows(); row += panel) {
      const Index rows = std::min(panel, a.rows() - row);
      block.noalias() += a.block(row, i, rows, block.rows()).adjoint() * a.block(row, j, rows, block.cols());
      checkpoint();
    }
  });
  return gram;
}

/// a b, a block of rows at a time.
Matrix tall_product(const Matrix& a, const Matrix& b, const Execution& execution) {
  Matrix product(a.rows(), b.cols());
  const Index rows = panel / 4;
  parallel_for(static_cast<std::size_t>((a.rows() + rows - 1) / rows), execution, [&](std::size_t at, int) {
    const Index first = static_cast<Index>(at) * rows, here = std::min(rows, a.rows() - first);
    product.middleRows(first, here).noalias() = a.middleRows(first, here) * b;
  });
  return product;
}

Matrix householder(const Matrix& a) {
  const Eigen::HouseholderQR<Matrix> factors(a);
  return factors.householderQ() * Matrix::Identity(a.rows(), a.cols());
}

double defect_of(const Matrix& basis, const Execution& execution) {
  const Matrix gram = lower_gram(basis, execution) - Matrix::Identity(basis.cols(), basis.cols());
  const double below = gram.triangularView<Eigen::StrictlyLower>().toDenseMatrix().squaredNorm();
  return std::sqrt(2.0 * below + gram.diagonal().squaredNorm());
}

}  // namespace

bool basis_may_pay(std::size_t count, std::size_t size) { return highest_rank(count, size, most_samples) > 0; }

Matrix orthonormal(const Matrix& a, const Execution& execution) {
  const Index columns = a.cols(), rows = std::max(4 * columns, panel / 4), blocks = a.rows() / rows;
  if (blocks < 2) return householder(a);
  // each block of rows alone, then the factors that this leaves, stacked: a quarter of the rows or fewer
  Matrix basis(a.rows(), columns), stacked(blocks * columns, columns);
  const auto rows_of = [&](std::size_t at) {
    const Index first = static_cast<Index>(at) * rows;
    return std::pair(first, static_cast<Index>(at) + 1 < blocks ? rows : a.rows() - first);
  };
  parallel_for(static_cast<std::size_t>(blocks), execution, [&](std::size_t at, int) {
    const auto [first, here] = rows_of(at);
    const Eigen::HouseholderQR<Matrix> factors(a.middleRows(first, here));
    checkpoint();
    basis.middleRows(first, here) = factors.householderQ() * Matrix::Identity(here, columns);
    stacked.middleRows(static_cast<Index>(at) * columns, columns) =
        factors.matrixQR().topRows(columns).triangularView<Eigen::Upper>();
  });
  const Matrix inner = orthonormal(stacked, execution);
  parallel_for(static_cast<std::size_t>(blocks), execution, [&](std::size_t at, int) {
    const auto [first, here] = rows_of(at);
    const Matrix outer = basis.middleRows(first, here);
    basis.middleRows(first, here).noalias() = outer * inner.middleRows(static_cast<Index>(at) * columns, columns);
  });
  return basis;
}

Directions principal_directions(const ChannelAt& channel, std::size_t count, std::size_t size,
                                const Execution& execution) {
  const Matrix samples = samples_of(channel, count, size, execution);
  const bool wide = samples.cols() >= samples.rows();
  const Matrix gram = wide ? Matrix(samples * samples.adjoint()) : lower_gram(samples, execution);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(gram);  // which looks at the lower triangle only
  const Eigen::VectorXd& energies = solver.eigenvalues();    // ascending
  const double total = energies.sum();
  const std::size_t highest = highest_rank(count, size, static_cast<std::size_t>(gram.rows()));
  if (solver.info() != Eigen::Success || !(total > 0.0) || highest == 0) return {};
  const auto tail = [&](std::size_t rank) {
    return energies.head(gram.rows() - static_cast<Index>(rank)).sum() / total;
  };
  Directions found;
  std::size_t rank = rank_step;
  while (rank < highest && tail(rank) > wanted_tail) rank += rank_step;
  const bool whole = wide && size <= largest_rotation && count >= 8 * size && tail(rank) <= rotated_tail;
  if (tail(rank) > wanted_tail && whole) rank = size;
  if (rank < size && tail(rank) > tolerated_tail) return {};
  found.lead = lead_step;
  while (found.lead < rank && tail(found.lead) > lead_tail) found.lead += lead_step;
  const Matrix chosen = solver.eigenvectors().rightCols(static_cast<Index>(rank)).rowwise().reverse();
  found.basis = wide ? householder(chosen) : orthonormal(tall_product(samples, chosen, execution), execution);
  found.defect = defect_of(found.basis, execution);
  return found;
}

}  // namespace wavefix
