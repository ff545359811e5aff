// SPDX-License-Identifier: Apache-2.0
#include "source_terms.hpp"

#include <cmath>
#include <string>

#include "wavefix/error.hpp"

namespace wavefix {
namespace {

constexpr double closed = 40.0;  // a logit whose sigmoid is 0 or 1 in double

double sigmoid(double v) {
  if (v > closed) return 1.0;
  return v < -closed ? 0.0 : 1.0 / (1.0 + std::exp(-v));
}

/// First item of each owner, for items in the order of their owners.
std::vector<std::size_t> first_of(View<const std::int32_t, 1> owner, std::size_t owners, const char* name) {
  std::vector<std::size_t> begin(owners + 1, 0);
  for (std::size_t item = 0; item < owner.size(); ++item) {
    const std::int32_t value = owner.data[item];
    const bool ascends = item == 0 || owner.data[item - 1] <= value;
    if (value < 0 || static_cast<std::size_t>(value) >= owners || !ascends) {
      throw_shape(name, "ascending indices below " + std::to_string(owners), std::to_string(value));
    }
    ++begin[static_cast<std::size_t>(value) + 1];
  }
  for (std::size_t o = 0; o < owners; ++o) begin[o + 1] += begin[o];
  return begin;
}

}  // namespace

SourceTerms::SourceTerms(const Measurement& measurement, const SourceGeometry& sources, const SourceGains& gains,
                         View<const float, 3> gates)
    : measurement_(measurement),
      sources_(sources),
      gains_(gains),
      gates_(gates),
      cells_(first_of(gains.gate_cell_source, sources.positions.shape[0], "gate_cell_source")),
      lines_(first_of(gains.gate_line_cell, gains.gate_cell_source.shape[0], "gate_line_cell")) {
  while ((degree_ + 1) * (degree_ + 2) / 2 < gains.coefficients.shape[1]) ++degree_;
  if ((degree_ + 1) * (degree_ + 2) / 2 != gains.coefficients.shape[1]) {
    throw_shape("coefficients", "(q + 1)(q + 2) / 2 of a degree q", std::to_string(gains.coefficients.shape[1]));
  }
}

Ray SourceTerms::ray_at(std::size_t row, std::size_t j, std::size_t l) const {
  return ray_of(measurement_.positions.row(row), sources_.positions.row(l), sources_.rotations.row(l),
                measurement_.offsets.row(j));
}

cdouble SourceTerms::fill(std::size_t row, std::size_t j, std::size_t l, double* terms) const {
  const Ray ray = ray_at(row, j, l);
  const double open = gates_.size() > 0
                          ? static_cast<double>(gates_.data[(row * gates_.shape[1] + j) * gates_.shape[2] + l])
                          : gate(measurement_.positions.row(row), ray.from.data(), l);
  const double weight = open / std::max(ray.distance, 1e-6);
  const double *m = gains_.variables.row(l), *u = ray.direction.data();
  const double v1 = m[0] * u[0] + m[1] * u[1] + m[2] * u[2] + m[3];
  const double v2 = m[4] * u[0] + m[5] * u[1] + m[6] * u[2] + m[7];
  const cdouble* coefficients = gains_.coefficients.row(l);
  terms[0] = weight;
  cdouble sum = coefficients[0] * weight;
  std::size_t term = 1;
  for (std::size_t total = 1; total <= degree_; ++total) {
    const double* before = terms + term - total;
    for (std::size_t b = 0; b <= total; ++b, ++term) {
      terms[term] = b < total ? before[b] * v1 : before[total - 1] * v2;
      sum += coefficients[term] * terms[term];
    }
  }
  return sum;
}

double SourceTerms::gate(std::size_t row, std::size_t j, std::size_t l) const {
  return gate(measurement_.positions.row(row), ray_at(row, j, l).from.data(), l);
}

double SourceTerms::gate(const double* x, const double* s, std::size_t l) const {
  if (cells_[l] == cells_[l + 1]) return 1.0;
  double open = 0.0;
  for (std::size_t cell = cells_[l]; cell < cells_[l + 1]; ++cell) {
    double product = 1.0;
    for (std::size_t line = lines_[cell]; line < lines_[cell + 1] && product > 0.0; ++line) {
      const double *m = gains_.gate_lines.row(line), *d = m + 3;
      double logit = 0.0;
      for (std::size_t a = 0; a < 3; ++a) {
        const std::size_t b = (a + 1) % 3, c = (a + 2) % 3;
        logit += x[a] * m[a] - s[a] * (m[a] + d[b] * x[c] - d[c] * x[b]);
      }
      product *= sigmoid(logit);
    }
    open += product;
  }
  return open;
}

void source_terms(const Measurement& measurement, const SourceGeometry& sources, const SourceGains& gains,
                  View<float, 4> basis, View<cfloat, 3> amplitudes, const Execution& execution) {
  source_terms(measurement, sources, gains, {}, basis, amplitudes, execution);
}

void source_terms(const Measurement& measurement, const SourceGeometry& sources, const SourceGains& gains,
                  View<const float, 3> gates, View<float, 4> basis, View<cfloat, 3> amplitudes,
                  const Execution& execution) {
  const std::size_t n = measurement.positions.shape[0], antennas = measurement.offsets.shape[0];
  const std::size_t count = sources.positions.shape[0], terms = gains.coefficients.shape[1];
  const SourceTerms source_terms(measurement, sources, gains, gates);
  parallel_for(n, execution, [&](std::size_t row, int) {
    std::vector<double> values(terms);
    for (std::size_t j = 0; j < antennas; ++j) {
      for (std::size_t l = 0; l < count; ++l) {
        const std::size_t at = (row * antennas + j) * count + l;
        const cdouble sum = source_terms.fill(row, j, l, values.data());
        if (amplitudes.data != nullptr) amplitudes.data[at] = cfloat(sum);
        if (basis.data == nullptr) continue;
        for (std::size_t m = 0; m < terms; ++m) basis.data[at * terms + m] = static_cast<float>(values[m]);
      }
    }
  });
}

}  // namespace wavefix
