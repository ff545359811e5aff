// SPDX-License-Identifier: Apache-2.0
// What approximate products of one query with a block of entries say about its distances.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "dictionary_entries.hpp"
#include "search_kernels.hpp"
#include "shortlist.hpp"

namespace wavefix {

/// What the products of one query tell: an inner product is `scale` times its product, to per_norm ||entry|| + per_tail
/// tail + constant. Where entries are normalized, product and tail are those of an entry divided by its norm.
struct ErrorBound {
  double scale, per_norm, per_tail, constant;
  bool normalized;
};

/// One query, and what its products with a block of entries say about the costs.
class Screener {
 public:
  Screener(Similarity similarity, std::size_t k, double norm) : similarity_(similarity), k_(k), norm_(norm) {}

  /// For norms that are divided by `reference`: ||entry|| and 1 / ||entry|| of normalized ones, ||entry||^2 and
  /// ||entry|| otherwise. Whatever float has no number for excludes nothing.
  ScreenBounds bounds(const ErrorBound& error, double reference, double limit) const {
    const double inverse = 1.0 / error.scale;
    double a = 0.0, b = 0.0, c = -error.per_tail * inverse, d = -error.constant * inverse;
    if (similarity_ == Similarity::phase_sensitive) {  // ||e||^2 + ||q||^2 - 2 (Re<e, q> + error) > limit
      const double beyond = 0.5 * (norm_ * norm_ - limit) * inverse;
      a = 0.5 * inverse * reference * (error.normalized ? 1.0 : reference);
      b = error.normalized ? beyond / reference : -error.per_norm * reference * inverse;
      d += error.normalized ? -error.per_norm * inverse : beyond;
    } else {  // |<e, q>| + error < -limit ||e|| ||q||
      const double needed = (-limit * norm_ - error.per_norm) * inverse;
      (error.normalized ? d : b) += error.normalized ? needed : needed * reference;
    }
    const double highest = std::max({std::abs(a), std::abs(b), std::abs(c), std::abs(d)});
    if (!(highest < 1e30)) d = std::numeric_limits<double>::quiet_NaN();
    const auto below = [](double value) { return static_cast<float>(value - 1e-6 * std::abs(value)); };  // float sums
    return {below(a), below(b), below(c), below(d)};
  }

  /// Bounds for the scores of blocks of normalized entries, without a limit.
  ScreenBounds score_bounds(const ErrorBound& error, double reference) const {
    return bounds(error, reference, similarity_ == Similarity::phase_sensitive ? norm_ * norm_ : 0.0);
  }

  /// A block that scores less holds no entry within the limit.
  float least_score(const ErrorBound& error, double reference, double limit) const {
    const double least = similarity_ == Similarity::phase_sensitive
                             ? 0.5 * (norm_ * norm_ - limit) / (error.scale * reference)
                             : -limit * norm_ / error.scale;
    if (!(std::abs(least) < 1e30)) return -std::numeric_limits<float>::infinity();
    return static_cast<float>(least - 2e-6 * std::abs(least));  // scores are rounded
  }

  /// Lists the rows `wanted` of a block whose first entry is `first`.
  void list(unsigned wanted, const float* products, const ErrorBound& error, const EntryBlock& block,
            const float* tails, std::size_t first, Shortlist& shortlist) const {
    for (std::size_t row = 0; wanted != 0; ++row, wanted >>= 1) {
      if ((wanted & 1u) == 0) continue;
      const double norm = block.norms[row], norms = norm * norm_, factor = error.normalized ? norm : 1.0;
      const double imag = similarity_ == Similarity::phase_sensitive ? 0.0 : products[block_rows + row];
      const cdouble inner = factor * error.scale * cdouble(products[row], imag);
      const double tail = error.normalized ? norm * tails[row] : 0.0;
      double off = error.per_norm * norm + error.per_tail * tail + error.constant;
      off = similarity_ == Similarity::phase_sensitive ? 2.0 * off : norms > 0.0 ? off / norms : 0.0;
      const double cost = cost_of(similarity_, inner, block.energies[row], norm, norm_);
      if (std::isfinite(cost)) {
        shortlist.consider(k_, cost, off, first + row);
      } else {  // float32 overflowed: float64 decides
        shortlist.consider(k_, 0.0, std::numeric_limits<double>::infinity(), first + row);
      }
    }
  }

 private:
  Similarity similarity_;
  std::size_t k_;
  double norm_;
};

}  // namespace wavefix
