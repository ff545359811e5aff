// SPDX-License-Identifier: Apache-2.0
// Float and fix: a position without carrier phase first, then the carrier-phase minimum among all that are near it.
// docs/equations.md (13) to (16).
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>
#include <vector>

#include "channel_math.hpp"
#include "coarse_map.hpp"
#include "envelopes.hpp"
#include "float_fix_plan.hpp"
#include "strategy.hpp"

namespace wavefix {
namespace {

constexpr double sigmas = 5.0;                // half-width of the box of candidates
constexpr double prior_gain = 3.0;            // standard deviation of a free gain, relative to the model's
constexpr double interpolation_error = 5e-3;  // of the interpolated cost, relative to what the best minimum explains
constexpr int widenings = 2;
constexpr double widening = 2.5;
constexpr double node_phase = 1.0;  // radians that antennas may lose between nodes

/// What one thread needs.
struct Worker {
  Worker(const FloatFixPlan& plan, const ChannelModel& model, const RefineOptions& options)
      : refiner(model, options), cost(plan.paths), envelopes(plan.paths), coarse(plan.map->make_scratch()) {
    query.scaled.resize(model.n_antennas() * model.n_subcarriers());
    query.profile.resize(2 * plan.paths.antennas() * plan.paths.profile.nodes());
  }
  Refiner refiner;
  FloatCost cost;
  Envelopes envelopes;
  CoarseMap::Scratch coarse;
  Query query;
  std::vector<FloatPoint> floats;
  std::vector<Minimum> minima;
  std::vector<std::pair<Refinement, double>> refined;  // with the interpolated cost
};

class FloatFix final : public Strategy {
 public:
  FloatFix(const ChannelModel& model, const LocalizerOptions& options)
      : model_(model), options_(options), plan_(make_float_fix_plan(model, options)) {}

  std::size_t bytes(std::size_t) const override { return model_.bytes() + plan_->map->bytes(); }

  void locate(View<const cfloat, 3> channels, const Execution& execution, const Report& report) const override {
    const std::size_t n = channels.shape[0];
    std::vector<std::unique_ptr<Worker>> workers;
    for (int worker = 0; worker < thread_count(n, execution.threads); ++worker) workers.push_back(take_worker());
    parallel_for(n, execution, [&](std::size_t row, int index) {
      Worker& worker = *workers[static_cast<std::size_t>(index)];
      const cfloat* channel = channels.row(row);
      const double energy = detail::energy(channel, channels.stride());
      if (!detail::all_finite(channel, channels.stride()) || !(energy > 0.0)) {
        report(row, worker.refiner, nullptr);
        return;
      }
      const Minima minima = solve(worker, channel, energy);
      report(row, worker.refiner, &minima);
    });
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& worker : workers) idle_.push_back(std::move(worker));
  }

