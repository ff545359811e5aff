// SPDX-License-Identifier: Apache-2.0
#include "coarse_map.hpp"

#include <algorithm>
#include <cmath>

#include "kernels.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

// A gain may be this times the strongest path's share of its variance away from what the shape says: collinear paths
// then share their energy, and weak ones do not fit noise.
constexpr double coarse_ridge = 1e-2;

/// Appends what makes || T c ||^2 = c^H (G + ridge)^-1 c, in the order of MapPoint::whitener. Uses up the matrix.
void append_whitener(ComplexMatrix& gram, std::size_t count, std::vector<float>& whiteners) {
  const auto n = static_cast<Eigen::Index>(count);
  double largest = 0.0;
  for (Eigen::Index l = 0; l < n; ++l) largest = std::max(largest, gram(l, l).real());
  for (Eigen::Index l = 0; l < n; ++l) gram(l, l) += coarse_ridge * largest + 1e-30;
  const Eigen::LLT<ComplexMatrix> factor(gram.topLeftCorner(n, n));
  const ComplexMatrix inverse = factor.matrixL().solve(ComplexMatrix::Identity(n, n));
  for (Eigen::Index first = 0; first < n; first += 4) {
    for (Eigen::Index column = 0; column < std::min(first + 4, n); ++column) {
      for (const bool imaginary : {false, true}) {
        for (Eigen::Index row = first; row < first + 4; ++row) {
          const cdouble value = row < n && column <= row ? inverse(row, column) : cdouble(0.0);
          whiteners.push_back(static_cast<float>(imaginary ? value.imag() : value.real()));
        }
      }
    }
  }
}

}  // namespace

CoarseMap::CoarseMap(const PathPlan& plan, double spacing, std::size_t stride, std::size_t blocks)
    : grid_(Grid::over(plan.model->common.region, spacing)), stride_(stride), blocks_(blocks) {
  groups_in_block_ = (plan.groups() + blocks_ - 1) / blocks_;
  blocks_ = (plan.groups() + groups_in_block_ - 1) / groups_in_block_;
  PathSampler sampler(plan);
  PathPairs pairs(plan, 1);
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
    for (std::size_t at = 0; at < paths.count * plan.groups(); ++at) {
      taps_.push_back(taps_at(paths.group_delay[at], plan.profile.nodes()));
    }
    point.whitener = whiteners_.size();
    path_gram(paths, 0, plan.groups(), pairs, gram);
    append_whitener(gram, paths.count, whiteners_);
    std::size_t rest = index;
    point.coarse = true;
    for (std::size_t axis = grid_.counts.size(); axis-- > 0; rest /= grid_.counts[axis]) {
      const std::size_t at = rest % grid_.counts[axis], half = std::min(stride_, grid_.counts[axis]) / 2;
      point.coarse = point.coarse && (at % stride_ == half || (at + 1 == grid_.counts[axis] && at % stride_ < half));
    }
    point.block_whiteners = whiteners_.size();
    for (std::size_t block = 0; point.coarse && block < blocks_; ++block) {
      const std::size_t first = block * groups_in_block_;
      path_gram(paths, first, std::min(first + groups_in_block_, plan.groups()), pairs, gram);
      append_whitener(gram, paths.count, whiteners_);
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
  return scratch;
}

std::size_t CoarseMap::bytes() const {
  return points_.size() * sizeof(Point) + (2 * real_.size() + whiteners_.size()) * sizeof(float) +
         taps_.size() * sizeof(GroupTaps);
}

double CoarseMap::explained(const PathPlan& plan, const Query& query, const Point& point, std::size_t blocks,
                            std::size_t whitener) const {
  const std::size_t antennas = plan.antennas(), nodes = plan.profile.nodes(), groups = plan.groups();
  const std::size_t in_block = blocks == 1 ? groups : groups_in_block_, n = point.count;
  MapPoint work{};
  work.count = n;
  work.antenna_stride = antennas;
  work.tap_stride = groups;
  work.group = plan.group;
  work.nodes = nodes;
  double total = 0.0;
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::size_t group = block * in_block, begin = group * plan.group;
    work.antennas = std::min(begin + in_block * plan.group, antennas) - begin;
    work.real = real_.data() + point.first_row * antennas + begin;
    work.imag = imag_.data() + point.first_row * antennas + begin;
    work.taps = taps_.data() + point.first_row * groups + group;
    work.profile = query.profile.data() + 2 * begin * nodes;
    work.whitener = whiteners_.data() + whitener;
    total += static_cast<double>(kernels().explained_energy(work));
    for (std::size_t row = 0; row < n; row += 4) whitener += 8 * std::min(row + 4, n);
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
    scratch.coarse.push_back({explained(plan, query, point, blocks_, point.block_whiteners), index});
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
        scratch.fine.push_back({explained(plan, query, point, 1, point.whitener), index});
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
      double square = 0.0;
      for (std::size_t c = 0; c < 3; ++c) square += (here[c] - other[c]) * (here[c] - other[c]);
      apart = square > 2.25 * grid_.spacing * grid_.spacing;
    }
    if (apart) scratch.fine[kept++] = scratch.fine[rank];
  }
  scratch.fine.resize(kept);
}

}  // namespace wavefix
