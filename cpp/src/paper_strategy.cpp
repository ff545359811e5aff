// SPDX-License-Identifier: Apache-2.0
// The strategies of arXiv 2506.06387.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "angles.hpp"
#include "channel_math.hpp"
#include "strategy.hpp"
#include "wavefix/dictionary.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

/// Which of the paper's five steps a strategy takes.
struct Steps {
  Similarity global = Similarity::phase_sensitive;  // (a)
  bool local = false;                               // (b)
  bool descent = false;                             // (c) and (e)
  bool circles = false;                             // (d)
};

Steps parse_strategy(const std::string& strategy) {
  const std::string suffix = "_circles";
  std::string base = strategy;
  Steps steps;
  if (base.size() > suffix.size() && base.compare(base.size() - suffix.size(), suffix.size(), suffix) == 0) {
    steps.circles = true;
    base.resize(base.size() - suffix.size());
  }
  const bool on_grid = base == "on_grid_naive" || base == "on_grid_pi_ps";
  const bool off_grid = base == "off_grid_naive" || base == "off_grid_pi_ps";
  if (!on_grid && !off_grid) {
    throw ShapeError(
        "strategy: expected float_fix, on_grid_naive, on_grid_pi_ps, off_grid_naive or off_grid_pi_ps, with or without "
        "the suffix "
        "_circles, got " +
        strategy);
  }
  steps.descent = off_grid;
  steps.local = base == "on_grid_pi_ps" || base == "off_grid_pi_ps";
  if (steps.local) steps.global = Similarity::phase_insensitive;
  return steps;
}

/// The points of [-radius, radius]^d on the grid `spacing`, in the region's axes.
std::vector<double> local_offsets(std::size_t dimension, double radius, double spacing) {
  const int half = static_cast<int>(std::floor(radius / spacing + 1e-9));
  const auto side = static_cast<std::size_t>(2 * half + 1);
  std::size_t total = 1;
  for (std::size_t axis = 0; axis < dimension; ++axis) total *= side;
  std::vector<double> offsets;
  for (std::size_t index = 0; index < total; ++index) {
    std::size_t rest = index;
    for (std::size_t axis = 0; axis < dimension; ++axis, rest /= side) {
      offsets.push_back(spacing * (static_cast<double>(rest % side) - half));
    }
  }
  return offsets;
}

/// (d): circles of radius 1, 2, ... `wavelength` about the origin; pairs of points on a line, spheres in a volume.
std::vector<double> circle_offsets(std::size_t dimension, int circles, double wavelength, double spacing) {
  std::vector<double> offsets;
  const double density = circles * wavelength / spacing;
  if (dimension == 3 && circles * density * density > 1e6) {
    throw ShapeError("circle_spacing: expected fewer points on " + std::to_string(circles) + " spheres");
  }
  for (int circle = 1; circle <= circles; ++circle) {
    const double radius = circle * wavelength;
    if (dimension == 1) {
      offsets.insert(offsets.end(), {-radius, radius});
    } else if (dimension == 2) {
      const int points = static_cast<int>(std::ceil(2.0 * pi * radius / spacing));
      for (int point = 0; point < points; ++point) {
        const double angle = 2.0 * pi * point / points;
        offsets.insert(offsets.end(), {radius * std::cos(angle), radius * std::sin(angle)});
      }
    } else if (dimension == 3) {
      const int points = static_cast<int>(std::ceil(4.0 * pi * radius * radius / (spacing * spacing)));
      for (int point = 0; point < points; ++point) {  // a spiral with equal areas
        const double height = 1.0 - (2.0 * point + 1.0) / points, rim = std::sqrt(1.0 - height * height);
        const double angle = point * pi * (3.0 - std::sqrt(5.0));
        offsets.insert(offsets.end(),
                       {radius * rim * std::cos(angle), radius * rim * std::sin(angle), radius * height});
      }
    }
  }
  return offsets;
}

class PaperStrategy final : public Strategy {
 public:
  PaperStrategy(const ChannelModel& model_, const LocalizerOptions& options_, const Steps& steps_)
      : model(model_),
        options(options_),
        steps(steps_),
        dictionary(Dictionary::from_model(model, Grid::over(model.region(), options.grid_spacing * model.wavelength()),
                                          options.memory_limit)),
        local(local_offsets(model.region().dimension(), options.local_radius * model.wavelength(),
                            options.local_spacing * model.wavelength())),
        circles(circle_offsets(model.region().dimension(), options.circles, model.wavelength(),
                               options.circle_spacing * model.wavelength())) {}

  std::size_t bytes(std::size_t n_queries) const override {
    return dictionary.bytes() + dictionary.search_bytes(n_queries) + sizeof(double) * (local.size() + circles.size());
  }

