// SPDX-License-Identifier: Apache-2.0
// Float and fix: a position without carrier phase first, then the carrier-phase minimum among all that are near it.
// docs/equations.md (13) to (16).
#include <algorithm>
#include <cmath>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "channel_math.hpp"
#include "coarse_map.hpp"
#include "fix_search.hpp"
#include "float_fix_plan.hpp"
#include "strategy.hpp"

namespace wavefix {
namespace {

constexpr double prior_gain = 3.0;  // standard deviation of a free gain, relative to the model's
constexpr int descent_steps = 25;
constexpr FixSearch::Effort hard{2.0, 10.0};
constexpr double rival = 0.9;        // of what the best start explains
constexpr double usual_error = 2.0;  // times the validation error, which edges have most of

/// What one thread needs.
struct Worker {
  Worker(const FloatFixPlan& plan, const LocalizerOptions& options)
      : cost(plan.paths), fix(plan, options), coarse(plan.map->make_scratch()) {
    query.scaled.resize(plan.model.n_antennas() * plan.model.n_subcarriers());
    query.profile.resize(2 * plan.paths.antennas() * plan.paths.profile.nodes());
  }
  FloatCost cost;
  FixSearch fix;
  CoarseMap::Scratch coarse;
  Query query;
  std::vector<FloatPoint> floats;
};

class FloatFix final : public Strategy {
 public:
  FloatFix(const ChannelModel& model, const LocalizerOptions& options)
      : model_(model), options_(options), plan_(make_float_fix_plan(model, options)) {}

  std::size_t bytes(std::size_t) const override { return model_.bytes() + plan_->map->bytes(); }

  void locate(View<const cfloat, 3> channels, const Execution& execution, const Report& report) const override {
    const std::size_t n = channels.shape[0];
    Workers workers = take_workers(static_cast<std::size_t>(thread_count(n, execution.threads)));
    const auto locate_row = [&](std::size_t row, int index) {
      Worker& worker = *workers[static_cast<std::size_t>(index)];
      const cfloat* channel = channels.row(row);
      const double energy = detail::energy(channel, channels.stride());
      if (!detail::all_finite(channel, channels.stride()) || !(energy > 0.0)) {
        report(row, worker.fix.refiner, nullptr);
        return;
      }
      const Minima minima = solve(worker, channel, energy);
      report(row, worker.fix.refiner, &minima);
    };
    parallel_for(n, execution, std::cref(locate_row));  // by reference: a copy would be allocated
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(workers));
  }

 private:
  using Workers = std::vector<std::unique_ptr<Worker>>;  // of one call, kept for the next one

