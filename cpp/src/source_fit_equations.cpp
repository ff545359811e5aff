// SPDX-License-Identifier: Apache-2.0
// Normal equations of all sources, location by location. The column of every unknown of a source is a real combination
// of four waves (real vectors of 2 K numbers): psi, j psi, -j a psi and -j a (k_k - k_r) psi. So the sums over the
// subcarriers are those of the waves with one another, and the unknowns come in afterwards.
#include <algorithm>
#include <memory>
#include <vector>

#include "packed_matrix.hpp"
#include "source_rays.hpp"
#include "wavefix/error.hpp"
#include "wavefix/source_fit.hpp"

namespace wavefix {
namespace {

constexpr std::size_t waves = 4;    // of a source
constexpr std::size_t motions = 6;  // position and rotation
constexpr double tau = 6.283185307179586476925286766559;
constexpr double dark = 1e-6;          // a gate below this counts as closed
constexpr std::size_t most_parts = 8;  // summed in their order, so that the sums do not depend on the threads

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
        re_(problem.tones),
        im_(problem.tones),
        matrix_(problem.first.back() * problem.first.back()),
        gradient_(problem.first.back()) {
    const std::size_t rows = waves * problem.count, depth = 2 * problem.tones;
    packed_.reserve(rows, depth);
    columns_.resize((rows + 1) * depth);
    gram_.resize((rows + 1) * padded(rows) * problem.antennas);
    const std::size_t samples = problem.antennas;
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
    for (std::size_t i = 0; i < lit_.size(); ++i) add_source(row, i);
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

  std::size_t gram_rows() const { return waves * lit_.size(); }
  float* gram(std::size_t j) { return gram_.data() + j * (gram_rows() + 1) * padded(gram_rows()); }

  /// Inner products of all waves of one antenna, and of each with the residual (the last column).
  void add_waves(std::size_t row, std::size_t j) {
    const std::size_t tones = problem_.tones, depth = 2 * tones;
    for (std::size_t i = 0; i < lit_.size(); ++i) {
      const std::size_t l = lit_[i];
      const Ray ray = ray_at(row, j, l);
      rays_.fill(ray.distance, re_.data(), im_.data());
      const cfloat a = problem_.amplitudes.row(row)[j * problem_.count + l];
      float* wave = columns_.data() + waves * i * depth;
      for (std::size_t k = 0; k < tones; ++k) {
        const float re = re_[k], im = im_[k];
        wave[k] = re, wave[tones + k] = im;
        wave[depth + k] = -im, wave[depth + tones + k] = re;
        const float turned_re = a.real() * im + a.imag() * re, turned_im = a.imag() * im - a.real() * re;
        wave[2 * depth + k] = turned_re, wave[2 * depth + tones + k] = turned_im;
        wave[3 * depth + k] = offsets_[k] * turned_re, wave[3 * depth + tones + k] = offsets_[k] * turned_im;
      }
      double slope[motions];
      slopes_of(ray, slope);
      float* motion = motion_.data() + (i * problem_.antennas + j) * 2 * motions;
      for (std::size_t c = 0; c < motions; ++c) {
        const double middle = c < 3 ? problem_.slopes[3 * l + c] : 0.0;
        motion[c] = static_cast<float>(problem_.reference * (slope[c] - middle));
        motion[motions + c] = static_cast<float>(slope[c]);
      }
    }
    const std::size_t rows = gram_rows();
    const cfloat* residual = problem_.residual.row(row) + j * tones;
    float* last = columns_.data() + rows * depth;
    for (std::size_t k = 0; k < tones; ++k) last[k] = residual[k].real(), last[tones + k] = residual[k].imag();
    packed_.resize(rows, depth);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t level = 0; level < depth; ++level) packed_.at(r, level) = columns_[r * depth + level];
    }
    packed_.multiply(columns_.data(), rows + 1, depth, gram(j), padded(rows));
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
    const std::size_t rows = gram_rows(), before = i + 1;
    mixed_.resize(lit_first_[before], waves * antennas);
    for (std::size_t j = 0; j < antennas; ++j) {
      for (std::size_t wave = 0; wave < waves; ++wave) {
        // inner products of this wave with all others, one column of the symmetric matrix
        const float* with = gram(j) + (waves * i + wave) * padded(rows);
        for (std::size_t m = 0; m < before; ++m) mix(row, j, m, with + waves * m, wave * antennas + j);
      }
    }
    for (std::size_t part = 0; part < 3; ++part) {
      const std::size_t columns = part < 2 ? terms : motions, depth = part < 2 ? antennas : 2 * antennas;
      for (std::size_t c = 0; c < columns; ++c) {
        float* left = left_.data() + c * depth;
        for (std::size_t j = 0; j < antennas; ++j) {
          const float* motion = motion_.data() + (i * antennas + j) * 2 * motions;
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

  void mix(std::size_t row, std::size_t j, std::size_t m, const float* with, std::size_t level) {
    const std::size_t terms = problem_.own_terms[lit_[m]];
    const float* weight = basis(row, j, lit_[m]);
    const float* motion = motion_.data() + (m * problem_.antennas + j) * 2 * motions;
    std::size_t at = lit_first_[m];
    for (std::size_t t = 0; t < terms; ++t) mixed_.at(at++, level) = weight[t] * with[0];
    for (std::size_t t = 0; t < terms; ++t) mixed_.at(at++, level) = weight[t] * with[1];
    for (std::size_t c = 0; c < motions; ++c)
      mixed_.at(at++, level) = motion[c] * with[2] + motion[motions + c] * with[3];
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
      gradient_[own + c] += static_cast<double>(with_residual(i, part, c, depth));
    }
  }

  float with_residual(std::size_t i, std::size_t part, std::size_t c, std::size_t depth) {
    const std::size_t antennas = problem_.antennas, rows = gram_rows();
    const float* left = left_.data() + c * depth;
    float sum = 0.0f;
    for (std::size_t j = 0; j < antennas; ++j) {
      const float* with = gram(j) + rows * padded(rows) + waves * i;
      sum += part < 2 ? left[j] * with[part] : left[j] * with[2] + left[antennas + j] * with[3];
    }
    return sum;
  }

  const Problem& problem_;
  RayPhasors rays_;
  std::vector<float> re_, im_, offsets_;
  PackedMatrix<float> packed_, mixed_;
  std::vector<float> columns_;  // [waves of the lit sources + 1, 2 K]
  std::vector<float> gram_;     // [antennas, waves + 1, waves], the last column with the residual
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
