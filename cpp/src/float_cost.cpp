// SPDX-License-Identifier: Apache-2.0
#include "float_cost.hpp"

#include <algorithm>
#include <cmath>

#include "angles.hpp"
#include "channel_math.hpp"
#include "kernels.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr double edge = 5e-3;  // of the energy, that a step over the edge of a gate loses at least
constexpr int most_edges = 4;  // that one descent steps over

}  // namespace

void path_gram(const Paths& paths, std::size_t first, std::size_t last, PathPairs& pairs, ComplexMatrix& gram) {
  for (std::size_t l = 0; l < paths.count; ++l) pairs.set_shape(paths, l, first, last);
  for (std::size_t m = 0; m < paths.count; ++m) {
    for (std::size_t l = 0; l <= m; ++l) {
      std::complex<float> sum;
      pairs.sum(l, m, &sum);
      const auto row = static_cast<Eigen::Index>(l), column = static_cast<Eigen::Index>(m);
      gram(row, column) = cdouble(sum);
      gram(column, row) = std::conj(cdouble(sum));
    }
  }
}

FloatCost::FloatCost(const PathPlan& plan)
    : plan_(plan),
      dimension_(plan.model->common.region.dimension()),
      vectors_(1 + dimension_),
      sampler_(plan),
      pairs_(plan, vectors_) {
  const std::size_t capacity = plan.capacity, antennas = plan.antennas();
  const auto n = static_cast<Eigen::Index>(capacity);
  paths_.reserve(capacity, antennas);
  relative_.resize(2 * capacity * antennas);
  later_.resize(capacity * antennas);
  real_.resize(capacity * vectors_ * antennas);
  imag_.resize(capacity * vectors_ * antennas);
  delay_slope_.resize(capacity * dimension_ * plan.groups());
  gram_.resize(n, n);
  for (std::size_t d = 0; d < dimension_; ++d) {
    slope_gram_[d].resize(n, n);
    slope_products_[d].resize(n);
    spread_[d].resize(n);
  }
  for (std::size_t pair = 0; pair < dimension_ * dimension_; ++pair) slope_pairs_[pair].resize(n, n);
  products_.resize(n);
  gains_.resize(n);
  solved_.resize(n);
  turns_.resize(capacity);
  phasors_.resize(2 * capacity);
  around_.reserve(26);
}

/// Shapes and their slopes; products with the query's profile.
void FloatCost::take_slopes(const double* position) {
  const std::size_t antennas = plan_.antennas(), groups = plan_.groups();
  const Region& region = plan_.model->common.region;
  sampler_.sample(position, paths_);
  steepest_ = 0.0;
  std::array<double, 256> rate{};
  const std::size_t watched = std::min(paths_.count, rate.size());
  for (std::size_t l = 0; l < paths_.count; ++l) {
    std::copy_n(paths_.real.data() + l * antennas, antennas, real_.data() + l * vectors_ * antennas);
    std::copy_n(paths_.imag.data() + l * antennas, antennas, imag_.data() + l * vectors_ * antennas);
    pairs_.set_shape(paths_, l, 0, groups);
  }
  for (std::size_t d = 0; d < dimension_; ++d) {
    sampler_.slopes(position, region.basis.data() + 3 * d, paths_, relative_.data(), later_.data());
    for (std::size_t l = 0; l < paths_.count; ++l) {
      const float *re = paths_.real.data() + l * antennas, *im = paths_.imag.data() + l * antennas;
      const float *change = relative_.data() + 2 * l * antennas, *later = later_.data() + l * antennas;
      float* to_re = real_.data() + (l * vectors_ + 1 + d) * antennas;
      float* to_im = imag_.data() + (l * vectors_ + 1 + d) * antennas;
      float square = 0.0f;
      for (std::size_t j = 0; j < antennas; ++j) {
        to_re[j] = re[j] * change[2 * j] - im[j] * change[2 * j + 1];
        to_im[j] = re[j] * change[2 * j + 1] + im[j] * change[2 * j];
        square += (re[j] * re[j] + im[j] * im[j]) * change[2 * j + 1] * change[2 * j + 1];
      }
      for (std::size_t g = 0; g < groups; ++g) {
        const std::size_t begin = g * plan_.group, n = std::min(plan_.group, antennas - begin);
        delay_slope_[(l * dimension_ + d) * groups + g] = later[begin + n / 2];
      }
      pairs_.set_slope(l, d, to_re, to_im, delay_slope_.data() + (l * dimension_ + d) * groups);
      const double by_delay = pi / DelayProfile::oversampling * static_cast<double>(later[antennas / 2]);
      if (l < watched) rate[l] += 3.0 * square / paths_.energy[l] + by_delay * by_delay;
    }
  }
  for (std::size_t l = 0; l < watched; ++l) {
    if (paths_.energy[l] > deciding_path * paths_.energy[0]) steepest_ = std::max(steepest_, std::sqrt(rate[l]));
  }
}

