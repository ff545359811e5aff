// SPDX-License-Identifier: Apache-2.0
#include "float_cost.hpp"

#include <algorithm>
#include <cmath>

#include "kernels.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr double pi = 3.14159265358979323846;

std::complex<float> conj_product(const float* ar, const float* ai, const float* br, const float* bi, std::size_t n) {
  float re = 0.0f, im = 0.0f;
  for (std::size_t j = 0; j < n; ++j) {
    re += ar[j] * br[j] + ai[j] * bi[j];
    im += ar[j] * bi[j] - ai[j] * br[j];
  }
  return {re, im};
}

/// Slope of the interpolation weights.
void taps_slope(float coordinate, const Taps& taps, float* weight) {
  const float s = coordinate - static_cast<float>(taps.first + 1);
  weight[0] = -(3.0f * s * s - 6.0f * s + 2.0f) / 6.0f;
  weight[1] = (3.0f * s * s - 4.0f * s - 1.0f) * 0.5f;
  weight[2] = -(3.0f * s * s - 2.0f * s - 2.0f) * 0.5f;
  weight[3] = (3.0f * s * s - 1.0f) / 6.0f;
}

std::complex<float> interpolate(const float* profile, const Taps& taps, const float* weight) {
  const float* z = profile + 2 * taps.first;
  float re = 0.0f, im = 0.0f;
  for (std::size_t tap = 0; tap < 4; ++tap) {
    re += weight[tap] * z[2 * tap];
    im += weight[tap] * z[2 * tap + 1];
  }
  return {re, im};
}

}  // namespace

cdouble path_product(const float* real, const float* imag, const float* delay, const float* profile, std::size_t nodes,
                     std::size_t first, std::size_t last) {
  float sum[2];
  kernels().path_product({real + first, imag + first, delay + first, profile + 2 * first * nodes, last - first, nodes},
                         sum);
  return {sum[0], sum[1]};
}

void path_gram(const PathPlan& plan, const Paths& paths, std::size_t first, std::size_t last, ComplexMatrix& gram) {
  const std::size_t antennas = plan.antennas(), groups = plan.groups();
  for (std::size_t m = 0; m < paths.count; ++m) {
    for (std::size_t l = 0; l <= m; ++l) {
      std::complex<float> sum = 0.0f;
      for (std::size_t g = first; g < last; ++g) {
        const std::size_t begin = g * plan.group, n = std::min(plan.group, antennas - begin);
        const std::size_t a = l * antennas + begin, b = m * antennas + begin;
        const auto overlap =
            plan.profile.overlap(paths.group_delay[m * groups + g] - paths.group_delay[l * groups + g]);
        sum += overlap.value * conj_product(paths.real.data() + a, paths.imag.data() + a, paths.real.data() + b,
                                            paths.imag.data() + b, n);
      }
      const auto row = static_cast<Eigen::Index>(l), column = static_cast<Eigen::Index>(m);
      gram(row, column) = cdouble(sum);
      gram(column, row) = std::conj(cdouble(sum));
    }
  }
}

FloatCost::FloatCost(const PathPlan& plan)
    : plan_(plan), dimension_(plan.model->common.region.dimension()), vectors_(1 + dimension_), sampler_(plan) {
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
      const double by_delay = pi / DelayProfile::oversampling * static_cast<double>(later[antennas / 2]);
      if (l < watched) rate[l] += 3.0 * square / paths_.energy[l] + by_delay * by_delay;
    }
  }
  for (std::size_t l = 0; l < watched; ++l) {
    if (paths_.energy[l] > deciding_path * paths_.energy[0]) steepest_ = std::max(steepest_, std::sqrt(rate[l]));
  }
}

