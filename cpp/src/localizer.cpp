// SPDX-License-Identifier: Apache-2.0
#include "wavefix/localizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "channel_math.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double pi = 3.14159265358979323846;

using Point = std::array<double, 3>;
using Minima = std::pair<Refinement, std::optional<Refinement>>;  // the best, and the runner-up if there is one

// The best of many grid points explains noise alone by about 2 ln(points) of its entries; well above that.
constexpr double chance_level = 40.0;
// Noise lets the costs of two minima differ by chance by a few noise variances of one entry; well above that.
constexpr double noise_tolerance = 10.0;

double distance(const Point& a, const Point& b) { return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]); }

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
        "strategy: expected on_grid_naive, on_grid_pi_ps, off_grid_naive or off_grid_pi_ps, with or without the suffix "
        "_circles, got " +
        strategy);
  }
  steps.descent = off_grid;
  steps.local = base == "on_grid_pi_ps" || base == "off_grid_pi_ps";
  if (steps.local) steps.global = Similarity::phase_insensitive;
  return steps;
}

void require(bool holds, const char* option, const char* expected) {
  if (!holds) throw ShapeError(std::string(option) + ": expected " + expected);
}

void validate(const LocalizerOptions& options) {
  require(options.grid_spacing > 0.0, "grid_spacing", "a positive number of wavelengths");
  require(options.starts >= 1 && options.starts <= 1024, "starts", "1 to 1024");
  require(options.local_spacing > 0.0, "local_spacing", "a positive number of wavelengths");
  require(options.local_radius >= 0.0 && options.local_radius <= 64.0 * options.local_spacing, "local_radius",
          "0 to 64 times local_spacing");
  require(options.circles >= 0 && options.circles <= 64, "circles", "0 to 64");
  require(options.circle_spacing >= 0.01 && std::isfinite(options.circle_spacing), "circle_spacing",
          "at least 0.01 wavelengths");
  require(options.poor_fit_factor > 0.0, "poor_fit_factor", "a positive number");
  require(options.ambiguity_threshold > 0.0, "ambiguity_threshold", "a positive number");
  require(options.region_margin >= 0.0, "region_margin", "0 or more wavelengths");
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

}  // namespace

struct Localizer::Plan {
  ChannelModel model;
  LocalizerOptions options;
  Steps steps;
  Dictionary dictionary;
  std::vector<double> local, circles;  // offsets in the region's axes

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
  Minima locate(Refiner& refiner, const cfloat* channel, const std::int64_t* indices) const {
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
    return {best, runner_up == minima.end() ? std::nullopt : std::optional<Refinement>(*runner_up)};
  }

  bool inside(const Point& point) const {
    const Region& region = model.region();
    const double margin = options.region_margin * model.wavelength();
    for (std::size_t axis = 0; axis < region.dimension(); ++axis) {
      double y = 0.0;
      for (std::size_t c = 0; c < 3; ++c) y += (point[c] - region.origin[c]) * region.basis[3 * axis + c];
      if (!(y >= region.lower[axis] - margin && y <= region.upper[axis] + margin)) return false;
    }
    return true;
  }

  /// Half the distance to the next point of the last grid, as the variance of a uniform distribution.
  double grid_variance() const {
    if (steps.descent) return 0.0;
    const double spacing = (steps.local ? options.local_spacing : options.grid_spacing) * model.wavelength();
    return spacing * spacing / 12.0;
  }

  /// (11): is the residual more than white noise and what the model misses anyway?
  bool fits_poorly(Refiner& refiner, const cfloat* channel, const Refinement& best, double energy) const {
    const double size = channel_size();
    if (energy - best.cost < chance_level * energy / size) return true;
    const double structured = refiner.structured_cost(channel, best.position.data());
    const double by_noise = 4.0 * best.cost / std::sqrt(size);
    return structured > options.poor_fit_factor * model.validation_nmse() * energy + by_noise;
  }

  /// (12)
  double ambiguity(const Refinement& best, const Refinement& runner_up, double energy) const {
    const double tolerance = model.validation_nmse() * energy + noise_tolerance * best.cost / channel_size();
    return tolerance > 0.0 ? tolerance / (tolerance + runner_up.cost - best.cost) : 0.0;
  }

  double channel_size() const { return static_cast<double>(model.n_antennas() * model.n_subcarriers()); }

