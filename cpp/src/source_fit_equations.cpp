// SPDX-License-Identifier: Apache-2.0
// Normal equations of all sources, location by location. The column of every unknown of a source is a real combination
// of four waves (real vectors of 2 K numbers): psi, j psi, -j a psi and -j a (k_k - k_r) psi. So the sums over the
// subcarriers are those of the waves with one another, and the unknowns come in afterwards.
#include <algorithm>
#include <memory>
#include <vector>

#include "angles.hpp"
#include "packed_matrix.hpp"
#include "source_rays.hpp"
#include "wavefix/error.hpp"
#include "wavefix/source_fit.hpp"

namespace wavefix {
namespace {

constexpr std::size_t waves = 4;        // of a source
constexpr std::size_t of_residual = 4;  // columns: the residual, times (k_k - k_r), and -j times each
constexpr std::size_t of_source = 6;    // columns: psi, times (k_k - k_r) and its square, and -j times each
constexpr double dark = 1e-6;           // a gate below this counts as closed
constexpr std::size_t most_parts = 8;   // summed in their order, so that the sums do not depend on the threads

struct Problem {
  const Measurement& measurement;
  const SourceGeometry& sources;
  View<const float, 4> basis;
  View<const cfloat, 3> amplitudes, residual;
  std::vector<double> slopes;  // [L, 3], of the distance at the middle
  double reference;            // k_r, rad/m
  std::size_t antennas, tones, count, terms;
  std::vector<std::size_t> own_terms;  // [L], of `terms`, that a source has coefficients for
  std::vector<std::size_t> first;      // [L + 1], of a source's unknowns

  std::size_t unknowns(std::size_t l) const { return 2 * own_terms[l] + motions; }
};

/// The sums of one thread, and its scratch.
class Accumulator {
 public:
  explicit Accumulator(const Problem& problem)
      : problem_(problem),
        rays_(problem.measurement.frequencies),
        re_(rays_.padded_count()),
        im_(rays_.padded_count()),
        matrix_(problem.first.back() * problem.first.back()),
        gradient_(problem.first.back()) {
    const std::size_t samples = problem.antennas, depth = 2 * problem.tones;
    packed_.reserve(problem.count, depth);
    columns_.resize((of_residual + of_source * problem.count) * depth);
    gram_.resize((of_residual + of_source * problem.count) * padded(problem.count) * samples);
    lines_.resize(waves * line_size());
    const std::size_t most = std::max(problem.terms, motions);
    mixed_.reserve(problem.first.back(), waves * samples);
    left_.resize(most * 2 * samples);
    product_.resize(most * padded(problem.first.back()));
    motion_.resize(problem.count * samples * 2 * motions);
    for (std::size_t k = 0; k < problem.tones; ++k) {
      const double wavenumber = tau * problem.measurement.frequencies.data[k] / speed_of_light;
      offsets_.push_back(static_cast<float>(wavenumber - problem.reference));
    }
  }

  void add(std::size_t row) {
    find_lit(row);
    if (lit_.empty()) return;
    for (std::size_t j = 0; j < problem_.antennas; ++j) add_waves(row, j);
    for (std::size_t i = 0; i < lit_.size(); ++i) add_source(row, i), add_gradient(row, i);
  }

  const std::vector<double>& matrix() const { return matrix_; }
  const std::vector<double>& gradient() const { return gradient_; }

 private:
  const float* basis(std::size_t row, std::size_t j, std::size_t l) const {
    return problem_.basis.row(row) + (j * problem_.count + l) * problem_.terms;
  }

  /// Sources that some antenna sees from this location.
  void find_lit(std::size_t row) {
    lit_.clear();
    lit_first_.assign(1, 0);
    for (std::size_t l = 0; l < problem_.count; ++l) {
      double most = 0.0;
      for (std::size_t j = 0; j < problem_.antennas; ++j) {
        most = std::max(most, ray_at(row, j, l).distance * static_cast<double>(std::abs(basis(row, j, l)[0])));
      }
      if (!(most > dark)) continue;
      lit_.push_back(l);
      lit_first_.push_back(lit_first_.back() + problem_.unknowns(l));
    }
  }