 private:
  std::unique_ptr<Worker> take_worker() const {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        auto worker = std::move(idle_.back());
        idle_.pop_back();
        return worker;
      }
    }
    return std::make_unique<Worker>(*plan_, model_, options_.refine);
  }

  double channel_size() const { return static_cast<double>(model_.n_antennas() * model_.n_subcarriers()); }

  /// Noise variance of an entry that a float solution leaves.
  double noise_variance(const Query& query, const FloatPoint& point) const {
    const double unknowns = static_cast<double>(std::min(plan_->paths.capacity, model_.n_atoms()));
    return std::max(query.energy - point.explained, 0.0) / std::max(channel_size() - unknowns, 1.0);
  }

  Minima solve(Worker& worker, const cfloat* channel, double energy) const {
    Query& query = worker.query;
    query.channel = channel;
    query.scale = std::exp2(-std::rint(0.5 * std::log2(energy / channel_size())));
    query.energy = query.to_scale(energy);
    for (std::size_t i = 0; i < query.scaled.size(); ++i) {
      query.scaled[i] = cfloat(cdouble(channel[i]) * query.scale);  // exact, but for parts that do not count
    }
    // As for noise that is as strong as the model's channels, whose scaled entries have a mean square of 1.
    query.ridge = 1.0 / (prior_gain * prior_gain);
    plan_->paths.profile.transform(query.scaled.data(), query.profile.data());
    find_floats(worker);
    Minima minima;
    double factor = 1.0, finer = 1.0;
    for (int round = 0; round <= widenings; ++round, factor *= widening, finer *= 2.0) {
      if (!find_fix(worker, factor, finer, minima) ||
          explains(query, worker.floats.front(), query.to_scale(minima.best.cost)))
        break;
    }
    minima.float_position = worker.floats.front().position;
    return minima;
  }

  /// Float solutions that explain about as much as the best one, best first.
  void find_floats(Worker& worker) const {
    const Query& query = worker.query;
    const CoarseMap& map = *plan_->map;
    const auto starts = static_cast<std::size_t>(options_.coarse_starts);
    map.search(plan_->paths, query, starts, worker.coarse);
    auto& floats = worker.floats;
    floats.clear();
    const double wavelength = model_.wavelength();
    for (const auto& candidate : worker.coarse.fine) {
      if (candidate.explained < 0.7 * worker.coarse.fine.front().explained) break;
      FloatPoint point;
      map.grid().position(candidate.point, point.position.data());
      worker.cost.descend(query, 12, 0.5 * map.grid().spacing + wavelength, 0.3 * wavelength,
                          0.5 * map.grid().spacing + options_.region_margin * wavelength, point);
      const auto same = [&](const FloatPoint& other) { return distance(other.position, point.position) < wavelength; };
      if (std::none_of(floats.begin(), floats.end(), same)) floats.push_back(point);
    }
    const auto better = [](const FloatPoint& a, const FloatPoint& b) { return a.explained > b.explained; };
    std::stable_sort(floats.begin(), floats.end(), better);
    const double least = floats.front().explained * 0.95 - 30.0 * noise_variance(query, floats.front());
    while (floats.back().explained < least) floats.pop_back();
  }

  /// The box of candidates: along the principal axes of the float covariance.
  SearchBox box_around(const Query& query, const FloatPoint& point, double factor) const {
    const Region& region = model_.region();
    const auto dimension = static_cast<Eigen::Index>(region.dimension());
    const Eigen::SelfAdjointEigenSolver<SmallMatrix> solver(point.normal);
    const double variance = 0.5 * noise_variance(query, point) + 0.125 * model_.validation_nmse() * query.energy;
    double diameter = 0.0;
    for (Eigen::Index d = 0; d < dimension; ++d) {
      const auto at = static_cast<std::size_t>(d);
      diameter = std::hypot(diameter, region.upper[at] - region.lower[at]);
    }
    SearchBox box;
    box.center = point.position;
    const double least = options_.candidate_radius > 0.0 ? options_.candidate_radius : 1.5 * model_.wavelength();
    for (Eigen::Index k = 0; k < dimension; ++k) {
      const auto at = static_cast<std::size_t>(k);
      for (Eigen::Index d = 0; d < dimension; ++d) {
        for (std::size_t c = 0; c < 3; ++c) {
          box.axes[3 * at + c] += solver.eigenvectors()(d, k) * region.basis[3 * static_cast<std::size_t>(d) + c];
        }
      }
      const double width = sigmas * std::sqrt(variance / std::max(solver.eigenvalues()(k), 1e-300));
      // in this order a width that is no number counts as none
      box.half_width[at] = std::max(std::min(0.5 * diameter + least, factor * std::max(least, width)), plan_->pitch);
      // The cost ripples along an axis as fast as the path that runs most along it.
      double fastest = 0.1;
      for (std::size_t l = 0; l < point.paths; ++l) {
        double along = 0.0;
        for (std::size_t c = 0; c < 3; ++c) along += point.directions[3 * l + c] * box.axes[3 * at + c];
        fastest = std::max(fastest, std::abs(along));
      }
      box.pitch[at] = plan_->pitch / std::min(fastest, 1.0);
    }
    cut(box);
    return box;
  }

  /// Cuts the longest side until the candidates are few enough.
  void cut(SearchBox& box) const {
    for (;;) {
      double points = 1.0;
      std::size_t longest = 0;
      for (std::size_t d = 0; d < model_.region().dimension(); ++d) {
        points *= 2.0 * box.half_width[d] / box.pitch[d] + 1.0;
        if (box.half_width[d] > box.half_width[longest]) longest = d;
      }
      // written so that no number, which compares with nothing, ends it
      if (!(points > options_.max_candidates && box.half_width[longest] > 2.0 * box.pitch[longest])) break;
      box.half_width[longest] *= 0.8;
    }
  }

  double node_spacing(const FloatPoint& point) const {
    return std::max(plan_->pitch, node_phase / std::max(1e-9, point.steepest));
  }

  /// Searches the boxes of all float solutions, `factor` times as wide; false where they cannot be any wider.
  bool find_fix(Worker& worker, double factor, double finer, Minima& found) const {
    const Query& query = worker.query;
    auto& minima = worker.minima;
    minima.clear();
    bool cut = true;
    for (FloatPoint& point : worker.floats) {
      const SearchBox box = box_around(query, point, factor);
      const SearchBox wider = box_around(query, point, factor * widening);
      cut = cut && wider.half_width == box.half_width;
      const double spacing = node_spacing(point) / finer;
      worker.envelopes.build(query, box, spacing);
      const auto& local = worker.envelopes.minima(static_cast<std::size_t>(finer * finer * options_.minima));
      minima.insert(minima.end(), local.begin(), local.end());
    }
    std::sort(minima.begin(), minima.end(), [](const Minimum& a, const Minimum& b) {
      return a.cost != b.cost ? a.cost < b.cost : a.position < b.position;
    });
    refine_best(worker, finer, found);
    return !cut;
  }

  void refine_best(Worker& worker, double finer, Minima& found) const {
    const Query& query = worker.query;
    const double wavelength = model_.wavelength();
    auto& refined = worker.refined;
    refined.clear();
    const double window =
        worker.minima.front().cost + finer * interpolation_error * std::max(1.0 - worker.minima.front().cost, 0.0);
    for (const Minimum& minimum : worker.minima) {
      if (refined.size() == static_cast<std::size_t>(finer * options_.finalists) || minimum.cost > window) break;
      const auto same = [&](const auto& other) {
        return distance(other.first.position, minimum.position) < wavelength / 16.0;
      };
      if (std::any_of(refined.begin(), refined.end(), same)) continue;
      refined.emplace_back(worker.refiner.refine(query.channel, minimum.position.data()), minimum.cost);
    }
    std::stable_sort(refined.begin(), refined.end(),
                     [](const auto& a, const auto& b) { return a.first.cost < b.first.cost; });
    found.best = refined.front().first;
    found.runner_up.reset();
    const auto apart = [&](const Point& other) { return distance(other, found.best.position) > 0.25 * wavelength; };
    for (const auto& [refinement, cost] : refined) {
      if (!found.runner_up && apart(refinement.position)) found.runner_up = refinement;
    }
    for (const Minimum& minimum : worker.minima) {
      if (!apart(minimum.position)) continue;
      const double cost =
          found.best.cost + query.to_caller(std::max(minimum.cost - refined.front().second, 0.0) * query.energy);
      if (!found.runner_up || cost < found.runner_up->cost) {
        if (minimum.cost <= window) break;  // refined, or as good as one that was
        found.runner_up.emplace();
        found.runner_up->position = minimum.position;
        found.runner_up->cost = cost;
      }
      break;
    }
  }

  /// Is a fix about as good as the float solution, which is free to choose the gains? Otherwise it is a wrong minimum,
  /// and the right one lies outside the box.
  bool explains(const Query& query, const FloatPoint& point, double cost) const {
    const double unknowns = static_cast<double>(std::min(plan_->paths.capacity, model_.n_atoms()));
    const double by_noise = noise_variance(query, point) * (unknowns + 6.0 * std::sqrt(unknowns));
    const double by_model = (options_.poor_fit_factor * model_.validation_nmse() + 1e-3) * query.energy;
    return cost - (query.energy - point.explained) <= by_noise + by_model;
  }

  ChannelModel model_;
  LocalizerOptions options_;
  std::unique_ptr<FloatFixPlan> plan_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Worker>> idle_;
};

void validate(const LocalizerOptions& options) {
  require_option(options.coarse_spacing >= 0.0 && std::isfinite(options.coarse_spacing), "coarse_spacing",
                 "0 or more meters");
  require_option(options.coarse_starts >= 1 && options.coarse_starts <= 64, "coarse_starts", "1 to 64");
  require_option(options.candidate_spacing >= 0.0 && std::isfinite(options.candidate_spacing), "candidate_spacing",
                 "0 or more meters");
  require_option(options.candidate_radius >= 0.0 && std::isfinite(options.candidate_radius), "candidate_radius",
                 "0 or more meters");
  require_option(options.max_candidates >= 100 && options.max_candidates <= 10000000, "max_candidates",
                 "100 to 10000000");
  require_option(options.minima >= 1 && options.minima <= 10000, "minima", "1 to 10000");
  require_option(options.finalists >= 1 && options.finalists <= 1000, "finalists", "1 to 1000");
}

}  // namespace

std::unique_ptr<Strategy> make_float_fix(const ChannelModel& model, const LocalizerOptions& options) {
  validate(options);
  return std::make_unique<FloatFix>(model, options);
}

}  // namespace wavefix
