// SPDX-License-Identifier: Apache-2.0
// Phasors of one ray over the subcarriers, in planes.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

/// Tables for e^(-j 2 pi f_k d / c): two short ones multiplied where the subcarriers are equally spaced.
class RayPhasors {
 public:
  explicit RayPhasors(View<const double, 1> frequencies) : count_(frequencies.shape[0]) {
    columns_ = 1;
    equal_ = count_ > 2;
    const double step = count_ > 1 ? frequencies.data[1] - frequencies.data[0] : 0.0;
    for (std::size_t k = 0; k < count_; ++k) {
      const double linear = frequencies.data[0] + step * static_cast<double>(k);
      equal_ = equal_ && std::abs(frequencies.data[k] - linear) < 1e-9 * std::abs(frequencies.data[k]) * 1e-3;
      wavenumbers_.push_back(frequencies.data[k] / speed_of_light);
    }
    if (equal_) {
      while (columns_ * columns_ < count_) ++columns_;
      rows_ = (count_ + columns_ - 1) / columns_;
    }
    const std::size_t entries = equal_ ? rows_ + columns_ : count_;
    turns_.resize(entries), cosine_.resize(entries), sine_.resize(entries);
  }

  std::size_t count() const { return count_; }

  void fill(double distance, float* re, float* im) {
    if (!equal_) {
      for (std::size_t k = 0; k < count_; ++k) turns_[k] = -wavenumbers_[k] * distance;
      kernels().unit_phasors(turns_.data(), count_, cosine_.data(), sine_.data());
      for (std::size_t k = 0; k < count_; ++k)
        re[k] = static_cast<float>(cosine_[k]), im[k] = static_cast<float>(sine_[k]);
      return;
    }
    const double step = (wavenumbers_[count_ - 1] - wavenumbers_[0]) / static_cast<double>(count_ - 1);
    for (std::size_t a = 0; a < rows_; ++a) {
      turns_[a] = -(wavenumbers_[0] + step * static_cast<double>(a * columns_)) * distance;
    }
    for (std::size_t b = 0; b < columns_; ++b) turns_[rows_ + b] = -step * static_cast<double>(b) * distance;
    kernels().unit_phasors(turns_.data(), rows_ + columns_, cosine_.data(), sine_.data());
    const double *cosine = cosine_.data() + rows_, *sine = sine_.data() + rows_;
    for (std::size_t a = 0; a < rows_; ++a) {
      const std::size_t first = a * columns_, last = first + columns_ < count_ ? columns_ : count_ - first;
      for (std::size_t b = 0; b < last; ++b) {
        re[first + b] = static_cast<float>(cosine_[a] * cosine[b] - sine_[a] * sine[b]);
        im[first + b] = static_cast<float>(cosine_[a] * sine[b] + sine_[a] * cosine[b]);
      }
    }
  }

 private:
  std::size_t count_, columns_ = 1, rows_ = 0;
  bool equal_ = false;
  std::vector<double> wavenumbers_, turns_, cosine_, sine_;
};

/// A ray from the source of one antenna to a user.
struct Ray {
  std::array<double, 3> arm{}, direction{};  // rotation * offset; unit vector from source to user
  double distance = 0.0;
};

inline Ray ray_of(const double* user, const double* source, const double* rotation, const double* offset) {
  Ray ray;
  double square = 0.0;
  for (std::size_t c = 0; c < 3; ++c) {
    ray.arm[c] = rotation[3 * c] * offset[0] + rotation[3 * c + 1] * offset[1] + rotation[3 * c + 2] * offset[2];
    ray.direction[c] = user[c] - source[c] - ray.arm[c];
    square += ray.direction[c] * ray.direction[c];
  }
  ray.distance = std::sqrt(square);
  for (double& value : ray.direction) value /= ray.distance > 0.0 ? ray.distance : 1.0;
  return ray;
}

}  // namespace wavefix
