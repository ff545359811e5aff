// SPDX-License-Identifier: Apache-2.0
#include "wavefix/propagation.hpp"

#include <Eigen/Geometry>
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "angles.hpp"
#include "images.hpp"
#include "untrapped.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

using detail::Crossing;
using detail::Facet;
using detail::ImageTree;
using detail::Route;
using detail::Vector3;
using ComplexVector3 = Eigen::Vector3cd;

constexpr double vacuum_permittivity = 8.8541878128e-12;  // F/m
constexpr cdouble j(0.0, 1.0);
constexpr std::size_t image_limit = 2'000'000;  // of all antennas together, about 100 MB

/// Coefficients of the half-space (8), and what a slab of it makes of them.
struct Interface {
  cdouble inner_cosine;  // sqrt(eta - sin^2), proportional to the wave number along the normal inside
  Coefficients half_space;
  cdouble slab_phase = 0;  // e^(-jq) of one passage
  bool slab = false;

  Interface(const Material& material, double frequency, double cosine) : slab(material.thickness > 0) {
    const cdouble eta(material.relative_permittivity,
                      -material.conductivity / (2 * pi * frequency * vacuum_permittivity));
    inner_cosine = std::sqrt(eta - 1.0 + cosine * cosine);
    half_space.te = (cosine - inner_cosine) / (cosine + inner_cosine);
    half_space.tm = (eta * cosine - inner_cosine) / (eta * cosine + inner_cosine);
    if (slab) slab_phase = std::exp(-j * (2 * pi * frequency / speed_of_light * material.thickness) * inner_cosine);
  }
  cdouble reflected(cdouble r) const {
    if (!slab) return r;
    const cdouble round = slab_phase * slab_phase;
    return r * (1.0 - round) / (1.0 - r * r * round);
  }
  cdouble transmitted(cdouble r) const {
    return slab ? (1.0 - r * r) * slab_phase / (1.0 - r * r * slab_phase * slab_phase) : 0.0;
  }
};

/// The field after a mirror. TE and TM apart without naming a plane of incidence that normal incidence has not:
/// mirror( -TM E + (TE + TM) E_TE ), where TE + TM vanishes at the normal.
ComplexVector3 reflected_field(const ComplexVector3& field, const Vector3& direction, const Facet& facet,
                               double frequency) {
  const Vector3& normal = facet.plane.normal;
  const auto [te, tm] = reflection(facet.material, frequency, std::abs(direction.dot(normal)));
  ComplexVector3 sum = -tm * field;
  const Vector3 across = direction.cross(normal);
  const double squared = across.squaredNorm();
  if (squared > 1e-30) sum += (te + tm) * (across.dot(field) / squared) * across;
  return sum - 2.0 * normal.dot(sum) * normal;
}

ComplexVector3 transmitted_field(const ComplexVector3& field, const Vector3& direction, const Facet& facet,
                                 double frequency) {
  const auto [te, tm] = transmission(facet.material, frequency, std::abs(direction.dot(facet.plane.normal)));
  ComplexVector3 sum = tm * field;
  const Vector3 across = direction.cross(facet.plane.normal);
  const double squared = across.squaredNorm();
  if (squared > 1e-30) sum += (te - tm) * (across.dot(field) / squared) * across;
  return sum;
}

/// Geometry made ready once for a call, shared by its threads.
struct Prepared {
  std::vector<Facet> facets;
  std::vector<ImageTree> trees;  // an antenna each
  double carrier;

  Prepared(const Scene& scene, View<const double, 2> positions, int max_bounces, const Execution& execution)
      : facets(detail::make_facets(scene)), trees(scene.antennas.size()), carrier(scene.carrier) {
    const std::vector<Vector3> users = detail::bounding_corners(positions);
    const std::size_t limit = std::max<std::size_t>(image_limit / trees.size(), 1);
    parallel_for(trees.size(), execution, [&](std::size_t antenna, int) {
      const Vector3 source(scene.antennas[antenna].data());
      trees[antenna] = detail::grow_images(facets, source, users, max_bounces, limit);
    });
  }
};