  void write(const Fixes& fixes, std::size_t row, Refiner& refiner, const cfloat* channel, const Minima& minima,
             double energy) const {
    const auto& [best, runner_up] = minima;
    std::copy_n(best.position.data(), 3, fixes.position.row(row));
    auto spread = covariance(best.information, model.region(), best.cost / channel_size());
    const Region& region = model.region();
    for (std::size_t axis = 0; axis < region.dimension(); ++axis) {
      const double* b = region.basis.data() + 3 * axis;
      for (std::size_t i = 0; i < 9; ++i) spread[i] += grid_variance() * b[i / 3] * b[i % 3];
    }
    std::copy_n(spread.data(), 9, fixes.covariance.row(row));
    fixes.residual.data[row] = best.cost / energy;
    fixes.ambiguity.data[row] = runner_up ? ambiguity(best, *runner_up, energy) : nan;
    Status status = Status::ok;
    if (fixes.ambiguity.data[row] > options.ambiguity_threshold) status = Status::ambiguous;
    if (fits_poorly(refiner, channel, best, energy)) status = Status::poor_fit;
    if (!inside(best.position)) status = Status::outside_region;
    fixes.status.data[row] = static_cast<std::uint8_t>(status);
  }
};

Localizer::Localizer(const ChannelModel& model, const LocalizerOptions& options) {
  validate(options);
  const Steps steps = parse_strategy(options.strategy);
  const Refiner check_options(model, options.refine);
  const double wavelength = model.wavelength();
  const std::size_t dimension = model.region().dimension();
  plan_ = std::make_shared<const Plan>(
      Plan{model, options, steps,
           Dictionary::from_model(model, Grid::over(model.region(), options.grid_spacing * wavelength),
                                  options.memory_limit),
           local_offsets(dimension, options.local_radius * wavelength, options.local_spacing * wavelength),
           circle_offsets(dimension, options.circles, wavelength, options.circle_spacing * wavelength)});
}

const LocalizerOptions& Localizer::options() const { return plan_->options; }

std::size_t Localizer::bytes(std::size_t n_queries) const {
  return plan_->dictionary.bytes() + plan_->dictionary.search_bytes(n_queries) +
         sizeof(double) * (plan_->local.size() + plan_->circles.size());
}

void Localizer::locate(View<const cfloat, 3> channels, const Fixes& fixes, const Execution& execution) const {
  const Plan& plan = *plan_;
  const std::size_t n = channels.shape[0];
  const auto require_shape = [](const char* name, const auto& view, const auto& expected) {
    if (view.shape != expected) throw_shape(name, "shape " + shape_text(expected), shape_text(view.shape));
  };
  require_shape("channels", channels,
                std::array<std::size_t, 3>{n, plan.model.n_antennas(), plan.model.n_subcarriers()});
  require_shape("fixes.position", fixes.position, std::array<std::size_t, 2>{n, 3});
  require_shape("fixes.covariance", fixes.covariance, std::array<std::size_t, 3>{n, 3, 3});
  require_shape("fixes.status", fixes.status, std::array<std::size_t, 1>{n});
  require_shape("fixes.residual", fixes.residual, std::array<std::size_t, 1>{n});
  require_shape("fixes.ambiguity", fixes.ambiguity, std::array<std::size_t, 1>{n});

  const std::size_t k = plan.entries();  // (a) global grid
  std::vector<std::int64_t> indices(n * k);
  std::vector<double> distances(n * k);
  plan.dictionary.search(channels, plan.steps.global, View<std::int64_t, 2>(indices.data(), {n, k}),
                         View<double, 2>(distances.data(), {n, k}), execution);

  std::vector<Refiner> refiners;
  for (int worker = 0; worker < thread_count(n, execution.threads); ++worker) {
    refiners.emplace_back(plan.model, plan.options.refine);
  }
  parallel_for(n, execution, [&](std::size_t row, int worker) {
    const double energy = detail::energy(channels.row(row), channels.stride());
    if (indices[row * k] < 0 || !(energy > 0.0)) {
      std::fill_n(fixes.position.row(row), 3, nan);
      std::fill_n(fixes.covariance.row(row), 9, nan);
      fixes.residual.data[row] = fixes.ambiguity.data[row] = nan;
      fixes.status.data[row] = static_cast<std::uint8_t>(Status::invalid_input);
      return;
    }
    Refiner& refiner = refiners[static_cast<std::size_t>(worker)];
    const Minima minima = plan.locate(refiner, channels.row(row), indices.data() + row * k);
    plan.write(fixes, row, refiner, channels.row(row), minima, energy);
  });
}

}  // namespace wavefix