void FloatCost::add_pairs() {
  const std::size_t dimension = dimension_;
  std::complex<float> sums[16];  // [1 + d, 1 + d]
  for (std::size_t m = 0; m < paths_.count; ++m) {
    for (std::size_t l = 0; l <= m; ++l) {
      pairs_.sum(l, m, sums);
      const auto row = static_cast<Eigen::Index>(l), column = static_cast<Eigen::Index>(m);
      gram_(row, column) = cdouble(sums[0]);
      gram_(column, row) = std::conj(cdouble(sums[0]));
      for (std::size_t d = 0; d < dimension; ++d) {
        const std::complex<float>* of_l = sums + (1 + d) * vectors_;
        slope_gram_[d](row, column) = cdouble(sums[1 + d]);
        slope_gram_[d](column, row) = std::conj(cdouble(of_l[0]));
        for (std::size_t e = 0; e < dimension; ++e) slope_pairs_[d * dimension + e](row, column) = cdouble(of_l[1 + e]);
      }
    }
  }
}

/// Eliminates the gains: explained energy, its half gradient, and the Gauss-Newton matrix.
void FloatCost::project(FloatPoint& point) {
  const auto n = static_cast<Eigen::Index>(paths_.count);
  const auto dimension = static_cast<Eigen::Index>(dimension_);
  auto gram = gram_.topLeftCorner(n, n);
  const Eigen::LLT<Eigen::Ref<ComplexMatrix>> factor(gram);  // in place: nothing is allocated
  auto gains = gains_.head(n);
  gains = products_.head(n);
  factor.solveInPlace(gains);
  point.explained = products_.head(n).dot(gains).real();
  point.normal.setZero(dimension, dimension);
  point.gradient.setZero(dimension);
  for (Eigen::Index d = 0; d < dimension; ++d) {
    spread_[d].head(n).noalias() = slope_gram_[d].topLeftCorner(n, n) * gains;
    point.gradient(d) = gains.dot(slope_products_[d].head(n)).real() - gains.dot(spread_[d].head(n)).real();
  }
  for (Eigen::Index d = 0; d < dimension; ++d) {
    auto solved = solved_.head(n);
    solved = spread_[d].head(n);
    factor.solveInPlace(solved);
    for (Eigen::Index e = 0; e <= d; ++e) {
      double sum = -spread_[e].head(n).dot(solved).real();
      const auto &one = slope_pairs_[d * dimension + e], &other = slope_pairs_[e * dimension + d];
      for (Eigen::Index m = 0; m < n; ++m) {
        for (Eigen::Index l = 0; l < m; ++l) sum += (std::conj(gains(l)) * gains(m) * (one(l, m) + other(l, m))).real();
        sum += detail::squared(gains(m)) * one(m, m).real();
      }
      point.normal(d, e) = point.normal(e, d) = sum;
    }
  }
}

void FloatCost::linearize(const Query& query, const double* position, FloatPoint& point) {
  checkpoint();
  std::copy_n(position, 3, point.position.begin());
  take_slopes(position);
  point.steepest = steepest_;
  point.present = paths_.count;
  point.paths = std::min(point.present, point.directions.size() / 3);
  std::copy_n(paths_.direction.begin(), 3 * point.paths, point.directions.begin());
  const std::size_t antennas = plan_.antennas(), nodes = plan_.profile.nodes(), groups = plan_.groups();
  for (std::size_t l = 0; l < paths_.count; ++l) {
    const auto row = static_cast<Eigen::Index>(l);
    const std::size_t at = l * vectors_ * antennas;
    float products[8];
    kernels().path_slopes({{real_.data() + at, imag_.data() + at, paths_.delay.data() + l * antennas,
                            query.profile.data(), antennas, nodes},
                           delay_slope_.data() + l * dimension_ * groups,
                           vectors_,
                           plan_.group},
                          products);
    products_(row) = cdouble(products[0], products[1]);
    for (std::size_t d = 0; d < dimension_; ++d) {
      slope_products_[d](row) = cdouble(products[2 + 2 * d], products[3 + 2 * d]);
    }
  }
  add_pairs();
  for (std::size_t l = 0; l < paths_.count; ++l) {
    const auto row = static_cast<Eigen::Index>(l);
    gram_(row, row) += ridge_ + 1e-6 * gram_(0, 0).real();
  }
  if (paths_.count > 0) project(point);
  const bool known = std::isfinite(point.explained) && point.normal.allFinite() && point.gradient.allFinite();
  if (paths_.count == 0 || !known) {  // nothing there, or a model whose values overflow
    point.explained = 0.0;
    point.normal.setZero(static_cast<Eigen::Index>(dimension_), static_cast<Eigen::Index>(dimension_));
    point.gradient.setZero(static_cast<Eigen::Index>(dimension_));
  }
}

