// SPDX-License-Identifier: Apache-2.0
#include "images.hpp"

#include <Eigen/Geometry>
#include <algorithm>
#include <cmath>
#include <string>

#include "wavefix/error.hpp"

namespace wavefix::detail {
namespace {

constexpr double flatness = 1e-6;  // of the polygon's size: corners may leave their plane by this much

using Beam = std::vector<HalfSpace>;  // what a virtual source can light up lies in all of them

Vector3 vector_of(const std::array<double, 3>& point) { return {point[0], point[1], point[2]}; }

Vector3 centroid(const std::vector<Vector3>& corners) {
  Vector3 sum = Vector3::Zero();
  for (const Vector3& corner : corners) sum += corner;
  return sum / static_cast<double>(corners.size());
}

/// No part of the convex hull of `corners` is inside the beam, surely.
bool misses(const Beam& beam, const std::vector<Vector3>& corners) {
  return std::any_of(beam.begin(), beam.end(), [&](const HalfSpace& half) {
    return std::all_of(corners.begin(), corners.end(),
                       [&](const Vector3& corner) { return half.height(corner) < -touching; });
  });
}

HalfSpace mirrored(const Facet& facet, const HalfSpace& half) {
  const Vector3 normal = half.normal - 2 * half.normal.dot(facet.plane.normal) * facet.plane.normal;
  return {normal, half.offset - 2 * half.normal.dot(facet.plane.normal) * facet.plane.offset};
}

/// The beam of the image behind `facet`: through the facet, beyond it, and within the parent's beam mirrored.
Beam narrowed(const Beam& parent, const Facet& facet, const Vector3& image) {
  Beam beam;
  beam.reserve(parent.size() + facet.corners.size() + 1);
  for (const HalfSpace& half : parent) beam.push_back(mirrored(facet, half));
  const double side = facet.plane.height(image) < 0 ? 1.0 : -1.0;
  beam.push_back({side * facet.plane.normal, side * facet.plane.offset});
  const Vector3 center = centroid(facet.corners);
  for (std::size_t i = 0; i < facet.corners.size(); ++i) {
    const Vector3& a = facet.corners[i];
    const Vector3& b = facet.corners[(i + 1) % facet.corners.size()];
    Vector3 normal = (a - image).cross(b - image);
    const double length = normal.norm();
    if (length < touching) continue;  // the image is on the edge's line: no plane, nothing to cut
    normal /= length;
    HalfSpace half{normal, normal.dot(image)};
    if (std::abs(half.height(center)) < touching) continue;  // the image is in the facet's plane: no side to choose
    if (half.height(center) < 0) half = {-half.normal, -half.offset};
    beam.push_back(half);
  }
  return beam;
}

struct Grower {
  const std::vector<Facet>& facets;
  const std::vector<Vector3>& users;
  int max_bounces;
  std::size_t image_limit;
  ImageTree& tree;

  void grow(int index, const Beam& beam) {
    if (!misses(beam, users)) tree.candidates.push_back(index);
    const Image parent = tree.images[static_cast<std::size_t>(index)];
    if (parent.order == max_bounces) return;
    for (std::size_t wall = 0; wall < facets.size(); ++wall) {
      const Facet& facet = facets[wall];
      if (static_cast<int>(wall) == parent.wall) continue;
      if (std::abs(facet.plane.height(parent.source)) < touching || misses(beam, facet.corners)) continue;
      if (tree.images.size() == image_limit) {
        throw DataError("max_bounces: more than " + std::to_string(image_limit) +
                        " virtual sources an antenna; expected fewer walls or fewer bounces");
      }
      const Image image{facet.mirrored(parent.source), static_cast<int>(wall), index, parent.order + 1};
      tree.images.push_back(image);
      grow(static_cast<int>(tree.images.size()) - 1, narrowed(beam, facet, image.source));
    }
  }
};

}  // namespace

Facet make_facet(const Wall& wall, const std::string& name) {
  Facet facet;
  facet.material = wall.material;
  for (const auto& corner : wall.corners) facet.corners.push_back(vector_of(corner));
  const std::size_t n = facet.corners.size();
  if (n < 3) throw DataError(name + ".corners: expected 3 or more, got " + std::to_string(n));
  const Vector3 center = centroid(facet.corners);
  Vector3 area = Vector3::Zero();
  double size = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (!facet.corners[i].allFinite()) throw DataError(name + ".corners: expected finite coordinates");
    area += (facet.corners[i] - center).cross(facet.corners[(i + 1) % n] - center);
    size = std::max(size, (facet.corners[i] - center).norm());
  }
  if (!(area.norm() > flatness * size * size)) throw DataError(name + ".corners: the polygon has no area");
  facet.plane.normal = area.normalized();
  facet.plane.offset = facet.plane.normal.dot(center);
  for (std::size_t i = 0; i < n; ++i) {
    const Vector3 along = facet.corners[(i + 1) % n] - facet.corners[i];
    if (!(along.norm() > flatness * size)) throw DataError(name + ".corners: two corners in a row are the same point");
    const Vector3 inward = facet.plane.normal.cross(along).normalized();
    facet.edges.push_back({inward, inward.dot(facet.corners[i])});
  }
  for (const Vector3& corner : facet.corners) {
    if (std::abs(facet.plane.height(corner)) > flatness * size) {
      throw DataError(name + ".corners: expected all corners in one plane");
    }
    for (const HalfSpace& edge : facet.edges) {
      if (edge.height(corner) < -flatness * size) {
        throw DataError(name + ".corners: expected a convex polygon, its corners in order around it");
      }
    }
  }
  return facet;
}