  Workers take_workers(std::size_t count) const {
    Workers workers;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        workers = std::move(idle_.back());
        idle_.pop_back();
      }
    }
    while (workers.size() < count) workers.push_back(std::make_unique<Worker>(*plan_, options_));
    return workers;
  }

  double channel_size() const { return static_cast<double>(model_.n_antennas() * model_.n_subcarriers()); }

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
    worker.fix.begin();
    worker.floats.clear();
    search(worker);
    const bool doubtful = !explained(worker, usual_error * model_.validation_nmse());
    if (doubtful || worker.fix.rough()) worker.fix.reconsider(query, doubtful);
    Minima minima;
    minima.best = worker.fix.best();
    minima.runner_up = worker.fix.runner_up(query);
    minima.float_position = best_float(worker).position;
    return minima;
  }

  /// Goes on as long as the fix is suspect: the best start, the others, more starts and finer nodes. Where the edge of
  /// a gate stopped the descent, starts that come close are followed in any case: a wrong fix may cost little more than
  /// the float solution next to it.
  void search(Worker& worker) const {
    const auto starts = static_cast<std::size_t>(options_.coarse_starts);
    plan_->map->search(plan_->paths, worker.query, starts, worker.coarse);
    std::size_t next = follow(worker, 0, 1, 0.0);
    if (worker.floats.front().at_edge) next = follow(worker, next, starts, rival);
    if (settled(worker)) return;
    follow(worker, next, starts, 0.7);
    if (settled(worker)) return;
    plan_->map->search(plan_->paths, worker.query, 4 * starts, worker.coarse);
    follow(worker, 0, 4 * starts, 0.4);
    for (std::size_t i = 0; i < worker.floats.size() && !settled(worker); ++i) {
      if (possible(worker, worker.floats[i])) worker.fix.explore(worker.query, worker.floats[i], hard);
    }
  }

  static FloatPoint& best_float(Worker& worker) {
    return *std::max_element(worker.floats.begin(), worker.floats.end(),
                             [](const FloatPoint& a, const FloatPoint& b) { return a.explained < b.explained; });
  }

  /// A fix near a float solution costs at least what free gains leave.
  static bool possible(const Worker& worker, const FloatPoint& point) {
    return !worker.fix.found() || worker.query.energy - point.explained <= worker.fix.best_cost(worker.query);
  }

  /// Float solutions from the coarse starts [first, last) that explain at least `share` of what the best start does,
  /// and the fixes around them. Returns the first start that explains less.
  std::size_t follow(Worker& worker, std::size_t first, std::size_t last, double share) const {
    const CoarseMap& map = *plan_->map;
    const Query& query = worker.query;
    const double wavelength = model_.wavelength();
    const FloatCost::Limits limits{descent_steps, 0.5 * map.grid().spacing + wavelength, 0.02 * wavelength,
                                   0.5 * map.grid().spacing + options_.region_margin * wavelength,
                                   plan_->model_variance(query)};
    const auto& starts = worker.coarse.fine;
    std::size_t i = first;
    for (; i < std::min(last, starts.size()); ++i) {
      if (starts[i].explained < share * starts.front().explained) break;
      FloatPoint point;
      map.grid().position(starts[i].point, point.position.data());
      worker.cost.descend(query, limits, point);
      const auto same = [&](const FloatPoint& other) { return distance(other.position, point.position) < wavelength; };
      if (std::any_of(worker.floats.begin(), worker.floats.end(), same)) continue;
      worker.floats.push_back(point);
      if (!possible(worker, point)) continue;
      worker.fix.explore(query, point, {});
      // A fix that costs less than the float solution shows the way to a better one.
      for (int again = 0; again < 16 && worker.fix.best_cost(query) < query.energy - point.explained; ++again) {
        FloatPoint better;
        better.position = worker.fix.best().position;
        worker.cost.descend(query, limits, better);
        if (!(better.explained > point.explained)) break;
        point = better;
        worker.floats.push_back(point);
        worker.fix.explore(query, point, {});
      }
    }
    return i;
  }

  /// Is the fix about as good as the best float solution, which is free to choose the gains? Otherwise it is in a wrong
  /// minimum. (16)
  bool settled(Worker& worker) const {
    return explained(worker, options_.poor_fit_factor * model_.validation_nmse() + 1e-3);
  }

  /// Does the fix cost no more than noise and an error of the model, as a share of the energy, add to the best float
  /// solution? One that says no is looked at without tables, whose errors would say it too.
  bool explained(Worker& worker, double model_error) const {
    const Query& query = worker.query;
    const double by_model = model_error * query.energy;
    while (true) {
      FloatPoint& best = best_float(worker);
      const auto unknowns = static_cast<double>(best.present);
      const double by_noise = plan_->noise_variance(query, best) * (unknowns + 6.0 * std::sqrt(unknowns));
      if (worker.fix.best_cost(query) - (query.energy - best.explained) <= by_noise + by_model) return true;
      if (best.confirmed) return false;
      worker.cost.confirm(query, best);
    }
  }

  ChannelModel model_;
  LocalizerOptions options_;
  std::unique_ptr<FloatFixPlan> plan_;
  mutable std::mutex mutex_;
  mutable std::vector<Workers> idle_;
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
