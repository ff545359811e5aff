// SPDX-License-Identifier: Apache-2.0
#include "delay_profile.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "angles.hpp"
#include "wavefix/error.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {
namespace {

constexpr double most_nodes = 4096.0;  // a delay beyond the table is taken to its end
constexpr std::size_t most_values = std::size_t{1} << 26;

}  // namespace

DelayProfile::DelayProfile(const ModelCommon& common, double earliest, double latest) : antennas_(common.n_antennas()) {
  const auto& frequencies = common.frequencies;
  const auto [lowest, highest] = std::minmax_element(frequencies.begin(), frequencies.end());
  const double bandwidth = *highest - *lowest;
  step_ = bandwidth > 0.0 ? 1.0 / (oversampling * bandwidth) : 1.0;
  rate_ = 1.0 / step_;
  if (!std::isfinite(rate_) || !std::isfinite(latest - earliest)) {
    throw Error("float_fix: a bandwidth or delays beyond the range of numbers");
  }
  nodes_ = static_cast<std::size_t>(std::min(std::ceil((latest - earliest) / step_) + 5.0, most_nodes));
  earliest_ = earliest - 2.0 * step_;
  const std::size_t subcarriers = frequencies.size();
  if (subcarriers > most_values / nodes_) {
    throw Error("float_fix: a table of " + std::to_string(nodes_) + " delays by " + std::to_string(subcarriers) +
                " subcarriers is more than is supported");
  }
  transform_ = PackedMatrix<float>(2 * nodes_, 2 * subcarriers);
  for (std::size_t node = 0; node < nodes_; ++node) {
    checkpoint();
    for (std::size_t k = 0; k < subcarriers; ++k) {
      const double turns = (frequencies[k] - common.center_frequency) * (earliest_ + step_ * static_cast<double>(node));
      const auto c = static_cast<float>(std::cos(tau * turns)), s = static_cast<float>(std::sin(tau * turns));
      transform_.at(2 * node, 2 * k) = transform_.at(2 * node + 1, 2 * k + 1) = c;
      transform_.at(2 * node, 2 * k + 1) = -s;
      transform_.at(2 * node + 1, 2 * k) = s;
    }
  }
  const auto last = static_cast<double>(nodes_ + 2);
  for (double shift = -last; shift <= last; shift += 1.0) {
    checkpoint();
    cdouble sum[3] = {};
    for (const double frequency : frequencies) {
      const double rate = -tau * (frequency - common.center_frequency) * step_;
      const cdouble term = std::polar(1.0, rate * shift);
      sum[0] += term;
      sum[1] += cdouble(0.0, rate) * term;
      sum[2] -= rate * rate * term;
    }
    for (const cdouble& part : sum) {
      overlaps_.push_back(static_cast<float>(part.real()));
      overlaps_.push_back(static_cast<float>(part.imag()));
    }
    overlaps_.resize(overlaps_.size() + overlap_width - 6);
  }
}

void DelayProfile::transform(const cfloat* channel, float* profile) const {
  const std::size_t row = transform_.depth();
  transform_.multiply(reinterpret_cast<const float*>(channel), antennas_, row, profile, 2 * nodes_);
}

}  // namespace wavefix