std::vector<Facet> make_facets(const Scene& scene) {
  std::vector<Facet> facets;
  for (std::size_t i = 0; i < scene.walls.size(); ++i) {
    facets.push_back(make_facet(scene.walls[i], "walls[" + std::to_string(i) + "]"));
  }
  return facets;
}

std::vector<Vector3> bounding_corners(View<const double, 2> positions) {
  Vector3 lower = Eigen::Map<const Vector3>(positions.data);
  Vector3 upper = lower;
  for (std::size_t i = 1; i < positions.shape[0]; ++i) {
    const Eigen::Map<const Vector3> x(positions.row(i));
    lower = lower.cwiseMin(x);
    upper = upper.cwiseMax(x);
  }
  std::vector<Vector3> corners;
  for (int bits = 0; bits < 8; ++bits) {
    corners.emplace_back(bits & 1 ? upper[0] : lower[0], bits & 2 ? upper[1] : lower[1],
                         bits & 4 ? upper[2] : lower[2]);
  }
  return corners;
}

std::vector<int> ImageTree::walls_of(int image) const {
  std::vector<int> walls;
  for (int i = image; i > 0; i = images[static_cast<std::size_t>(i)].parent) {
    walls.push_back(images[static_cast<std::size_t>(i)].wall);
  }
  return {walls.rbegin(), walls.rend()};
}

ImageTree grow_images(const std::vector<Facet>& facets, const Vector3& antenna, const std::vector<Vector3>& users,
                      int max_bounces, std::size_t image_limit) {
  ImageTree tree;
  tree.images.push_back({antenna, -1, -1, 0});
  Grower{facets, users, max_bounces, image_limit, tree}.grow(0, {});
  return tree;
}

bool find_route(const std::vector<Facet>& facets, const ImageTree& tree, int image, const Vector3& user, Route& route) {
  const Image* node = &tree.images[static_cast<std::size_t>(image)];
  route.order = node->order;
  route.points[node->order + 1] = user;
  route.walls[node->order + 1] = -1;
  for (; node->order > 0; node = &tree.images[static_cast<std::size_t>(node->parent)]) {
    const Facet& facet = facets[static_cast<std::size_t>(node->wall)];
    const Vector3& target = route.points[node->order + 1];
    const double from = facet.plane.height(node->source);
    const double to = facet.plane.height(target);
    if (from * to >= 0) return false;  // the target is not in front of the mirror
    const Vector3 point = node->source + (from / (from - to)) * (target - node->source);
    if (!facet.contains(point)) return false;
    route.points[node->order] = point;
    route.walls[node->order] = node->wall;
  }
  route.points[0] = node->source;
  route.walls[0] = -1;
  return true;
}

bool find_crossings(const std::vector<Facet>& facets, const Route& route, int leg, std::vector<Crossing>& crossings) {
  crossings.clear();
  const Vector3& a = route.points[leg];
  const Vector3& b = route.points[leg + 1];
  for (std::size_t i = 0; i < facets.size(); ++i) {
    const int wall = static_cast<int>(i);
    if (wall == route.walls[leg] || wall == route.walls[leg + 1]) continue;
    const Facet& facet = facets[i];
    const double from = facet.plane.height(a);
    const double to = facet.plane.height(b);
    // an end on the plane is no crossing: the end of a leg may lie on a coplanar or an adjoining wall
    if (from * to >= 0 || std::abs(from) < touching || std::abs(to) < touching) continue;
    const double fraction = from / (from - to);
    if (!facet.contains(a + fraction * (b - a))) continue;
    if (facet.material.thickness == 0) return false;
    crossings.push_back({fraction, wall});
  }
  std::sort(crossings.begin(), crossings.end(), [](const Crossing& one, const Crossing& other) {
    return one.fraction != other.fraction ? one.fraction < other.fraction : one.wall < other.wall;
  });
  return true;
}

}  // namespace wavefix::detail