/// Every sum over antennas and subcarriers of two shapes, or slopes of shapes. Within a group of antennas the sum over
/// subcarriers is the same, so that it is looked up once.
void FloatCost::add_pairs() {
  const std::size_t antennas = plan_.antennas(), groups = plan_.groups(), dimension = dimension_;
  for (std::size_t m = 0; m < paths_.count; ++m) {
    for (std::size_t l = 0; l <= m; ++l) {
      std::complex<float> value = 0.0f, right[3] = {}, left[3] = {}, both[9] = {};
      for (std::size_t g = 0; g < groups; ++g) {
        const std::size_t begin = g * plan_.group, n = std::min(plan_.group, antennas - begin);
        const auto k = plan_.profile.overlap(paths_.group_delay[m * groups + g] - paths_.group_delay[l * groups + g]);
        std::complex<float> sums[4][4];
        for (std::size_t c = 0; c < vectors_; ++c) {
          for (std::size_t e = 0; e < vectors_; ++e) {
            const std::size_t a = (l * vectors_ + c) * antennas + begin, b = (m * vectors_ + e) * antennas + begin;
            sums[c][e] = conj_product(real_.data() + a, imag_.data() + a, real_.data() + b, imag_.data() + b, n);
          }
        }
        value += k.value * sums[0][0];
        for (std::size_t d = 0; d < dimension; ++d) {
          const float of_l = delay_slope_[(l * dimension + d) * groups + g];
          const float of_m = delay_slope_[(m * dimension + d) * groups + g];
          right[d] += k.value * sums[0][1 + d] + of_m * k.slope * sums[0][0];
          left[d] += k.value * sums[1 + d][0] - of_l * k.slope * sums[0][0];
          for (std::size_t e = 0; e < dimension; ++e) {
            const float also = delay_slope_[(m * dimension + e) * groups + g];
            both[d * dimension + e] += k.value * sums[1 + d][1 + e] + also * k.slope * sums[1 + d][0] -
                                       of_l * k.slope * sums[0][1 + e] - of_l * also * k.bend * sums[0][0];
          }
        }
      }
      const auto row = static_cast<Eigen::Index>(l), column = static_cast<Eigen::Index>(m);
      gram_(row, column) = cdouble(value);
      gram_(column, row) = std::conj(cdouble(value));
      for (std::size_t d = 0; d < dimension; ++d) {
        slope_gram_[d](row, column) = cdouble(right[d]);
        slope_gram_[d](column, row) = std::conj(cdouble(left[d]));
      }
      for (std::size_t pair = 0; pair < dimension * dimension; ++pair) {
        slope_pairs_[pair](row, column) = cdouble(both[pair]);
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
        sum += std::norm(gains(m)) * one(m, m).real();
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
  point.paths = std::min(paths_.count, point.directions.size() / 3);
  std::copy_n(paths_.direction.begin(), 3 * point.paths, point.directions.begin());
  const std::size_t antennas = plan_.antennas(), nodes = plan_.profile.nodes(), groups = plan_.groups();
  for (std::size_t l = 0; l < paths_.count; ++l) {
    const auto row = static_cast<Eigen::Index>(l);
    cdouble product = 0.0, along[3] = {};
    for (std::size_t j = 0; j < antennas; ++j) {
      const float coordinate = paths_.delay[l * antennas + j];
      const Taps taps = taps_at(coordinate, nodes);
      float weight[4];
      taps_slope(coordinate, taps, weight);
      const float* profile = query.profile.data() + 2 * j * nodes;
      const auto z = interpolate(profile, taps, taps.weight), dz = interpolate(profile, taps, weight);
      const std::size_t at = l * vectors_ * antennas + j;
      const auto shape = std::complex<float>(real_[at], -imag_[at]);
      product += cdouble(shape * z);
      for (std::size_t d = 0; d < dimension_; ++d) {
        const std::size_t slope = at + (1 + d) * antennas;
        const float later = delay_slope_[(l * dimension_ + d) * groups + j / plan_.group];
        along[d] += cdouble(std::complex<float>(real_[slope], -imag_[slope]) * z + shape * later * dz);
      }
    }
    products_(row) = product;
    for (std::size_t d = 0; d < dimension_; ++d) slope_products_[d](row) = along[d];
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
      unexplained += std::norm(left);
    }
  }
  point.explained = query.energy - unexplained;
  point.confirmed = true;
}

void FloatCost::descend(const Query& query, const Limits& limits, FloatPoint& point) {
  const Region& region = plan_.model->common.region;
  const double size = static_cast<double>(plan_.antennas() * plan_.model->common.n_subcarriers());
  double damping = 1e-3;
  int refused = 0;
  FloatPoint trial;
  ridge_ = query.ridge;
  linearize(query, point.position.data(), point);
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
      break;
    }
    linearize(query, there.data(), trial);
    if (trial.explained > point.explained) {
      point = trial;
      damping = std::max(0.1 * damping, 1e-9);
      refused = 0;
    } else {
      damping *= 10.0;
      ++refused;
    }
  }
}

}  // namespace wavefix
