// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "atoms_check.hpp"
#include "plane_wave_model.hpp"
#include "virtual_source_model.hpp"

namespace {

using namespace wavefix;

TEST_CASE("the atoms of a planar model add up to its channel") {
  for (const std::size_t waves : {std::size_t{1}, std::size_t{10}}) {
    const ChannelModel model = testing::plane_wave_model(8, 12, waves);
    const auto positions = testing::random_positions(model, 5);
    for (std::size_t row = 0; row < 5; ++row) testing::check_atoms(model, positions.data() + 3 * row);
  }
}

TEST_CASE("the atoms of virtual sources add up to their channel, closed gates or not") {
  for (const bool gates : {false, true}) {
    for (const std::size_t antennas : {std::size_t{1}, std::size_t{19}}) {
      const ChannelModel model = testing::spherical_model(antennas, 12, gates);
      const auto positions = testing::random_positions(model, 20);
      for (std::size_t row = 0; row < 20; ++row) testing::check_atoms(model, positions.data() + 3 * row);
    }
  }
}

}  // namespace
