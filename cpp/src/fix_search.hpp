// SPDX-License-Identifier: Apache-2.0
// The fix: carrier-phase minima around float solutions, docs/equations.md (15) and (16).
#pragma once

#include <vector>

#include "envelopes.hpp"
#include "float_fix_plan.hpp"
#include "strategy.hpp"
#include "uncertain_gains.hpp"

namespace wavefix {

class FixSearch {
 public:
  FixSearch(const FloatFixPlan& plan, const LocalizerOptions& options);

  /// Forgets the last query.
  void begin();
  /// How hard to look.
  struct Effort {
    double finer = 1.0;       // nodes along an axis, and finalists, relative to the usual number
    double candidates = 1.0;  // likewise, at most
  };
  /// Searches the minima around a float solution, as far away as the float cost leaves room for a better fix.
  void explore(const Query& query, const FloatPoint& point, const Effort& effort);
  /// Were costs far from what interpolation between nodes had them at, as near edges of gates?
  bool rough() const;
  /// Looks closer at minima that edges or, with `gains`, errors of the model's gains may have put in the wrong order.
  void reconsider(const Query& query, bool gains);
  bool found() const { return !refined_.empty(); }
  /// ||H - f||^2 of the best fix, in the scale of the query.
  double best_cost(const Query& query) const { return query.to_scale(best().cost); }
  const Refinement& best() const { return refined_[best_].result; }
  /// The best minimum more than a quarter wavelength from the best one.
  std::optional<Refinement> runner_up(const Query& query);

  Refiner refiner;

 private:
  struct Refined {
    Refinement result;
    Point start;
    double interpolated;    // cost at the start
    double doubtful = 0.0;  // cost with uncertain gains, if they were reconsidered
  };

  SearchBox box_around(const Query& query, const FloatPoint& point) const;
  double candidates_in(const SearchBox& box) const;
  bool fits(const SearchBox& box, double candidates) const;
  SearchBox clipped(const SearchBox& box) const;
  void cut(SearchBox& box) const;
  bool grow(const Query& query, double candidates, SearchBox& box) const;
  Refined* refined_near(const Point& position);
  void weigh(const Query& query, const Refined& minimum);
  void look_beside(const Query& query);
  bool refine_best(const Query& query, double finer, std::size_t first);

  const FloatFixPlan& plan_;
  const LocalizerOptions& options_;
  Envelopes envelopes_;
  UncertainGains gains_;
  std::vector<Minimum> minima_;
  std::vector<Refined> refined_, weighed_;
  std::vector<Point> around_;
  struct Doubt {
    double limit, variance;  // of a cost; of the noise
    bool gains;              // whether the minima were weighed with uncertain ones
  } doubt_{};
  std::size_t best_ = 0;
  double worst_error_ = 0.0;  // of interpolated costs, relative to the energy
};

}  // namespace wavefix
