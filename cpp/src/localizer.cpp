// SPDX-License-Identifier: Apache-2.0
#include "wavefix/localizer.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "channel_math.hpp"
#include "strategy.hpp"
#include "untrapped.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

// The best of many grid points explains noise alone by about 2 ln(points) of its entries; well above that.
constexpr double chance_level = 40.0;
// What float32 leaves of a perfect fit.
constexpr double rounding = 1e-12;
// White noise alone adds up to so many standard deviations of the structured residual.
constexpr double structured_spread = 4.0;
// Noise lets the costs of two minima differ by chance by a few noise variances of one entry; well above that.
constexpr double noise_tolerance = 10.0;

void validate(const LocalizerOptions& options) {
  require_option(options.grid_spacing > 0.0, "grid_spacing", "a positive number of wavelengths");
  require_option(options.starts >= 1 && options.starts <= 1024, "starts", "1 to 1024");
  require_option(options.local_spacing > 0.0, "local_spacing", "a positive number of wavelengths");
  require_option(options.local_radius >= 0.0 && options.local_radius <= 64.0 * options.local_spacing, "local_radius",
                 "0 to 64 times local_spacing");
  require_option(options.circles >= 0 && options.circles <= 64, "circles", "0 to 64");
  require_option(options.circle_spacing >= 0.01 && std::isfinite(options.circle_spacing), "circle_spacing",
                 "at least 0.01 wavelengths");
  require_option(options.poor_fit_factor > 0.0, "poor_fit_factor", "a positive number");
  require_option(options.ambiguity_threshold > 0.0, "ambiguity_threshold", "a positive number");
  require_option(options.region_margin >= 0.0, "region_margin", "0 or more wavelengths");
}

}  // namespace

void require_option(bool holds, const char* option, const char* expected) {
  if (!holds) throw ShapeError(std::string(option) + ": expected " + expected);
}

struct Localizer::Plan {
  ChannelModel model;
  LocalizerOptions options;
  std::unique_ptr<Strategy> strategy;

  bool inside(const Point& point) const {
    return within(model.region(), point, options.region_margin * model.wavelength());
  }

  /// (11): is the residual more than white noise and what the model misses anyway?
  bool fits_poorly(const Refinement& best, double structured, double energy) const {
    if (!(energy - best.cost >= chance_level * energy / channel_size())) return true;
    return !(structured <= options.poor_fit_factor * usual_error() * energy + structured_by_noise(best));
  }

  /// As a share of the energy.
  double usual_error() const { return std::max(model.validation_nmse(), rounding); }

  double structured_by_noise(const Refinement& best) const {
    return structured_spread * best.cost / std::sqrt(channel_size());
  }

  /// (7) at the noise that the residual suggests, and (21) at the model's usual error, or what the residual says of it.
  std::array<double, 9> uncertainty(Refiner& refiner, const Refinement& best, double structured, double energy) const {
    const double by_noise = structured_by_noise(best);
    const double shown = std::clamp(usual_error() * energy, structured - by_noise, structured + by_noise);
    const double freedom = channel_size() - 0.5 * static_cast<double>(model.region().dimension());
    return covariance(best.information, model.region(), std::max(best.cost, rounding * energy) / std::max(freedom, 0.5),
                      refiner.error_information(best.position.data(), std::max(shown, rounding * energy)));
  }

  /// (12)
  double ambiguity(const Refinement& best, const Refinement& runner_up, double energy) const {
    const double tolerance = usual_error() * energy + noise_tolerance * best.cost / channel_size();
    return tolerance > 0.0 ? tolerance / (tolerance + runner_up.cost - best.cost) : 0.0;
  }

  double channel_size() const { return static_cast<double>(model.n_antennas() * model.n_subcarriers()); }

  void write(const Fixes& fixes, std::size_t row, Refiner& refiner, const cfloat* channel, const Minima& minima,
             double energy) const {
    const Refinement& best = minima.best;
    const auto& runner_up = minima.runner_up;
    std::copy_n(best.position.data(), 3, fixes.position.row(row));
    if (fixes.float_position.data != nullptr) {
      std::copy_n(minima.float_position.data(), 3, fixes.float_position.row(row));
    }
    const double structured = refiner.structured_cost(channel, best.position.data());
    auto spread = uncertainty(refiner, best, structured, energy);
    const Region& region = model.region();
    for (std::size_t axis = 0; axis < region.dimension(); ++axis) {
      const double* b = region.basis.data() + 3 * axis;
      for (std::size_t i = 0; i < 9; ++i) spread[i] += minima.grid_variance * b[i / 3] * b[i % 3];
    }
    std::copy_n(spread.data(), 9, fixes.covariance.row(row));
    fixes.residual.data[row] = best.cost / energy;
    fixes.ambiguity.data[row] = runner_up ? ambiguity(best, *runner_up, energy) : not_a_number;
    Status status = Status::ok;
    // no number: the channel does not determine the position, any along a line fits as well
    if (fixes.ambiguity.data[row] > options.ambiguity_threshold || !std::isfinite(spread[0]))
      status = Status::ambiguous;
    if (fits_poorly(best, structured, energy)) status = Status::poor_fit;
    if (!inside(best.position)) status = Status::outside_region;
    fixes.status.data[row] = static_cast<std::uint8_t>(status);
  }
};

Localizer::Localizer(const ChannelModel& model, const LocalizerOptions& options, const Execution& planning) {
  const Untrapped untrapped;
  validate(options);
  const Refiner check_options(model, options.refine);
  parallel_for(1, {1, planning.interrupt}, [&](std::size_t, int) {  // the one item of a loop can be interrupted
    auto strategy =
        options.strategy == "float_fix" ? make_float_fix(model, options) : make_paper_strategy(model, options);
    plan_ = std::make_shared<const Plan>(Plan{model, options, std::move(strategy)});
  });
}

const LocalizerOptions& Localizer::options() const { return plan_->options; }

std::size_t Localizer::bytes(std::size_t n_queries) const { return plan_->strategy->bytes(n_queries); }

void Localizer::locate(View<const cfloat, 3> channels, const Fixes& fixes, const Execution& execution) const {
  const Untrapped untrapped;
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
  if (fixes.float_position.data != nullptr)
    require_shape("fixes.float_position", fixes.float_position, std::array<std::size_t, 2>{n, 3});
  const auto report = [&](std::size_t row, Refiner& refiner, const Minima* minima) {
    if (minima == nullptr) {
      std::fill_n(fixes.position.row(row), 3, not_a_number);
      std::fill_n(fixes.covariance.row(row), 9, not_a_number);
      if (fixes.float_position.data != nullptr) std::fill_n(fixes.float_position.row(row), 3, not_a_number);
      fixes.residual.data[row] = fixes.ambiguity.data[row] = not_a_number;
      fixes.status.data[row] = static_cast<std::uint8_t>(Status::invalid_input);
      return;
    }
    plan.write(fixes, row, refiner, channels.row(row), *minima, detail::energy(channels.row(row), channels.stride()));
  };
  plan.strategy->locate(channels, execution, std::cref(report));  // by reference: a copy would be allocated
}

}  // namespace wavefix
