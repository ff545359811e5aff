// SPDX-License-Identifier: Apache-2.0
#include "float_fix_plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "angles.hpp"
#include "float_cost.hpp"
#include "wavefix/error.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr double tolerated_interpolation = 0.02;  // of a gain
constexpr std::size_t most_points = 4096;         // of the coarse grid
constexpr std::size_t fewest_points = 16;
constexpr std::size_t most_bytes = std::size_t{1} << 31;  // of the coarse map
constexpr double group_turns = 0.03;  // by which delays in a group of antennas may differ at the full band
constexpr std::size_t most_blocks = 8;
constexpr std::size_t longest_stride = 6;

/// A few positions all over the region.
std::vector<double> survey_positions(const Region& region) {
  double widest = 0.0;
  for (std::size_t d = 0; d < region.dimension(); ++d) widest = std::max(widest, region.upper[d] - region.lower[d]);
  const Grid grid = Grid::over(region, std::max(widest / 5.0, 1e-3));
  std::vector<double> positions(3 * grid.size());
  for (std::size_t index = 0; index < grid.size(); ++index) grid.position(index, positions.data() + 3 * index);
  return positions;
}

struct Survey {
  double earliest = std::numeric_limits<double>::infinity(), latest = -earliest;
  double energy = 0.0;               // mean of the sum over atoms and antennas of |amplitude|^2
  std::vector<double> delay_spread;  // by log2 of the group: largest difference from the group's mean, s
};

Survey survey(const ChannelModel& model, const std::vector<double>& positions) {
  const auto& implementation = model.implementation();
  const std::size_t antennas = model.n_antennas();
  const auto workspace = model.make_workspace();
  Atoms atoms(model.n_atoms(), antennas);
  Survey result;
  for (std::size_t group = 1; group < 2 * antennas; group *= 2) result.delay_spread.push_back(0.0);
  for (std::size_t first = 0; first < positions.size(); first += 3) {
    checkpoint();
    implementation.atoms(positions.data() + first, atoms, *workspace);
    std::vector<double> energy(atoms.count);
    for (std::size_t i = 0; i < atoms.count; ++i) {
      for (std::size_t j = i * antennas; j < (i + 1) * antennas; ++j) {
        energy[i] +=
            static_cast<double>(atoms.real[j]) * atoms.real[j] + static_cast<double>(atoms.imag[j]) * atoms.imag[j];
      }
      result.energy += energy[i] / static_cast<double>(positions.size() / 3);
    }
    const double strongest = atoms.count > 0 ? *std::max_element(energy.begin(), energy.end()) : 0.0;
    for (std::size_t i = 0; i < atoms.count; ++i) {
      if (!(energy[i] > weakest_path * strongest)) continue;
      const double* delay = atoms.delay.data() + i * antennas;
      result.earliest = std::min(result.earliest, *std::min_element(delay, delay + antennas));
      result.latest = std::max(result.latest, *std::max_element(delay, delay + antennas));
      for (std::size_t power = 0; power < result.delay_spread.size(); ++power) {
        const std::size_t group = std::size_t{1} << power;
        for (std::size_t begin = 0; begin < antennas; begin += group) {
          const std::size_t end = std::min(begin + group, antennas);
          const auto [low, high] = std::minmax_element(delay + begin, delay + end);
          result.delay_spread[power] = std::max(result.delay_spread[power], 0.5 * (*high - *low));
        }
      }
    }
  }
  if (!(result.earliest <= result.latest)) result.earliest = result.latest = 0.0;
  return result;
}

/// Median over the region of the rate at which antennas lose step; the second is what the delays alone make of it.
double median_rate(const PathPlan& plan, const std::vector<double>& positions) {
  FloatCost cost(plan);
  Query silence;
  silence.profile.resize(2 * plan.antennas() * plan.profile.nodes());
  FloatPoint point;
  std::vector<double> rates;
  for (std::size_t first = 0; first < positions.size(); first += 3) {
    cost.linearize(silence, positions.data() + first, point);
    rates.push_back(point.steepest);
  }
  std::nth_element(rates.begin(), rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2), rates.end());
  return rates[rates.size() / 2];
}

