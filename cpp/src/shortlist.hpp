// SPDX-License-Identifier: Apache-2.0
// The entries that may be among the k nearest to one query, by bounds of their costs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "kernels.hpp"
#include "wavefix/dictionary.hpp"

namespace wavefix {

/// An entry that may be among the k nearest, with a lower bound of its cost.
struct Candidate {
  double lower_bound;
  std::size_t index;
};

struct Shortlist {
  std::vector<double> best_upper_bounds;  // max-heap of the k smallest upper bounds
  std::vector<Candidate> candidates;
  std::size_t allowed = 0;  // candidates, until exact costs give a lower limit
  bool given_up = false;    // bounds that exclude too little: the next, finer pass decides
  double known = std::numeric_limits<double>::infinity();  // k entries, perhaps not of this list, cost no more

  /// What a wanted entry's lower bound may not exceed.
  double limit(std::size_t k) const {
    return best_upper_bounds.size() < k ? known : std::min(known, best_upper_bounds.front());
  }

  void bound(std::size_t k, double upper) {
    if (best_upper_bounds.size() < k) {
      best_upper_bounds.push_back(upper);
      std::push_heap(best_upper_bounds.begin(), best_upper_bounds.end());
    } else if (upper < best_upper_bounds.front()) {
      std::pop_heap(best_upper_bounds.begin(), best_upper_bounds.end());
      best_upper_bounds.back() = upper;
      std::push_heap(best_upper_bounds.begin(), best_upper_bounds.end());
    }
  }

  void consider(std::size_t k, double cost, double error, std::size_t index) {
    bound(k, cost + error);
    if (cost - error <= limit(k)) candidates.push_back({cost - error, index});
  }

  void prune(std::size_t k) {
    const double highest = limit(k);
    const auto hopeless = [highest](const Candidate& candidate) { return candidate.lower_bound > highest; };
    candidates.erase(std::remove_if(candidates.begin(), candidates.end(), hopeless), candidates.end());
  }

  /// With a new limit.
  void give_up_beyond(std::size_t k, std::size_t most) {
    prune(k);
    given_up = candidates.size() > most / 2;
    if (given_up) candidates.clear();
    allowed = std::min(2 * candidates.size(), most);
  }

  /// Adds what another thread found among other entries.
  void merge(std::size_t k, const Shortlist& other) {
    for (const double upper : other.best_upper_bounds) bound(k, upper);
    candidates.insert(candidates.end(), other.candidates.begin(), other.candidates.end());
    given_up = given_up || other.given_up;
    known = std::min(known, other.known);
    prune(k);
  }
};

/// |z|, without the care for its range that costs hypot ten times as long: products of floats are far from overflow.
inline double magnitude(cdouble z) { return std::sqrt(z.real() * z.real() + z.imag() * z.imag()); }

/// <a, b> in float64
inline cdouble inner_product(const cfloat* a, const cfloat* b, std::size_t size) {
  double re_im[2];
  kernels().inner_product(reinterpret_cast<const float*>(a), reinterpret_cast<const float*>(b), 2 * size, re_im);
  return {re_im[0], re_im[1]};
}
/// ||a||^2, as it is in the product of equal channels: their distance is zero then.
inline double energy_of(const cfloat* a, std::size_t size) { return inner_product(a, a, size).real(); }

/// Order-preserving stand-ins for the distances: (4) squared, and the negative correlation of (5).
inline double cost_of(Similarity similarity, cdouble inner, double entry_energy, double entry_norm, double query_norm) {
  if (similarity == Similarity::phase_sensitive) return entry_energy + query_norm * query_norm - 2.0 * inner.real();
  const double norms = entry_norm * query_norm;
  return norms > 0.0 ? -magnitude(inner) / norms : 0.0;
}

/// The cost of a distance, with what rounding in float64 may have added to it.
inline double cost_at(Similarity similarity, double distance, double query_norm) {
  constexpr double rounding = 1e-12;
  const double cost = similarity == Similarity::phase_sensitive ? distance * distance : 0.5 * distance * distance - 1.0;
  return cost + rounding * (1.0 + (similarity == Similarity::phase_sensitive ? cost + query_norm * query_norm : 0.0));
}

/// `energies`, the product of theirs, is looked at for (5) only.
inline double exact_distance(Similarity similarity, const cfloat* query, const cfloat* entry, std::size_t size,
                             double energies) {
  if (similarity == Similarity::phase_sensitive) {
    const double square = kernels().squared_distance(reinterpret_cast<const float*>(query),
                                                     reinterpret_cast<const float*>(entry), 2 * size);
    return std::isnan(square) ? std::numeric_limits<double>::infinity() : std::sqrt(square);  // the entry overflows
  }
  const double norms = std::sqrt(energies);
  const double correlation = norms > 0.0 ? magnitude(inner_product(entry, query, size)) / norms : 0.0;
  return std::sqrt(std::max(0.0, 2.0 - 2.0 * correlation));
}

}  // namespace wavefix
