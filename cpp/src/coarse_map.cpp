// SPDX-License-Identifier: Apache-2.0
#include "coarse_map.hpp"

#include <algorithm>
#include <cmath>

#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

// A gain may be this times the strongest path's share of its variance away from what the shape says: collinear paths
// then share their energy, and weak ones do not fit noise.
constexpr double coarse_ridge = 1e-2;

void append_factor(ComplexMatrix& gram, std::size_t count, std::vector<std::complex<float>>& factors) {
  const auto n = static_cast<Eigen::Index>(count);
  double largest = 0.0;
  for (Eigen::Index l = 0; l < n; ++l) largest = std::max(largest, gram(l, l).real());
  for (Eigen::Index l = 0; l < n; ++l) gram(l, l) += coarse_ridge * largest + 1e-30;
  const Eigen::LLT<ComplexMatrix> factor(gram.topLeftCorner(n, n));
  const ComplexMatrix lower = factor.matrixL();
  for (Eigen::Index row = 0; row < n; ++row) {
    for (Eigen::Index column = 0; column < row; ++column) factors.emplace_back(lower(row, column));
    factors.emplace_back(1.0 / lower(row, row));
  }
}

}  // namespace

CoarseMap::CoarseMap(const PathPlan& plan, double spacing, std::size_t stride, std::size_t blocks)
    : grid_(Grid::over(plan.model->common.region, spacing)), stride_(stride), blocks_(blocks) {
  groups_in_block_ = (plan.groups() + blocks_ - 1) / blocks_;
  blocks_ = (plan.groups() + groups_in_block_ - 1) / groups_in_block_;
  PathSampler sampler(plan);
  Paths paths;
  paths.reserve(plan.capacity, plan.antennas());
  const auto capacity = static_cast<Eigen::Index>(plan.capacity);
  ComplexMatrix gram(capacity, capacity);
  std::size_t rows = 0;
  for (std::size_t index = 0; index < grid_.size(); ++index) {
    checkpoint();
    double position[3];
    grid_.position(index, position);
    sampler.sample(position, paths);
    Point point;
    point.count = paths.count;
    point.first_row = rows;
    rows += paths.count;
    const auto size = static_cast<std::ptrdiff_t>(paths.count * plan.antennas());
    real_.insert(real_.end(), paths.real.begin(), paths.real.begin() + size);
    imag_.insert(imag_.end(), paths.imag.begin(), paths.imag.begin() + size);
    delay_.insert(delay_.end(), paths.delay.begin(), paths.delay.begin() + size);
    point.factor = factors_.size();
    path_gram(plan, paths, 0, plan.groups(), gram);
    append_factor(gram, paths.count, factors_);
    std::size_t rest = index;
    point.coarse = true;
    for (std::size_t axis = grid_.counts.size(); axis-- > 0; rest /= grid_.counts[axis]) {
      const std::size_t at = rest % grid_.counts[axis], half = std::min(stride_, grid_.counts[axis]) / 2;
      point.coarse = point.coarse && (at % stride_ == half || (at + 1 == grid_.counts[axis] && at % stride_ < half));
    }
    point.block_factors = factors_.size();
    for (std::size_t block = 0; point.coarse && block < blocks_; ++block) {
      path_gram(plan, paths, block * groups_in_block_, std::min((block + 1) * groups_in_block_, plan.groups()), gram);
      append_factor(gram, paths.count, factors_);
    }
    if (point.coarse) coarse_points_.push_back(index);
    points_.push_back(point);
  }
}

CoarseMap::Scratch CoarseMap::make_scratch() const {
  Scratch scratch;
  scratch.coarse.reserve(coarse_points_.size());
  scratch.fine.reserve(points_.size());
  scratch.visited.resize(points_.size());
  std::size_t largest = 0;
  for (const Point& point : points_) largest = std::max(largest, point.count);
  scratch.products.resize(static_cast<Eigen::Index>(largest * blocks_));
  return scratch;
}

std::size_t CoarseMap::bytes() const {
  return points_.size() * sizeof(Point) + 3 * real_.size() * sizeof(float) + factors_.size() * sizeof(factors_[0]);
}

