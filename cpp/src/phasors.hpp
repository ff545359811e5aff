// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace wavefix {

/// real + j imag = e^(j 2 pi turns), to a few units in the last place for |turns| < 2^31. Reducing whole turns first
/// loses nothing, where reducing radians would. A loop without branches, which the compiler vectorizes.
void unit_phasors(const double* turns, std::size_t count, double* real, double* imag);

}  // namespace wavefix
