// SPDX-License-Identifier: Apache-2.0
// What the channels of virtual sources are linear in: gate times monomial over distance, docs/equations.md (3), (18).
#pragma once

#include <vector>

#include "source_rays.hpp"
#include "wavefix/source_fit.hpp"

namespace wavefix {

class SourceTerms {
 public:
  /// `gates` [n, A, L]: used in place of those of `gains`, where given.
  SourceTerms(const Measurement& measurement, const SourceGeometry& sources, const SourceGains& gains,
              View<const float, 3> gates = {});

  /// `terms` [M] and their sum with the coefficients, for one source, user and antenna.
  cdouble fill(std::size_t row, std::size_t j, std::size_t l, double* terms) const;

  double gate(std::size_t row, std::size_t j, std::size_t l) const;

 private:
  Ray ray_at(std::size_t row, std::size_t j, std::size_t l) const;
  double gate(const double* x, const double* s, std::size_t l) const;

  Measurement measurement_;
  SourceGeometry sources_;
  SourceGains gains_;
  View<const float, 3> gates_;
  std::vector<std::size_t> cells_, lines_;
  std::size_t degree_ = 0;
};

/// As the public function, with `gates` [n, A, L] in place of those of `gains`.
void source_terms(const Measurement& measurement, const SourceGeometry& sources, const SourceGains& gains,
                  View<const float, 3> gates, View<float, 4> basis, View<cfloat, 3> amplitudes,
                  const Execution& execution);

}  // namespace wavefix
