// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace wavefix {

constexpr double pi = 3.14159265358979323846;
constexpr double tau = 2.0 * pi;

}  // namespace wavefix
