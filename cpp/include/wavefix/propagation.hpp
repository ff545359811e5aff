// SPDX-License-Identifier: Apache-2.0
// Channels of a scene of flat walls by the image method: docs/equations.md (1), (8), (9).
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "wavefix/parallel.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

/// What a wall is made of. A wall of no thickness is the opaque surface of a half-space: it reflects and blocks.
/// A wall with a thickness is a slab: it reflects, and lets the rest of the field through.
struct Material {
  double relative_permittivity = 1.0;  ///< 1 or more
  double conductivity = 0.0;           ///< S/m
  double thickness = 0.0;              ///< m; 0: opaque
};

/// A flat convex polygon; both of its sides reflect.
struct Wall {
  std::vector<std::array<double, 3>> corners;  ///< three or more, in order around it, m
  Material material;
};

/// Walls, a base station of vertical short dipoles, and the band it uses.
struct Scene {
  std::vector<Wall> walls;
  std::vector<std::array<double, 3>> antennas;  ///< m
  double carrier = 3.5e9;                       ///< Hz, the center of the subcarriers
  double bandwidth = 50e6;                      ///< Hz, `subcarriers` times their spacing
  std::size_t subcarriers = 64;
};

struct SimulateOptions {
  int max_bounces = 3;  ///< reflections of a path at most, 0 to 8
};

/// Coefficients of the field across (TE) and in (TM) the plane of incidence.
struct Coefficients {
  cdouble te;
  cdouble tm;
};

/// One sequence of walls: its virtual sources (9) and the gains of (1), an entry an antenna.
struct Path {
  std::vector<int> walls;                      ///< indices into Scene::walls, from the base station to the user
  std::vector<std::array<double, 3>> sources;  ///< s_lj, m
  std::vector<cdouble> gains;                  ///< γ_lj with λ/(4π) in it, m; 0 where the antenna's path is blocked
};

/// Throws DataError("walls[2].corners: ...") on the first value that cannot be used.
WAVEFIX_API void check_scene(const Scene& scene, const SimulateOptions& options = {});

/// Absolute frequencies of the subcarriers, Hz: `carrier` plus multiples of bandwidth / subcarriers, centered.
WAVEFIX_API std::vector<double> frequencies_of(const Scene& scene);

/// (8) at a ray that meets the wall at an angle to its normal of the given cosine.
WAVEFIX_API Coefficients reflection(const Material& material, double frequency, double cos_incidence);

/// What a slab leaves of the field that would be there without it; 0 through an opaque wall.
WAVEFIX_API Coefficients transmission(const Material& material, double frequency, double cos_incidence);

/// (1) at every position. positions [n, 3], channels [n, antennas, subcarriers], line_of_sight [n] or empty: true
/// where at least half of the antennas see the position past no wall at all, slabs included.
/// Results do not depend on the number of threads nor on what else is in the batch.
WAVEFIX_API void simulate(const Scene& scene, View<const double, 2> positions, View<cfloat, 3> channels,
                          View<bool, 1> line_of_sight, const SimulateOptions& options = {},
                          const Execution& execution = {});

/// The paths that reach one position from at least one antenna, by number of bounces, then by walls.
WAVEFIX_API std::vector<Path> trace(const Scene& scene, const std::array<double, 3>& position,
                                    const SimulateOptions& options = {});

}  // namespace wavefix