double CoarseMap::explained(const PathPlan& plan, const Query& query, const Point& point, std::size_t blocks,
                            std::size_t factor, Scratch& scratch) const {
  const std::size_t antennas = plan.antennas(), nodes = plan.profile.nodes();
  const std::size_t in_block = blocks == 1 ? plan.groups() : groups_in_block_;
  double total = 0.0;
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::size_t begin = block * in_block * plan.group;
    const std::size_t end = std::min((block + 1) * in_block * plan.group, antennas);
    for (std::size_t l = 0; l < point.count; ++l) {
      const std::size_t row = (point.first_row + l) * antennas;
      std::complex<float> value(path_product(real_.data() + row, imag_.data() + row, delay_.data() + row,
                                             query.profile.data(), nodes, begin, end));
      // forward substitution, whitening the products
      for (std::size_t m = 0; m < l; ++m, ++factor) {
        value -= factors_[factor] * std::complex<float>(scratch.products(static_cast<Eigen::Index>(m)));
      }
      value *= factors_[factor++].real();
      scratch.products(static_cast<Eigen::Index>(l)) = cdouble(value);
      total += static_cast<double>(value.real()) * value.real() + static_cast<double>(value.imag()) * value.imag();
    }
  }
  return total;
}

void CoarseMap::search(const PathPlan& plan, const Query& query, std::size_t count, Scratch& scratch) const {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.explained != b.explained ? a.explained > b.explained : a.point < b.point;
  };
  scratch.coarse.clear();
  for (const std::size_t index : coarse_points_) {
    if (scratch.coarse.size() % 16 == 0) checkpoint();
    const Point& point = points_[index];
    scratch.coarse.push_back({explained(plan, query, point, blocks_, point.block_factors, scratch), index});
  }
  std::sort(scratch.coarse.begin(), scratch.coarse.end(), better);
  const std::size_t dimension = grid_.counts.size();
  scratch.fine.clear();
  ++scratch.stamp;
  for (std::size_t rank = 0; rank < std::min(count, scratch.coarse.size()); ++rank) {
    // all points within half a stride, and a little more because the basins overlap
    std::array<std::size_t, 3> low{}, high{}, at{};
    std::size_t rest = scratch.coarse[rank].point;
    const std::size_t reach = stride_ == 1 ? 0 : stride_ / 2 + 1;
    for (std::size_t axis = dimension; axis-- > 0; rest /= grid_.counts[axis]) {
      const std::size_t here = rest % grid_.counts[axis];
      low[axis] = at[axis] = here - std::min(here, reach);
      high[axis] = std::min(here + reach, grid_.counts[axis] - 1);
    }
    for (bool more = true; more;) {
      std::size_t index = 0;
      for (std::size_t axis = 0; axis < dimension; ++axis) index = index * grid_.counts[axis] + at[axis];
      if (scratch.visited[index] != scratch.stamp) {
        scratch.visited[index] = scratch.stamp;
        const Point& point = points_[index];
        scratch.fine.push_back({explained(plan, query, point, 1, point.factor, scratch), index});
      }
      more = false;
      for (std::size_t axis = dimension; axis-- > 0 && !more;) {
        more = at[axis] < high[axis];
        at[axis] = more ? at[axis] + 1 : low[axis];
      }
    }
  }
  std::sort(scratch.fine.begin(), scratch.fine.end(), better);
  std::size_t kept = 0;
  for (std::size_t rank = 0; rank < scratch.fine.size() && kept < count; ++rank) {
    double here[3], other[3];
    grid_.position(scratch.fine[rank].point, here);
    bool apart = true;
    for (std::size_t i = 0; i < kept && apart; ++i) {
      grid_.position(scratch.fine[i].point, other);
      apart = std::hypot(here[0] - other[0], here[1] - other[1], here[2] - other[2]) > 1.5 * grid_.spacing;
    }
    if (apart) scratch.fine[kept++] = scratch.fine[rank];
  }
  scratch.fine.resize(kept);
}

}  // namespace wavefix