/// What one path brings to one antenna.
struct Arrival {
  double distance;  // d_lj
  cdouble gain;     // γ_lj
  bool direct;      // no wall reflects nor is crossed
};

/// False where the path does not exist: a reflection point off its wall, or an opaque wall in between.
bool follow(const Prepared& prepared, const ImageTree& tree, int image, const Vector3& user,
            std::vector<Crossing>& crossings, Arrival& arrival) {
  Route route;
  if (!detail::find_route(prepared.facets, tree, image, user, route)) return false;
  const Vector3& source = tree.images[static_cast<std::size_t>(image)].source;
  arrival.distance = (user - source).norm();
  arrival.direct = route.order == 0;
  ComplexVector3 field;
  for (int leg = 0; leg <= route.order; ++leg) {
    if (!detail::find_crossings(prepared.facets, route, leg, crossings)) return false;
    const Vector3 direction = (route.points[leg + 1] - route.points[leg]).normalized();
    if (leg == 0) field = (Vector3::UnitZ() - direction[2] * direction).cast<cdouble>();  // a short vertical dipole
    for (const Crossing& crossing : crossings) {
      const Facet& facet = prepared.facets[static_cast<std::size_t>(crossing.wall)];
      field = transmitted_field(field, direction, facet, prepared.carrier);
      arrival.direct = false;
    }
    if (leg < route.order) {
      const Facet& facet = prepared.facets[static_cast<std::size_t>(route.walls[leg + 1])];
      field = reflected_field(field, direction, facet, prepared.carrier);
    }
  }
  arrival.gain = speed_of_light / prepared.carrier / (4 * pi) * field[2];  // the user's dipole is vertical as well
  return true;
}

cdouble unit_phasor(double cycles) {
  const double phase = -2 * pi * (cycles - std::floor(cycles));  // reduced first: thousands of cycles lose digits
  return {std::cos(phase), std::sin(phase)};
}

/// Sum of gain / d e^(-j 2 pi f_k d / c) over paths, in double, for all subcarriers.
/// The phase advances by a constant rotation: short tables of its powers, anchored anew every few hundred steps.
class Spectrum {
 public:
  explicit Spectrum(const Scene& scene)
      : count_(scene.subcarriers),
        first_(frequencies_of(scene).front()),
        spacing_(scene.bandwidth / static_cast<double>(scene.subcarriers)),
        real_((count_ + block - 1) / block * block),
        imag_(real_.size()) {}

  void clear() {
    std::fill(real_.begin(), real_.end(), 0.0);
    std::fill(imag_.begin(), imag_.end(), 0.0);
  }

  void add(const Arrival& arrival) {
    const double delay = arrival.distance / speed_of_light;
    const cdouble step = unit_phasor(spacing_ * delay);
    double table_real[block], table_imag[block];
    cdouble power(1.0, 0.0);
    for (std::size_t b = 0; b < block; ++b, power *= step) {
      table_real[b] = power.real();
      table_imag[b] = power.imag();
    }
    const cdouble amplitude = arrival.gain / arrival.distance;
    cdouble anchor;
    for (std::size_t k = 0; k < real_.size(); k += block, anchor *= power) {
      if (k % reanchor == 0) anchor = amplitude * unit_phasor((first_ + static_cast<double>(k) * spacing_) * delay);
      const double re = anchor.real(), im = anchor.imag();
      double* out_real = real_.data() + k;
      double* out_imag = imag_.data() + k;
      for (std::size_t b = 0; b < block; ++b) {
        out_real[b] += re * table_real[b] - im * table_imag[b];
        out_imag[b] += re * table_imag[b] + im * table_real[b];
      }
    }
  }

  void write(cfloat* out) const {
    for (std::size_t k = 0; k < count_; ++k) {
      out[k] = {static_cast<float>(real_[k]), static_cast<float>(imag_[k])};
    }
  }

 private:
  static constexpr std::size_t block = 8;
  static constexpr std::size_t reanchor = 512;

