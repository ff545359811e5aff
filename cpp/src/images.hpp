// SPDX-License-Identifier: Apache-2.0
// The image method (9): walls made ready for intersections, and the virtual sources of one antenna.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <string>
#include <vector>

#include "wavefix/propagation.hpp"

namespace wavefix::detail {

using Vector3 = Eigen::Vector3d;

inline constexpr int bounce_limit = 8;
inline constexpr double touching = 1e-9;  // m: nearer to a plane than this is on it

/// The half-space normal · x >= offset.
struct HalfSpace {
  Vector3 normal;
  double offset;

  double height(const Vector3& x) const { return normal.dot(x) - offset; }
};

/// A wall with its plane and the half-spaces whose intersection with the plane is the polygon.
struct Facet {
  HalfSpace plane;
  std::vector<Vector3> corners;
  std::vector<HalfSpace> edges;
  Material material;

  bool contains(const Vector3& on_plane) const {
    for (const HalfSpace& edge : edges) {
      if (edge.height(on_plane) < 0) return false;
    }
    return true;
  }
  Vector3 mirrored(const Vector3& x) const { return x - 2 * plane.height(x) * plane.normal; }
};

/// Throws DataError that starts with `name` where the corners are no flat convex polygon.
Facet make_facet(const Wall& wall, const std::string& name);
std::vector<Facet> make_facets(const Scene& scene);

/// A virtual source: the parent's source seen in one more wall. The antenna itself is the root.
struct Image {
  Vector3 source;
  int wall;    // -1 for the root
  int parent;  // index, -1 for the root
  int order;   // number of bounces
};

/// Corners of the smallest box around the positions: what a ray must be able to reach.
std::vector<Vector3> bounding_corners(View<const double, 2> positions);

/// The virtual sources of one antenna. Sequences whose beam misses the next wall, or all the users, are left out.
struct ImageTree {
  std::vector<Image> images;    // images[0] is the antenna
  std::vector<int> candidates;  // those that may reach a user, parents before children

  std::vector<int> walls_of(int image) const;
};

ImageTree grow_images(const std::vector<Facet>& facets, const Vector3& antenna, const std::vector<Vector3>& users,
                      int max_bounces, std::size_t image_limit);

/// A wall that a segment passes through, at `fraction` of its length.
struct Crossing {
  double fraction;
  int wall;
};

/// The points where a path leaves the antenna, bounces and arrives.
struct Route {
  int order = 0;
  Vector3 points[bounce_limit + 2];
  int walls[bounce_limit + 2];  // wall at each point, -1 at both ends
};

/// The reflection points from the user back to the antenna; false where one lies outside its wall.
bool find_route(const std::vector<Facet>& facets, const ImageTree& tree, int image, const Vector3& user, Route& route);

/// The slabs between points `leg` and `leg + 1`, in order; false where an opaque wall is in between.
bool find_crossings(const std::vector<Facet>& facets, const Route& route, int leg, std::vector<Crossing>& crossings);

}  // namespace wavefix::detail