  void locate(View<const cfloat, 3> channels, const Execution& execution, const Report& report) const override {
    const std::size_t n = channels.shape[0], k = entries();  // (a) global grid
    std::vector<std::int64_t> indices(n * k);
    std::vector<double> distances(n * k);
    dictionary.search(channels, steps.global, View<std::int64_t, 2>(indices.data(), {n, k}),
                      View<double, 2>(distances.data(), {n, k}), execution);
    std::vector<Refiner> refiners;
    for (int worker = 0; worker < thread_count(n, execution.threads); ++worker) {
      refiners.emplace_back(model, options.refine);
    }
    parallel_for(n, execution, [&](std::size_t row, int worker) {
      Refiner& refiner = refiners[static_cast<std::size_t>(worker)];
      if (indices[row * k] < 0 || !(detail::energy(channels.row(row), channels.stride()) > 0.0)) {
        report(row, refiner, nullptr);
        return;
      }
      const Minima minima = search(refiner, channels.row(row), indices.data() + row * k);
      report(row, refiner, &minima);
    });
  }

 private:
  std::size_t starts() const { return static_cast<std::size_t>(options.starts); }
  /// Entries to ask the dictionary for: neighbors on the grid lead to the same minimum.
  std::size_t entries() const { return std::min(starts() == 1 ? 1 : 8 * starts(), dictionary.size()); }
  bool apart(const Point& a, const Point& b) const { return distance(a, b) > 0.25 * model.wavelength(); }

  /// Up to `count` of the points, best first, each apart from the better ones.
  std::vector<Point> spread_out(const std::vector<Point>& ranked, std::size_t count) const {
    std::vector<Point> chosen;
    for (const Point& point : ranked) {
      if (chosen.size() == count) break;
      const auto near = [&](const Point& other) { return !apart(point, other); };
      if (std::none_of(chosen.begin(), chosen.end(), near)) chosen.push_back(point);
    }
    return chosen;
  }

  std::vector<Point> start_points(const std::int64_t* indices) const {
    std::vector<Point> ranked(entries());
    for (std::size_t rank = 0; rank < ranked.size(); ++rank) {
      dictionary.position(static_cast<std::size_t>(indices[rank]), ranked[rank].data());
    }
    return spread_out(ranked, starts());
  }

  /// Up to `count` of `center` + offsets, best first by (4).
  std::vector<Point> best_of(Refiner& refiner, const cfloat* channel, const Point& center,
                             const std::vector<double>& offsets, std::size_t count) const {
    const Region& region = model.region();
    const std::size_t dimension = region.dimension();
    std::vector<std::pair<double, Point>> scored;
    for (std::size_t first = 0; first < offsets.size(); first += dimension) {
      Point point = center;
      for (std::size_t axis = 0; axis < dimension; ++axis) {
        for (std::size_t c = 0; c < 3; ++c) point[c] += offsets[first + axis] * region.basis[3 * axis + c];
      }
      scored.emplace_back(refiner.cost(channel, point.data()), point);
    }
    std::sort(scored.begin(), scored.end());
    std::vector<Point> ranked;
    for (const auto& [cost, point] : scored) ranked.push_back(point);
    return spread_out(ranked, count);
  }

  Refinement settle(Refiner& refiner, const cfloat* channel, const Point& point) const {
    return steps.descent ? refiner.refine(channel, point.data()) : refiner.evaluate(channel, point.data());
  }

  /// The paper's steps (b) to (e) for one query. With one start, exactly these; with more, each step hands on its best
  /// few points instead of one, because the next minimum is seldom exactly a wavelength away.
  Minima search(Refiner& refiner, const cfloat* channel, const std::int64_t* indices) const {
    std::vector<Refinement> minima;
    for (Point point : start_points(indices)) {
      if (steps.local) point = best_of(refiner, channel, point, local, 1).front();  // (b) local grid
      minima.push_back(settle(refiner, channel, point));                            // (c) first descent
    }
    const auto cheaper = [](const Refinement& a, const Refinement& b) { return a.cost < b.cost; };
    if (steps.circles && !circles.empty()) {
      const Point center = std::min_element(minima.begin(), minima.end(), cheaper)->position;
      for (const Point& point : best_of(refiner, channel, center, circles, starts())) {  // (d) circles
        minima.push_back(settle(refiner, channel, point));                               // (e) second descent
      }
    }
    std::stable_sort(minima.begin(), minima.end(), cheaper);
    const Refinement& best = minima.front();
    const auto distinct = [&](const Refinement& other) { return apart(other.position, best.position); };
    const auto runner_up = std::find_if(minima.begin(), minima.end(), distinct);
    Minima found;
    found.best = best;
    if (runner_up != minima.end()) found.runner_up = *runner_up;
    found.grid_variance = grid_variance();
    return found;
  }

  /// Half the distance to the next point of the last grid, as the variance of a uniform distribution.
  double grid_variance() const {
    if (steps.descent) return 0.0;
    const double spacing = (steps.local ? options.local_spacing : options.grid_spacing) * model.wavelength();
    return spacing * spacing / 12.0;
  }

  ChannelModel model;
  LocalizerOptions options;
  Steps steps;
  Dictionary dictionary;
  std::vector<double> local, circles;  // offsets in the region's axes
};

}  // namespace

std::unique_ptr<Strategy> make_paper_strategy(const ChannelModel& model, const LocalizerOptions& options) {
  return std::make_unique<PaperStrategy>(model, options, parse_strategy(options.strategy));
}

}  // namespace wavefix