  Ray ray_at(std::size_t row, std::size_t j, std::size_t l) const {
    const auto& measurement = problem_.measurement;
    return ray_of(measurement.positions.row(row), problem_.sources.positions.row(l), problem_.sources.rotations.row(l),
                  measurement.offsets.row(j));
  }

  float* gram(std::size_t j) {
    return gram_.data() + j * (of_residual + of_source * lit_.size()) * padded(lit_.size());
  }

  /// sum_k (k_k - k_r)^power conj(psi_i) times the residual or, from `first` on, times psi of a source.
  cfloat sum_at(std::size_t j, std::size_t first, std::size_t power, std::size_t i) {
    const float* real = gram(j) + (first + 2 * power) * padded(lit_.size()) + i;
    return {real[0], real[padded(lit_.size())]};
  }

  /// A column [2 K] and -j times it behind, whose inner products with psi are the real and imaginary part of a sum.
  void set_columns(std::size_t column, const float* re, const float* im) {
    const std::size_t tones = problem_.tones;
    float* to = columns_.data() + column * 2 * tones;
    for (std::size_t k = 0; k < tones; ++k) {
      to[k] = re[k], to[tones + k] = im[k];
      to[2 * tones + k] = im[k], to[3 * tones + k] = -re[k];
    }
  }

  void to_next_power() {
    for (std::size_t k = 0; k < problem_.tones; ++k) re_[k] *= offsets_[k], im_[k] *= offsets_[k];
  }

  /// Sums over the subcarriers of one antenna: of every source with the residual and with every source.
  void add_waves(std::size_t row, std::size_t j) {
    const std::size_t tones = problem_.tones, depth = 2 * tones, rows = lit_.size();
    const cfloat* residual = problem_.residual.row(row) + j * tones;
    for (std::size_t k = 0; k < tones; ++k) re_[k] = residual[k].real(), im_[k] = residual[k].imag();
    set_columns(0, re_.data(), im_.data());
    to_next_power();
    set_columns(2, re_.data(), im_.data());
    packed_.resize(rows, depth);
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t l = lit_[i];
      const Ray ray = ray_at(row, j, l);
      std::fill(re_.begin(), re_.end(), 0.0f), std::fill(im_.begin(), im_.end(), 0.0f);
      rays_.set(ray.distance);
      rays_.add(1.0f, re_.data(), im_.data());
      for (std::size_t k = 0; k < tones; ++k) packed_.at(i, k) = re_[k], packed_.at(i, tones + k) = im_[k];
      for (std::size_t power = 0; power < 3; ++power) {
        if (power > 0) to_next_power();
        set_columns(of_residual + of_source * i + 2 * power, re_.data(), im_.data());
      }
      double slope[motions];
      slopes_of(ray, slope);
      float* motion = motion_of(i, j);
      for (std::size_t c = 0; c < motions; ++c) {
        const double middle = c < 3 ? problem_.slopes[3 * l + c] : 0.0;
        motion[c] = static_cast<float>(problem_.reference * (slope[c] - middle));
        motion[motions + c] = static_cast<float>(slope[c]);
      }
    }
    packed_.multiply(columns_.data(), of_residual + of_source * rows, depth, gram(j), padded(rows));
  }

  /// Derivatives of the distance: -u for the position, -(R p x u) for the rotation.
  static void slopes_of(const Ray& ray, double* slope) {
    const auto &u = ray.direction, &p = ray.arm;
    for (std::size_t c = 0; c < 3; ++c) {
      const std::size_t d = (c + 1) % 3, e = (c + 2) % 3;
      slope[c] = -u[c];
      slope[3 + c] = -(p[d] * u[e] - p[e] * u[d]);
    }
  }

