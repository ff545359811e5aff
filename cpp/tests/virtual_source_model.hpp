// SPDX-License-Identifier: Apache-2.0
// Small models of virtual sources, built as model files in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "plane_wave_model.hpp"

namespace wavefix::testing {

/// `gates`: the first source is seen through one cell of two edges, the second in two leaves that exclude each other.
inline ModelFile spherical_model_file(std::size_t antennas, std::size_t subcarriers, bool gates) {
  std::vector<double> positions, frequencies, rotations, variables;
  for (std::size_t j = 0; j < antennas; ++j) {
    positions.insert(positions.end(), {10.0, 3.0 + 0.015 * static_cast<double>(j), 5.0});
  }
  for (std::size_t k = 0; k < subcarriers; ++k) frequencies.push_back(carrier + 1e6 * static_cast<double>(k));
  for (std::size_t l = 0; l < 3; ++l) {  // as it is, mirrored in y, along z
    rotations.insert(rotations.end(), {1, 0, 0, 0, l == 0 ? 1.0 : l == 1 ? -1.0 : 0.0, 0, 0, l == 2 ? 1.0 : 0.0, 1});
    variables.insert(variables.end(), {1.0, 0.5, 0.0, 0.1, 0.0, 1.0, -1.0, 0.2});
  }
  ModelFile file("spherical");
  file.add<double>("antenna_positions", {antennas, 3}, positions);
  file.add<double>("frequencies", {subcarriers}, frequencies);
  file.add<double>("region.origin", {3}, {1.0, 2.0, 1.5});
  file.add<double>("region.basis", {2, 3}, {1.0, 0.0, 0.0, 0.0, 1.0, 0.0});
  file.add<double>("region.lower", {2}, {-2.0, -2.0});
  file.add<double>("region.upper", {2}, {2.0, 2.0});
  file.add<double>("validation_nmse", {1}, {1e-6});
  file.add<double>("source_positions", {3, 3}, {10.0, 3.0, 5.0, 9.0, -14.0, 5.0, -20.0, 1.0, 7.0});
  file.add<double>("source_rotations", {3, 3, 3}, rotations);
  file.add<double>("gain_variables", {3, 2, 4}, variables);
  file.add<float>(
      "gain_coefficients", {3, 3, 2},
      {0.9f, 0.2f, 0.1f, -0.1f, 0.0f, 0.1f, 0.7f, 0.6f, -0.1f, 0.1f, 0.1f, 0.0f, 0.3f, -0.9f, 0.0f, 0.1f, 0.1f, 0.0f});
  if (!gates) return file;
  // vertical edges through (3, 3), (5, 1), (4, -6) and a horizontal one; moments are point x direction, from the origin
  file.add<double>("gate_lines", {5, 6}, {0.3,  -0.6, 0.0, 0.0, 0.0, 0.3,   //
                                          0.4,  1.6,  0.0, 0.0, 0.0, -0.4,  //
                                          0.8,  0.3,  0.0, 0.0, 0.0, -0.1,  //
                                          -0.8, -0.3, 0.0, 0.0, 0.0, 0.1,   //
                                          0.0,  0.2,  0.3, 0.1, 0.0, 0.0});
  file.add<std::int32_t>("gate_line_cell", {5}, {0, 0, 1, 2, 2});
  file.add<std::int32_t>("gate_cell_source", {3}, {0, 1, 1});
  return file;
}

inline ChannelModel spherical_model(std::size_t antennas, std::size_t subcarriers, bool gates) {
  const std::string bytes = spherical_model_file(antennas, subcarriers, gates).bytes();
  return ChannelModel::from_bytes(bytes.data(), bytes.size());
}

}  // namespace wavefix::testing