/// Complex gains of the paths `here`, whose shapes are compared, at `offset` meters along an axis, without straight
/// carriers.
void take_gains(PathSampler& sampler, const double* position, const double* axis, double offset, const PathPlan& plan,
                const Paths& here, Paths& there, std::vector<cdouble>& gains) {
  double at[3];
  for (std::size_t c = 0; c < 3; ++c) at[c] = position[c] + offset * axis[c];
  sampler.sample(at, there);
  const std::size_t antennas = plan.antennas();
  gains.assign(here.count, cdouble());
  for (std::size_t l = 0; l < here.count; ++l) {
    const auto found = std::find(there.index.begin(), there.index.begin() + std::ptrdiff_t(there.count), here.index[l]);
    const auto m = static_cast<std::size_t>(found - there.index.begin());
    if (m == there.count) continue;
    cdouble sum;
    for (std::size_t j = 0; j < antennas; ++j) {
      sum += std::conj(cdouble(here.real[l * antennas + j], here.imag[l * antennas + j])) *
             cdouble(there.real[m * antennas + j], there.imag[m * antennas + j]);
    }
    const double* u = here.direction.data() + 3 * l;
    const double along = u[0] * axis[0] + u[1] * axis[1] + u[2] * axis[2];
    const double turns = along * offset / plan.model->common.wavelength;
    gains[l] = sum / here.energy[l] * std::polar(1.0, tau * turns);
  }
}

/// Lower quartile over the region of the error of gains between nodes, interpolated as in (15), relative to the gains
/// at the middle node. The quartile, since no nodes are fine enough for the edge of a gate.
double interpolation_error(const PathPlan& plan, const std::vector<double>& positions, double spacing) {
  const Region& region = plan.model->common.region;
  PathSampler sampler(plan);
  Paths here, there;
  for (Paths* const paths : {&here, &there}) paths->reserve(plan.capacity, plan.antennas());
  std::vector<cdouble> below, between, above;
  std::vector<double> errors;
  for (std::size_t first = 0; first < positions.size(); first += 3) {
    checkpoint();
    const double* const position = positions.data() + first;
    sampler.sample(position, here);
    for (std::size_t d = 0; d < region.dimension(); ++d) {
      const double* const axis = region.basis.data() + 3 * d;
      double y = 0.0, error = 0.0, energy = 0.0;
      for (std::size_t c = 0; c < 3; ++c) y += (position[c] - region.origin[c]) * axis[c];
      if (!(y - spacing >= region.lower[d] && y + spacing <= region.upper[d])) continue;
      take_gains(sampler, position, axis, -spacing, plan, here, there, below);
      take_gains(sampler, position, axis, 0.5 * spacing, plan, here, there, between);
      take_gains(sampler, position, axis, spacing, plan, here, there, above);
      for (std::size_t l = 0; l < here.count; ++l) {
        error += here.energy[l] * std::norm(-0.125 * below[l] + 0.75 + 0.375 * above[l] - between[l]);
        energy += here.energy[l];
      }
      const double relative = energy > 0.0 ? std::sqrt(error / energy) : 0.0;
      errors.push_back(std::isfinite(relative) ? relative : 1.0);
    }
  }
  if (errors.empty()) return 0.0;
  std::nth_element(errors.begin(), errors.begin() + std::ptrdiff_t(errors.size() / 4), errors.end());
  return errors[errors.size() / 4];
}

/// The widest spacing that gains allow, infinite where they allow a quarter of the region. Those of virtual sources
/// hardly change; the weights of a planar network stand for the curvature of waves and for what comes and goes.
double spacing_of_nodes(const PathPlan& plan, const std::vector<double>& positions, double widest, double least) {
  const double most = 0.25 * widest;
  double spacing = most;
  while (spacing > least && interpolation_error(plan, positions, spacing) > tolerated_interpolation) spacing *= 0.5;
  return spacing < most ? spacing : std::numeric_limits<double>::infinity();
}

