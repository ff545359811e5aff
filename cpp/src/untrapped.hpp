// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cfenv>

namespace wavefix {

/// A host that turns floating-point errors into signals wants to hear of its own, not of the NaN and Inf that are
/// answers here, nor of lanes that a vector loop computes and drops. While one of these lives, the thread has no traps;
/// then it has the environment from before, flags included. Rounding and denormals stay as the host has them.
class Untrapped {
 public:
  Untrapped() : outermost_(!untrapped_) {
    if (outermost_) std::feholdexcept(&before_);
    untrapped_ = true;
  }
  Untrapped(const Untrapped&) = delete;
  Untrapped& operator=(const Untrapped&) = delete;
  ~Untrapped() {
    if (!outermost_) return;
    std::fesetenv(&before_);
    untrapped_ = false;
  }

 private:
  static thread_local bool untrapped_;
  const bool outermost_;
  std::fenv_t before_{};
};

}  // namespace wavefix