  /// The rows of source lit_[i], for the columns of itself and the sources before it.
  void add_source(std::size_t row, std::size_t i) {
    const std::size_t antennas = problem_.antennas, terms = problem_.own_terms[lit_[i]];
    mixed_.resize(lit_first_[i + 1], waves * antennas);
    for (std::size_t j = 0; j < antennas; ++j) {
      for (std::size_t m = 0; m <= i; ++m) mix(row, j, i, m);
      constexpr std::size_t lanes = PackedMatrix<float>::block_rows;
      for (std::size_t wave = 0; wave < waves; ++wave) {
        const float* line = lines_.data() + wave * line_size();
        for (std::size_t b = 0; b < mixed_.blocks(); ++b) {
          std::copy_n(line + b * lanes, lanes, mixed_.lanes(b, wave * antennas + j));
        }
      }
    }
    for (std::size_t part = 0; part < 3; ++part) {
      const std::size_t columns = part < 2 ? terms : motions, depth = part < 2 ? antennas : 2 * antennas;
      for (std::size_t c = 0; c < columns; ++c) {
        float* left = left_.data() + c * depth;
        for (std::size_t j = 0; j < antennas; ++j) {
          const float* motion = motion_of(i, j);
          if (part < 2) {
            left[j] = basis(row, j, lit_[i])[c];
          } else {
            left[j] = motion[c], left[antennas + j] = motion[motions + c];
          }
        }
      }
      add_product(i, part, columns, depth, part * antennas);
    }
  }

  /// Whole blocks, in which a line is copied.
  std::size_t line_size() const {
    constexpr std::size_t lanes = PackedMatrix<float>::block_rows;
    return (problem_.first.back() + lanes - 1) / lanes * lanes;
  }
  float* motion_of(std::size_t i, std::size_t j) { return motion_.data() + (i * problem_.antennas + j) * 2 * motions; }

  /// Inner products of the waves of source lit_[i], psi, j psi, -j a psi and -j a (k_k - k_r) psi, with the columns of
  /// the unknowns of lit_[m], at one antenna.
  void mix(std::size_t row, std::size_t j, std::size_t i, std::size_t m) {
    const cfloat own = amplitude(row, j, i), other = amplitude(row, j, m);
    const cfloat turn(own.imag(), own.real()), turned(other.imag(), -other.real());  // conj(-j a), -j b
    cfloat sums[3], both[3];
    for (std::size_t power = 0; power < 3; ++power) {
      sums[power] = sum_at(j, of_residual + of_source * m, power, i);
      both[power] = times(turn, sums[power]);
    }
    const cfloat zero = times(turned, sums[0]), one = times(turned, sums[1]), next = times(turned, both[1]);
    const float with[waves][4] = {
        {sums[0].real(), -sums[0].imag(), zero.real(), one.real()},
        {sums[0].imag(), sums[0].real(), zero.imag(), one.imag()},
        {both[0].real(), -both[0].imag(), times(turned, both[0]).real(), next.real()},
        {both[1].real(), -both[1].imag(), next.real(), times(turned, both[2]).real()},
    };
    const std::size_t terms = problem_.own_terms[lit_[m]];
    const float *weight = basis(row, j, lit_[m]), *motion = motion_of(m, j);
    float* to = lines_.data() + lit_first_[m];
    for (std::size_t wave = 0; wave < waves; ++wave, to += line_size()) {
      const float* w = with[wave];
      for (std::size_t t = 0; t < terms; ++t) to[t] = weight[t] * w[0], to[terms + t] = weight[t] * w[1];
      for (std::size_t c = 0; c < motions; ++c) to[2 * terms + c] = motion[c] * w[2] + motion[motions + c] * w[3];
    }
  }

  static cfloat times(cfloat a, cfloat b) {
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  }

  cfloat amplitude(std::size_t row, std::size_t j, std::size_t i) const {
    return problem_.amplitudes.row(row)[j * problem_.count + lit_[i]];
  }

  /// Adds left [columns, depth] times mixed [.., depth from `level`] to the rows of source lit_[i].
  void add_product(std::size_t i, std::size_t part, std::size_t columns, std::size_t depth, std::size_t level) {
    const std::size_t count = lit_first_[i + 1], stride = padded(count), terms = problem_.own_terms[lit_[i]];
    constexpr std::size_t lanes = PackedMatrix<float>::block_rows;
    for (std::size_t b = 0; b < mixed_.blocks(); ++b) {
      const std::size_t rows = std::min(lanes, count - b * lanes);
      kernels().multiply_float({mixed_.lanes(b, 0) + level * lanes, rows, depth, depth, 0, left_.data(), columns, depth,
                                product_.data() + b * lanes, stride});
    }
    const std::size_t own = problem_.first[lit_[i]] + part * terms, size = problem_.first.back();
    for (std::size_t c = 0; c < columns; ++c) {
      double* to = matrix_.data() + (own + c) * size;
      const float* from = product_.data() + c * stride;
      for (std::size_t m = 0; m <= i; ++m) {
        double* const target = to + problem_.first[lit_[m]];
        const float* const source = from + lit_first_[m];
        for (std::size_t q = 0; q < problem_.unknowns(lit_[m]); ++q) target[q] += static_cast<double>(source[q]);
      }
    }
  }

