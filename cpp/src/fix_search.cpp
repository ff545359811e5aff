// SPDX-License-Identifier: Apache-2.0
#include "fix_search.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <array>
#include <cmath>

namespace wavefix {
namespace {

constexpr double sigmas = 5.0;                // half-width of the first box of candidates
constexpr double node_phase = 1.0;            // radians that antennas may lose between nodes
constexpr double interpolation_error = 5e-3;  // of the interpolated cost, relative to what the best minimum explains
constexpr double rough_error = 2e-3;          // of it, relative to the energy, as near edges of gates
constexpr double error_spread = 4.0;          // by which errors of the interpolated cost differ from each other
constexpr double crowd = 3e3;                 // candidates in a box, beyond which more minima are kept
constexpr double wide = 4e4;                  // candidates in a box, beyond which it ends where the region does
constexpr double third_axis = 10.0;           // times the candidates of a plane
constexpr int most_growths = 16;
constexpr double most_doubtful = 2.0;  // times the cost of the best minimum, up to which others are reconsidered
constexpr double same_place = 1e-3;    // wavelengths
constexpr double narrow = 1.0 / 16.0;  // wavelengths around a minimum
constexpr std::size_t most_reconsidered = 24;
constexpr int most_turns = 6;
constexpr std::size_t most_parted = 8;  // minima that edges may have parted
constexpr double parted_error = 1.25;   // times the worst error of the interpolated cost, that these may cost more
constexpr double least_radius = 1.5;    // wavelengths, of a box of candidates
constexpr double radius_at_edge = 4.0;  // likewise, where an edge has stopped the float solution

bool by_cost(const Minimum& a, const Minimum& b) { return a.cost != b.cost ? a.cost < b.cost : a.offset < b.offset; }

}  // namespace

FixSearch::FixSearch(const FloatFixPlan& plan, const LocalizerOptions& options)
    : refiner(plan.model, options.refine),
      plan_(plan),
      options_(options),
      envelopes_(plan.paths),
      gains_(plan.model, plan.paths) {}

void FixSearch::begin() {
  minima_.clear();
  refined_.clear();
  weighed_.clear();
  best_ = 0;
  worst_error_ = 0.0;
  doubt_ = {};
}

/// Along the principal axes of the float covariance.
SearchBox FixSearch::box_around(const Query& query, const FloatPoint& point) const {
  const Region& region = plan_.model.region();
  const auto dimension = static_cast<Eigen::Index>(region.dimension());
  const Eigen::SelfAdjointEigenSolver<SmallMatrix> solver(point.normal);
  const double variance = 0.5 * plan_.noise_variance(query, point) + 0.5 * plan_.model_variance(query);
  double diameter = 0.0;
  for (std::size_t d = 0; d < region.dimension(); ++d)
    diameter = std::hypot(diameter, region.upper[d] - region.lower[d]);
  SearchBox box;
  box.center = point.position;
  double least = (point.at_edge ? radius_at_edge : least_radius) * plan_.model.wavelength();
  if (options_.candidate_radius > 0.0) least = options_.candidate_radius;
  for (Eigen::Index k = 0; k < dimension; ++k) {
    const auto at = static_cast<std::size_t>(k);
    for (Eigen::Index d = 0; d < dimension; ++d) {
      for (std::size_t c = 0; c < 3; ++c) {
        box.axes[3 * at + c] += solver.eigenvectors()(d, k) * region.basis[3 * static_cast<std::size_t>(d) + c];
      }
    }
    const double width = sigmas * std::sqrt(variance / std::max(solver.eigenvalues()(k), 1e-300));
    // in this order a width that is no number counts as none
    box.half_width[at] = std::max(std::min(0.5 * diameter + least, std::max(least, width)), plan_.pitch);
    // The cost ripples along an axis as fast as the path that runs most along it.
    double fastest = 0.1;
    for (std::size_t l = 0; l < point.paths; ++l) {
      double along = 0.0;
      for (std::size_t c = 0; c < 3; ++c) along += point.directions[3 * l + c] * box.axes[3 * at + c];
      fastest = std::max(fastest, std::abs(along));
    }
    box.pitch[at] = plan_.pitch / std::min(fastest, 1.0);
  }
  cut(box);
  return box;
}

double FixSearch::candidates_in(const SearchBox& box) const {
  double points = 1.0;
  for (std::size_t d = 0; d < plan_.model.region().dimension(); ++d)
    points *= 2.0 * box.half_width[d] / box.pitch[d] + 1.0;
  return points;
}

bool FixSearch::fits(const SearchBox& box, double candidates) const {
  const double axis = plan_.model.region().dimension() == 3 ? third_axis : 1.0;
  return candidates_in(box) <= candidates * axis * options_.max_candidates;
}

/// Without what lies outside the region, where a fix may not be.
SearchBox FixSearch::clipped(const SearchBox& box) const {
  const Region& region = plan_.model.region();
  const double margin = options_.region_margin * plan_.model.wavelength();
  SearchBox inside = box;
  for (std::size_t k = 0; k < region.dimension(); ++k) {
    double low = 0.0, high = 0.0;  // of the region along the axis
    for (std::size_t c = 0; c < 3; ++c) low += (region.origin[c] - box.center[c]) * box.axes[3 * k + c];
    high = low;
    for (std::size_t d = 0; d < region.dimension(); ++d) {
      double along = 0.0;
      for (std::size_t c = 0; c < 3; ++c) along += region.basis[3 * d + c] * box.axes[3 * k + c];
      const double first = along * (region.lower[d] - margin), last = along * (region.upper[d] + margin);
      low += std::min(first, last), high += std::max(first, last);
    }
    low = std::max(low, -box.half_width[k]), high = std::min(high, box.half_width[k]);
    if (!(high - low > 2.0 * plan_.pitch)) continue;
    inside.half_width[k] = 0.5 * (high - low);
    for (std::size_t c = 0; c < 3; ++c) inside.center[c] += 0.5 * (low + high) * box.axes[3 * k + c];
  }
  return inside;
}

/// Cuts the longest side until the candidates are few enough, of a wide box those inside the region.
void FixSearch::cut(SearchBox& box) const {
  const bool ends = candidates_in(box) > wide;
  while (!fits(ends ? clipped(box) : box, 1.0)) {
    std::size_t longest = 0;
    for (std::size_t d = 0; d < plan_.model.region().dimension(); ++d) {
      if (box.half_width[d] > box.half_width[longest]) longest = d;
    }
    // written so that no number, which compares with nothing, ends it
    if (!(box.half_width[longest] > 2.0 * box.pitch[longest])) break;
    box.half_width[longest] *= 0.8;
  }
  if (ends) box = clipped(box);
}

/// Moves out the faces beyond which a better fix may lie: a fix has less freedom than a float solution and cannot cost
/// less. False if there are none, or the candidates became too many.
bool FixSearch::grow(const Query& query, double candidates, SearchBox& box) const {
  const double threshold = query.energy - best_cost(query);
  const double rim = 0.25 * plan_.model.wavelength();
  SearchBox grown = box;
  for (std::size_t d = 0; d < plan_.model.region().dimension(); ++d) {
    const double step = box.half_width[d];
    double at = 0.0;  // of the best fix, which may have slid out of the box
    for (std::size_t c = 0; c < 3; ++c) at += (best().position[c] - box.center[c]) * box.axes[3 * d + c];
    for (const bool upper : {false, true}) {
      const bool near = (upper ? at : -at) > step - rim && std::abs(at) < 2.0 * step;
      if (!near && !(envelopes_.explained_on_face(d, upper) > threshold)) continue;
      grown.half_width[d] += 0.5 * step;
      for (std::size_t c = 0; c < 3; ++c) grown.center[c] += (upper ? 0.5 : -0.5) * step * box.axes[3 * d + c];
    }
  }
  const bool wider = grown.half_width != box.half_width && fits(grown, candidates);
  if (wider) box = grown;
  return wider;
}

void FixSearch::explore(const Query& query, const FloatPoint& point, const Effort& effort) {
  SearchBox box = box_around(query, point);
  const double wanted = std::min(node_phase / std::max(1e-9, point.steepest), plan_.node_spacing);
  const double spacing = std::max(plan_.pitch, wanted) / effort.finer;
  const double ridge = query.ridge * std::max(1.0 - point.explained / query.energy, 1e-6);
  const std::size_t first = minima_.size();
  for (int growth = 0; growth <= most_growths; ++growth) {
    envelopes_.build(query, box, spacing, ridge);
    // where a float solution says little, the box is wide and has many minima
    const double crowds = candidates_in(box) / crowd, many = crowds > 1.0 ? std::min(crowds, 4.0) : 1.0;
    const double kept = many * effort.finer * effort.finer * options_.minima;
    const auto& local = envelopes_.minima(static_cast<std::size_t>(kept), 1.0 - point.explained / query.energy);
    minima_.resize(first);  // a wider box finds them again
    minima_.insert(minima_.end(), local.begin(), local.end());
    if (!refine_best(query, effort.finer, first)) {  // paths come and go between the nodes
      for (std::size_t i = first; i < minima_.size(); ++i) envelopes_.sharpen(query, minima_[i]);
      std::sort(minima_.begin() + static_cast<std::ptrdiff_t>(first), minima_.end(), by_cost);
      refine_best(query, effort.finer, first);
    }
    if (!grow(query, effort.candidates, box)) break;
  }
}

FixSearch::Refined* FixSearch::refined_near(const Point& position) {
  const double near = plan_.model.wavelength() / 16.0;
  for (Refined& other : refined_) {
    if (distance(other.result.position, position) < near || distance(other.start, position) < near) return &other;
  }
  return nullptr;
}

/// Refines minima, best first, as long as their interpolated costs may be in error by enough. False if too many may be.
bool FixSearch::refine_best(const Query& query, double finer, std::size_t first) {
  const double wavelength = plan_.model.wavelength();
  const auto reached_by = [&](const Refined& refined) { return query.to_scale(refined.result.cost) / query.energy; };
  double error = 0.0;
  // of the interpolated cost, if it is that of the minimum that was reached
  const auto count_error = [&](const Point& from, double interpolated, const Refined& refined) {
    if (distance(from, refined.result.position) >= 0.5 * wavelength) return;
    error = std::max(error, std::abs(reached_by(refined) - interpolated));
  };
  std::size_t count = 0;
  for (std::size_t index = first; index < minima_.size(); ++index) {
    const Minimum& minimum = minima_[index];
    if (Refined* const same = refined_near(minimum.position)) {
      if (minimum.cost < same->interpolated) same->interpolated = minimum.cost;  // it was refined from farther away
      count_error(minimum.position, minimum.cost, *same);
      // unless it promises more than what was reached, which may be on another side of an edge
      const bool promising = minimum.cost < reached_by(*same);
      if (!promising || distance(minimum.position, same->start) < wavelength / 128.0) continue;
    }
    if (count > 0) {
      const double reached = std::max(best_cost(query) / query.energy, minima_[first].cost);
      const double margin = std::max(finer * interpolation_error * std::max(1.0 - reached, 0.0), error_spread * error);
      if (minimum.cost > reached + margin) break;
      if (count >= static_cast<std::size_t>(finer * options_.finalists)) return false;
    }
    ++count;
    refined_.push_back({refiner.refine(query.channel, minimum.position.data()), minimum.position, minimum.cost});
    const Refined& refined = refined_.back();
    count_error(refined.start, refined.interpolated, refined);
    worst_error_ = std::max(worst_error_, error);
    if (refined.result.cost < refined_[best_].result.cost) best_ = refined_.size() - 1;
  }
  return true;
}

/// A minimum's cost with uncertain gains, unless it is too high or the minimum known.
void FixSearch::weigh(const Query& query, const Refined& minimum) {
  if (query.to_scale(minimum.result.cost) > doubt_.limit) return;
  const double same = same_place * plan_.model.wavelength();
  for (const Refined& other : weighed_) {
    if (distance(other.result.position, minimum.result.position) < same) return;
  }
  weighed_.push_back(minimum);
  Refined& added = weighed_.back();
  added.doubtful = doubt_.gains ? gains_.cost(query, added.result.position.data(), doubt_.variance)
                                : query.to_scale(added.result.cost);
  if (added.doubtful < weighed_[best_].doubtful) best_ = weighed_.size() - 1;
}

bool FixSearch::rough() const { return worst_error_ > rough_error; }

void FixSearch::reconsider(const Query& query, bool gains) {
  const double wavelength = plan_.model.wavelength();
  doubt_ = {most_doubtful * best_cost(query), best_cost(query) / static_cast<double>(query.scaled.size()), gains};
  best_ = 0;
  const auto refine_from = [&](const Point& start, double interpolated) -> Refined {
    return {refiner.refine(query.channel, start.data()), start, interpolated};
  };
  std::sort(refined_.begin(), refined_.end(),
            [](const Refined& a, const Refined& b) { return a.result.cost < b.result.cost; });
  for (std::size_t i = 0; i < std::min(refined_.size(), most_reconsidered); ++i) weigh(query, refined_[i]);
  if (gains) {
    std::sort(minima_.begin(), minima_.end(), by_cost);
    std::size_t count = 0;
    for (const Minimum& minimum : minima_) {
      if (minimum.cost * query.energy > doubt_.limit || ++count > most_reconsidered) break;
      if (refined_near(minimum.position) == nullptr) weigh(query, refine_from(minimum.position, minimum.cost));
    }
  }
  // Edges of gates hide the next minimum along a valley, and part one minimum into several.
  const std::array<double, 2> radii{wavelength, narrow * wavelength};
  for (int turn = 0; turn < most_turns; ++turn) {
    const Refined center = weighed_[best_];
    for (std::size_t i = 0; i < (gains ? 2 : 1); ++i) {
      points_around(plan_.model.region(), center.result.position, radii[i], around_);
      for (const Point& start : around_) weigh(query, refine_from(start, center.interpolated));
    }
    if (weighed_[best_].doubtful >= center.doubtful) break;
  }
  look_beside(query);
  refined_ = weighed_;  // and no exchange of memory, which would be allocated again and again
}

/// Around minima that cost little more than the best one, refined where an edge parts them from a better one.
void FixSearch::look_beside(const Query& query) {
  std::sort(weighed_.begin(), weighed_.end(),
            [](const Refined& a, const Refined& b) { return a.doubtful < b.doubtful; });
  best_ = 0;
  const double limit = weighed_.front().doubtful + parted_error * worst_error_ * query.energy;
  const std::size_t known = std::min(weighed_.size(), most_parted);
  for (std::size_t i = 0; i < known && weighed_[i].doubtful <= limit; ++i) {
    const Refined center = weighed_[i];
    points_around(plan_.model.region(), center.result.position, narrow * plan_.model.wavelength(), around_);
    for (const Point& start : around_) {
      weigh(query, {refiner.refine(query.channel, start.data()), start, center.interpolated});
    }
  }
}

std::optional<Refinement> FixSearch::runner_up(const Query& query) {
  const auto apart = [&](const Point& other) {
    return distance(other, best().position) > 0.25 * plan_.model.wavelength();
  };
  std::optional<Refinement> found;
  for (const Refined& other : refined_) {
    if (!apart(other.result.position)) continue;
    const double above = query.to_caller(other.doubtful - refined_[best_].doubtful);
    const double cost = doubt_.gains ? best().cost + above : other.result.cost;
    if (found && found->cost <= cost) continue;
    found = other.result;
    found->cost = cost;
  }
  for (const Minimum& minimum : minima_) {
    if (!apart(minimum.position) || refined_near(minimum.position) != nullptr) continue;
    if (doubt_.gains && minimum.cost * query.energy <= doubt_.limit) continue;  // among those above
    const double above = std::max(minimum.cost - refined_[best_].interpolated, 0.0);
    const double cost = best().cost + query.to_caller(above * query.energy);
    if (found && found->cost <= cost) continue;
    found.emplace();
    found->position = minimum.position;
    found->cost = cost;
  }
  return found;
}

}  // namespace wavefix