  std::size_t count_;
  double first_, spacing_;
  std::vector<double> real_, imag_;
};

struct Worker {
  explicit Worker(const Scene& scene) : spectrum(scene) {}
  Spectrum spectrum;
  std::vector<Crossing> crossings;
};

void check_positions(const Scene& scene, View<const double, 2> positions) {
  for (std::size_t i = 0; i < positions.shape[0]; ++i) {
    const Vector3 x = Eigen::Map<const Vector3>(positions.row(i));
    const std::string name = "positions[" + std::to_string(i) + "]";
    if (!x.allFinite()) throw DataError(name + ": expected finite coordinates");
    if (x.cwiseAbs().maxCoeff() > 1e100) throw DataError(name + ": expected coordinates below 1e100 m");  // squares fit
    for (const auto& antenna : scene.antennas) {
      if ((x - Eigen::Map<const Vector3>(antenna.data())).norm() < detail::touching) {
        throw DataError(name + ": expected a distance to every antenna, got an antenna's own position");
      }
    }
  }
}

void check_material(const Material& material, const std::string& name) {
  const auto require = [&](bool good, const char* field, const char* expected, double got) {
    if (!good) {
      throw DataError(name + "." + field + ": expected " + expected + ", got " + std::to_string(got));
    }
  };
  const double permittivity = material.relative_permittivity;
  require(permittivity >= 1 && std::isfinite(permittivity), "relative_permittivity", "1 or more", permittivity);
  require(material.conductivity >= 0 && std::isfinite(material.conductivity), "conductivity", "0 or more, S/m",
          material.conductivity);
  require(material.thickness >= 0 && std::isfinite(material.thickness), "thickness", "meters, or 0 for an opaque wall",
          material.thickness);
}

}  // namespace

void check_scene(const Scene& scene, const SimulateOptions& options) {
  const Untrapped untrapped;
  for (std::size_t i = 0; i < scene.walls.size(); ++i) {
    const std::string name = "walls[" + std::to_string(i) + "]";
    check_material(scene.walls[i].material, name + ".material");
    detail::make_facet(scene.walls[i], name);
  }
  if (scene.antennas.empty()) throw DataError("antennas: expected at least one");
  for (const auto& antenna : scene.antennas) {
    if (!Eigen::Map<const Vector3>(antenna.data()).allFinite()) {
      throw DataError("antennas: expected finite coordinates");
    }
  }
  if (scene.subcarriers == 0) throw DataError("subcarriers: expected at least one");
  if (!(scene.carrier > 0) || !std::isfinite(scene.carrier)) {
    throw DataError("carrier: expected hertz, positive, got " + std::to_string(scene.carrier));
  }
  if (!(scene.bandwidth > 0 && scene.bandwidth < 2 * scene.carrier)) {
    throw DataError("bandwidth: expected hertz, positive and below twice the carrier, got " +
                    std::to_string(scene.bandwidth));
  }
  if (options.max_bounces < 0 || options.max_bounces > detail::bounce_limit) {
    throw DataError("max_bounces: expected 0 to " + std::to_string(detail::bounce_limit) + ", got " +
                    std::to_string(options.max_bounces));
  }
}

std::vector<double> frequencies_of(const Scene& scene) {
  std::vector<double> frequencies(scene.subcarriers);
  const double spacing = scene.bandwidth / static_cast<double>(scene.subcarriers);
  const double middle = (static_cast<double>(scene.subcarriers) - 1) / 2;
  for (std::size_t k = 0; k < frequencies.size(); ++k) {
    frequencies[k] = scene.carrier + (static_cast<double>(k) - middle) * spacing;
  }
  return frequencies;
}

Coefficients reflection(const Material& material, double frequency, double cos_incidence) {
  const Untrapped untrapped;
  const Interface surface(material, frequency, cos_incidence);
  return {surface.reflected(surface.half_space.te), surface.reflected(surface.half_space.tm)};
}