/// Points that a coarse grid may have: shapes and whiteners of all paths at each are kept.
double affordable_points(const PathPlan& paths) {
  const std::size_t a_point = paths.capacity * (3 * sizeof(float) * paths.antennas() + 2 * 8 * paths.capacity);
  if (a_point > most_bytes / fewest_points) {
    throw Error("float_fix: a coarse map of " + std::to_string(paths.capacity) + " paths to " +
                std::to_string(paths.antennas()) + " antennas takes more memory than is supported");
  }
  return static_cast<double>(std::min(most_points, most_bytes / a_point));
}

}  // namespace

std::unique_ptr<FloatFixPlan> make_float_fix_plan(const ChannelModel& model, const LocalizerOptions& options) {
  auto plan = std::make_unique<FloatFixPlan>(FloatFixPlan{model, {}, nullptr, 0.0, 0.0});
  const auto& common = plan->model.implementation().common;
  const Region& region = common.region;
  const std::vector<double> positions = survey_positions(region);
  const Survey found = survey(model, positions);
  const auto [lowest, highest] = std::minmax_element(common.frequencies.begin(), common.frequencies.end());
  const double bandwidth = *highest - *lowest;
  double widest = 0.0, dimension = static_cast<double>(region.dimension());
  for (std::size_t d = 0; d < region.dimension(); ++d) widest = std::max(widest, region.upper[d] - region.lower[d]);
  const double around = (0.5 * widest + (options.region_margin + 4.0) * common.wavelength) / speed_of_light;
  PathPlan& paths = plan->paths;
  paths.model = &plan->model.implementation();
  paths.profile = DelayProfile(common, found.earliest - around, found.latest + around);
  const double share = found.energy / static_cast<double>(common.n_antennas());
  paths.scale = share > 0.0 ? 1.0 / std::sqrt(share) : 1.0;
  paths.capacity = std::min(std::max<std::size_t>(model.n_atoms(), 1), most_paths);
  for (std::size_t power = 0; power < found.delay_spread.size(); ++power) {
    if (found.delay_spread[power] * bandwidth <= group_turns) paths.group = std::size_t{1} << power;
  }
  paths.group = std::min(paths.group, common.n_antennas());
  plan->pitch = options.candidate_spacing > 0.0 ? options.candidate_spacing : common.wavelength / 8.0;

  plan->node_spacing = spacing_of_nodes(paths, positions, widest, 2.0 * plan->pitch);
  // Half a diagonal of the grid away, the antennas of a path are a radian apart (root mean square).
  const double rate = median_rate(paths, positions);
  double spacing = options.coarse_spacing;
  if (!(spacing > 0.0)) {
    spacing = rate > 0.0 ? 2.0 * std::sqrt(3.0 / dimension) / rate : widest;
    spacing = std::max(std::min(spacing, std::max(widest / 4.0, common.wavelength / 4.0)), common.wavelength / 4.0);
  }
  const auto points = [&](double step) {
    double count = 1.0;
    for (std::size_t d = 0; d < region.dimension(); ++d) count *= (region.upper[d] - region.lower[d]) / step + 1.0;
    return count;
  };
  const double affordable = affordable_points(paths);
  while (points(spacing) > affordable) spacing *= 1.1;
  // Delays allow this stride once the antennas of different blocks need not keep step.
  const double by_delay = 0.5 * tau * bandwidth / speed_of_light;
  const std::size_t blocks = std::min(most_blocks, paths.groups());
  const double block_rate = std::hypot(rate / static_cast<double>(blocks), by_delay);
  std::size_t stride = 1;
  if (points(spacing) > 64.0 && blocks > 1) {
    stride = static_cast<std::size_t>(std::min(double(longest_stride), std::max(1.0, std::floor(rate / block_rate))));
  }
  plan->map = std::make_unique<CoarseMap>(paths, spacing, stride, stride > 1 ? blocks : 1);
  return plan;
}

}  // namespace wavefix
