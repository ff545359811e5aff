// SPDX-License-Identifier: Apache-2.0
#include "path_pairs.hpp"

#include <algorithm>

#include "kernels.hpp"

namespace wavefix {

PathPairs::PathPairs(const PathPlan& plan, std::size_t vectors)
    : plan_(plan), vectors_(vectors), lanes_((plan.groups() + group_lanes - 1) / group_lanes * group_lanes) {
  real_.resize(plan.capacity * vectors * plan.group * lanes_);
  imag_.resize(real_.size());
  delay_.resize(plan.capacity * lanes_);
  later_.resize(plan.capacity * (vectors - 1) * lanes_);
}

void PathPairs::place(const float* real, const float* imag, std::size_t l, std::size_t vector, std::size_t first,
                      std::size_t last) {
  const std::size_t at = (l * vectors_ + vector) * plan_.group * lanes_, antennas = plan_.antennas();
  for (std::size_t g = first; g < last; ++g) {
    float *to_real = real_.data() + at + (g - first), *to_imag = imag_.data() + at + (g - first);
    for (std::size_t i = 0; i < plan_.group; ++i) {
      const std::size_t j = g * plan_.group + i;
      to_real[i * lanes_] = j < antennas ? real[j] : 0.0f;
      to_imag[i * lanes_] = j < antennas ? imag[j] : 0.0f;
    }
  }
}

void PathPairs::set_shape(const Paths& paths, std::size_t l, std::size_t first, std::size_t last) {
  const std::size_t antennas = plan_.antennas();
  groups_ = last - first;  // lanes beyond are not looked at
  place(paths.real.data() + l * antennas, paths.imag.data() + l * antennas, l, 0, first, last);
  std::copy_n(paths.group_delay.data() + l * plan_.groups() + first, last - first, delay_.data() + l * lanes_);
}

void PathPairs::set_slope(std::size_t l, std::size_t d, const float* real, const float* imag, const float* later) {
  place(real, imag, l, 1 + d, 0, plan_.groups());
  std::copy_n(later, plan_.groups(), later_.data() + (l * (vectors_ - 1) + d) * lanes_);
}

void PathPairs::sum(std::size_t l, std::size_t m, std::complex<float>* sums) const {
  const auto one = [&](std::size_t path) -> PathPair::One {
    const std::size_t at = path * vectors_ * plan_.group * lanes_;
    return {real_.data() + at, imag_.data() + at, delay_.data() + path * lanes_,
            later_.data() + path * (vectors_ - 1) * lanes_};
  };
  const DelayProfile& profile = plan_.profile;
  kernels().pair_sums({one(l), one(m), vectors_, plan_.group, lanes_, groups_, profile.overlaps(), profile.shifts(),
                       profile.no_shift()},
                      reinterpret_cast<float*>(sums));
}

}  // namespace wavefix