Coefficients transmission(const Material& material, double frequency, double cos_incidence) {
  const Untrapped untrapped;
  const Interface surface(material, frequency, cos_incidence);
  // without the slab the field advances by this much over its thickness, and path lengths count that already
  const double skipped = 2 * pi * frequency / speed_of_light * material.thickness * cos_incidence;
  const cdouble advance(std::cos(skipped), std::sin(skipped));
  return {advance * surface.transmitted(surface.half_space.te), advance * surface.transmitted(surface.half_space.tm)};
}

void simulate(const Scene& scene, View<const double, 2> positions, View<cfloat, 3> channels,
              View<bool, 1> line_of_sight, const SimulateOptions& options, const Execution& execution) {
  const Untrapped untrapped;
  check_scene(scene, options);
  const std::size_t n = positions.shape[0], antennas = scene.antennas.size();
  if (positions.shape[1] != 3) throw_shape("positions", "shape (n, 3)", shape_text(positions.shape));
  if (channels.shape != std::array<std::size_t, 3>{n, antennas, scene.subcarriers}) {
    throw_shape("channels", shape_text(std::array<std::size_t, 3>{n, antennas, scene.subcarriers}),
                shape_text(channels.shape));
  }
  if (!line_of_sight.empty() && line_of_sight.shape[0] != n) {
    throw_shape("line_of_sight", shape_text(std::array<std::size_t, 1>{n}), shape_text(line_of_sight.shape));
  }
  if (n == 0) return;
  check_positions(scene, positions);
  const Prepared prepared(scene, positions, options.max_bounces, execution);
  std::vector<Worker> workers(static_cast<std::size_t>(thread_count(n, execution.threads)), Worker(scene));
  parallel_for(n, execution, [&](std::size_t i, int index) {
    Worker& worker = workers[static_cast<std::size_t>(index)];
    const Vector3 user = Eigen::Map<const Vector3>(positions.row(i));
    std::size_t seen = 0;
    for (std::size_t antenna = 0; antenna < antennas; ++antenna) {
      const ImageTree& tree = prepared.trees[antenna];
      worker.spectrum.clear();
      for (const int image : tree.candidates) {
        Arrival arrival;
        if (!follow(prepared, tree, image, user, worker.crossings, arrival)) continue;
        worker.spectrum.add(arrival);
        seen += arrival.direct ? 1 : 0;
      }
      worker.spectrum.write(channels.row(i) + antenna * scene.subcarriers);
    }
    if (!line_of_sight.empty()) line_of_sight.data[i] = 2 * seen >= antennas;
  });
}

std::vector<Path> trace(const Scene& scene, const std::array<double, 3>& position, const SimulateOptions& options) {
  const Untrapped untrapped;
  check_scene(scene, options);
  const View<const double, 2> positions(position.data(), {1, 3});
  check_positions(scene, positions);
  const Prepared prepared(scene, positions, options.max_bounces, {1, {}});
  const Vector3 user(position.data());
  const std::size_t antennas = scene.antennas.size();
  std::map<std::pair<std::size_t, std::vector<int>>, Path> found;
  std::vector<Crossing> crossings;
  for (std::size_t antenna = 0; antenna < antennas; ++antenna) {
    const ImageTree& tree = prepared.trees[antenna];
    for (const int image : tree.candidates) {
      Arrival arrival;
      if (!follow(prepared, tree, image, user, crossings, arrival)) continue;
      const std::vector<int> walls = tree.walls_of(image);
      Path& path = found[{walls.size(), walls}];
      path.walls = walls;
      path.gains.resize(antennas, 0.0);
      path.gains[antenna] = arrival.gain;
    }
  }
  std::vector<Path> paths;
  for (auto& [key, path] : found) {
    for (const auto& antenna : scene.antennas) {
      Vector3 source(antenna.data());
      for (const int wall : path.walls) source = prepared.facets[static_cast<std::size_t>(wall)].mirrored(source);
      path.sources.push_back({source[0], source[1], source[2]});
    }
    paths.push_back(std::move(path));
  }
  return paths;
}

}  // namespace wavefix