  /// Inner products of the columns of source lit_[i] with the residual, at all antennas.
  void add_gradient(std::size_t row, std::size_t i) {
    const std::size_t terms = problem_.own_terms[lit_[i]];
    double* to = gradient_.data() + problem_.first[lit_[i]];
    for (std::size_t j = 0; j < problem_.antennas; ++j) {
      const float *weight = basis(row, j, lit_[i]), *motion = motion_of(i, j);
      const cfloat sum = sum_at(j, 0, 0, i), own = amplitude(row, j, i), turn(own.imag(), own.real());
      const float at_rest = times(turn, sum).real(), in_motion = times(turn, sum_at(j, 0, 1, i)).real();
      for (std::size_t t = 0; t < terms; ++t) {
        to[t] += static_cast<double>(weight[t] * sum.real());
        to[terms + t] += static_cast<double>(weight[t] * sum.imag());
      }
      for (std::size_t c = 0; c < motions; ++c) {
        to[2 * terms + c] += static_cast<double>(motion[c] * at_rest + motion[motions + c] * in_motion);
      }
    }
  }

  const Problem& problem_;
  RayPhasors rays_;
  std::vector<float> re_, im_, offsets_;
  PackedMatrix<float> packed_, mixed_;
  std::vector<float> columns_;  // [of_residual + of_source lit sources, 2 K]
  std::vector<float> gram_;     // [antennas, as many columns, lit sources]
  std::vector<float> lines_;    // [waves, unknowns of the lit sources]
  std::vector<float> motion_;   // [lit, antennas, 2, 6]
  std::vector<float> left_, product_;
  std::vector<std::size_t> lit_, lit_first_;  // sources, and the first of each one's unknowns among theirs
  std::vector<double> matrix_, gradient_;
};

}  // namespace

void source_normal_equations(const Measurement& measurement, const SourceGeometry& sources, View<const float, 4> basis,
                             View<const std::int32_t, 1> terms_of, View<const cfloat, 3> amplitudes,
                             View<const cfloat, 3> residual, View<const double, 1> middle, double reference_frequency,
                             View<double, 2> matrix, View<double, 1> gradient, const Execution& execution) {
  const std::size_t n = measurement.positions.shape[0], terms = basis.shape[3];
  Problem problem{measurement,
                  sources,
                  basis,
                  amplitudes,
                  residual,
                  {},
                  tau * reference_frequency / speed_of_light,
                  measurement.offsets.shape[0],
                  measurement.frequencies.shape[0],
                  sources.positions.shape[0],
                  terms,
                  {},
                  {0}};
  for (std::size_t l = 0; l < problem.count; ++l) {
    problem.own_terms.push_back(static_cast<std::size_t>(terms_of.data[l]));
    problem.first.push_back(problem.first.back() + problem.unknowns(l));
  }
  const double origin[3] = {};
  for (std::size_t l = 0; l < problem.count; ++l) {
    const Ray ray = ray_of(middle.data, sources.positions.row(l), sources.rotations.row(l), origin);
    for (const double value : ray.direction) problem.slopes.push_back(-value);
  }
  std::vector<std::unique_ptr<Accumulator>> parts;
  for (std::size_t part = 0; part < std::min(most_parts, n); ++part) {
    parts.push_back(std::make_unique<Accumulator>(problem));
  }
  parallel_for(parts.size(), execution, [&](std::size_t part, int) {
    for (std::size_t row = part; row < n; row += parts.size()) parts[part]->add(row);
  });
  std::fill(matrix.data, matrix.data + matrix.size(), 0.0);
  std::fill(gradient.data, gradient.data + gradient.size(), 0.0);
  for (const auto& part : parts) {
    for (std::size_t i = 0; i < matrix.size(); ++i) matrix.data[i] += part->matrix()[i];
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient.data[i] += part->gradient()[i];
  }
}

}  // namespace wavefix