void FloatCost::confirm(const Query& query, FloatPoint& point) {
  FloatPoint there;
  linearize(query, point.position.data(), there);
  const ModelCommon& common = plan_.model->common;
  const std::size_t antennas = plan_.antennas(), subcarriers = common.n_subcarriers(), n = paths_.count;
  double unexplained = 0.0;
  for (std::size_t j = 0; j < antennas; ++j) {
    for (std::size_t k = 0; k < subcarriers; ++k) {
      const double frequency = common.frequencies[k] - common.center_frequency;
      for (std::size_t l = 0; l < n; ++l) {
        turns_[l] = -frequency * plan_.profile.delay(paths_.delay[l * antennas + j]);
      }
      kernels().unit_phasors(turns_.data(), n, phasors_.data(), phasors_.data() + n);
      cdouble left(query.scaled[j * subcarriers + k]);
      for (std::size_t l = 0; l < n; ++l) {
        const cdouble amplitude(paths_.real[l * antennas + j], paths_.imag[l * antennas + j]);
        left -= gains_(static_cast<Eigen::Index>(l)) * amplitude * cdouble(phasors_[l], phasors_[n + l]);
      }
      unexplained += detail::squared(left);
    }
  }
  point.explained = query.energy - unexplained;
  point.confirmed = true;
}

/// False where steps that the slopes promise lose energy, as across the edge of a gate.
bool FloatCost::settle(const Query& query, const Limits& limits, FloatPoint& point) {
  const Region& region = plan_.model->common.region;
  const double size = static_cast<double>(plan_.antennas() * plan_.model->common.n_subcarriers());
  double damping = 1e-3;
  double lost = 0.0;
  int refused = 0;
  FloatPoint trial;
  for (int iteration = 0; iteration < limits.iterations && refused < 3; ++iteration) {
    // what the paths do not explain is noise at most, and the ridge follows it
    const double unexplained = std::max(1.0 - point.explained / query.energy, 1e-6);
    const bool settled = ridge_ <= 4.0 * query.ridge * unexplained;  // otherwise a lower ridge moves the optimum
    ridge_ = std::min(ridge_, query.ridge * unexplained);
    SmallMatrix damped = point.normal;
    damped.diagonal() *= 1.0 + damping;
    damped.diagonal().array() += 1e-9 * point.normal.trace();
    SmallVector step = damped.ldlt().solve(point.gradient);
    if (!step.allFinite()) break;
    if (step.norm() > limits.longest) step *= limits.longest / step.norm();
    std::array<double, 3> there = point.position;
    double moved = 0.0;
    for (std::size_t d = 0; d < dimension_; ++d) {
      const double* axis = region.basis.data() + 3 * d;
      double y = 0.0;
      for (std::size_t c = 0; c < 3; ++c) y += axis[c] * (point.position[c] - region.origin[c]);
      const double to = std::clamp(y + step(static_cast<Eigen::Index>(d)), region.lower[d] - limits.margin,
                                   region.upper[d] + limits.margin);
      for (std::size_t c = 0; c < 3; ++c) there[c] += axis[c] * (to - y);
      moved += (to - y) * (to - y);
    }
    const double variance = (query.energy - point.explained) / size + limits.variance;
    // the candidates around it cover what the last step leaves
    if (settled && (std::sqrt(moved) <= limits.shortest || point.gradient.dot(step) <= 0.5 * variance)) {
      point.explained += point.gradient.dot(step);
      point.position = there;
      return true;
    }
    linearize(query, there.data(), trial);
    if (trial.explained > point.explained) {
      point = trial;
      damping = std::max(0.1 * damping, 1e-9);
      refused = 0;
    } else {
      damping *= 10.0;
      ++refused;
      lost = point.explained - trial.explained;
    }
  }
  return refused < 3 || lost < edge * query.energy;
}

bool FloatCost::step_over(const Query& query, const Limits& limits, FloatPoint& point) {
  const Region& region = plan_.model->common.region;
  const Point center = point.position;
  bool better = false;
  FloatPoint trial;
  for (const double radius : {limits.longest, 0.5 * limits.longest}) {
    points_around(region, center, radius, around_);
    for (const Point& there : around_) {
      if (!within(region, there, limits.margin)) continue;
      linearize(query, there.data(), trial);
      if (!(trial.explained > point.explained)) continue;
      point = trial;
      better = true;
    }
  }
  return better;
}

void FloatCost::descend(const Query& query, const Limits& limits, FloatPoint& point) {
  ridge_ = query.ridge;
  linearize(query, point.position.data(), point);
  bool at_edge = false;
  for (int turn = 0; turn < most_edges && !settle(query, limits, point); ++turn) {
    at_edge = true;
    if (!step_over(query, limits, point)) break;
  }
  point.at_edge = at_edge;
}

}  // namespace wavefix
