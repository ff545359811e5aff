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

constexpr std::size_t motions = 6;  // of a source: its position and its rotation

/// e^(-j 2 pi f_k d / c): where the subcarriers are equally spaced, products of two short tables, one of `width` steps.
class RayPhasors {
 public:
  explicit RayPhasors(View<const double, 1> frequencies) : count_(frequencies.shape[0]) {
    equal_ = count_ > 2;
    const double step = count_ > 1 ? frequencies.data[1] - frequencies.data[0] : 0.0;
    for (std::size_t k = 0; k < count_; ++k) {
      const double linear = frequencies.data[0] + step * static_cast<double>(k);
      equal_ = equal_ && std::abs(frequencies.data[k] - linear) < 1e-9 * std::abs(frequencies.data[k]) * 1e-3;
      wavenumbers_.push_back(frequencies.data[k] / speed_of_light);
    }
    if (equal_) {
      const double first = wavenumbers_[0], length = (wavenumbers_[count_ - 1] - first) / double(count_ - 1);
      wavenumbers_.clear();
      for (std::size_t b = 0; b < width; ++b) wavenumbers_.push_back(length * double(b));
      for (std::size_t k = 0; k < count_; k += width) wavenumbers_.push_back(first + length * double(k));
    }
    const std::size_t entries = wavenumbers_.size();
    turns_.resize(entries), cosine_.resize(entries), sine_.resize(entries);
    re_.resize(entries + width), im_.resize(entries + width);  // read in whole widths
  }

  /// The size of planes of phasors or channels: the number of subcarriers in whole widths.
  std::size_t padded_count() const { return (count_ + width - 1) / width * width; }

  void set(double distance) {
    const std::size_t entries = wavenumbers_.size();
    for (std::size_t i = 0; i < entries; ++i) turns_[i] = -wavenumbers_[i] * distance;
    kernels().unit_phasors(turns_.data(), entries, cosine_.data(), sine_.data());
    for (std::size_t i = 0; i < entries; ++i) re_[i] = static_cast<float>(cosine_[i]);
    for (std::size_t i = 0; i < entries; ++i) im_[i] = static_cast<float>(sine_[i]);
  }

  /// sums += amplitude times the phasors.
  void add(cfloat amplitude, float* __restrict sum_re, float* __restrict sum_im) const {
    const float real = amplitude.real(), imag = amplitude.imag();
    for (std::size_t k = 0; k < padded_count(); k += width) {
      const cfloat lead = lead_at(k);
      const float* re = steps(re_, k);
      const float* im = steps(im_, k);
      const float lead_re = real * lead.real() - imag * lead.imag(), lead_im = real * lead.imag() + imag * lead.real();
      for (std::size_t b = 0; b < width; ++b) {
        sum_re[k + b] += lead_re * re[b] - lead_im * im[b];
        sum_im[k + b] += lead_re * im[b] + lead_im * re[b];
      }
    }
  }

  /// Sum of the conjugate phasors times a channel, whose planes are zero from the last subcarrier on.
  cfloat project(const float* channel_re, const float* channel_im) const {
    float sum_re[width] = {}, sum_im[width] = {};
    for (std::size_t k = 0; k < padded_count(); k += width) {
      const cfloat lead = lead_at(k);
      const float* re = steps(re_, k);
      const float* im = steps(im_, k);
      for (std::size_t b = 0; b < width; ++b) {
        const float phase_re = lead.real() * re[b] - lead.imag() * im[b];
        const float phase_im = lead.real() * im[b] + lead.imag() * re[b];
        sum_re[b] += phase_re * channel_re[k + b] + phase_im * channel_im[k + b];
        sum_im[b] += phase_re * channel_im[k + b] - phase_im * channel_re[k + b];
      }
    }
    for (std::size_t b = 1; b < width; ++b) sum_re[0] += sum_re[b], sum_im[0] += sum_im[b];
    return {sum_re[0], sum_im[0]};
  }

 private:
  static constexpr std::size_t width = 16;

  cfloat lead_at(std::size_t k) const {
    return equal_ ? cfloat(re_[width + k / width], im_[width + k / width]) : cfloat(1.0f);
  }
  const float* steps(const std::vector<float>& table, std::size_t k) const { return table.data() + (equal_ ? 0 : k); }

  std::size_t count_;
  bool equal_ = false;
  std::vector<double> wavenumbers_, turns_, cosine_, sine_;
  std::vector<float> re_, im_;
};

/// A ray from the source of one antenna to a user.
struct Ray {
  std::array<double, 3> arm{}, from{}, direction{};  // rotation * offset; where it begins; unit vector to the user
  double distance = 0.0;
};

inline Ray ray_of(const double* user, const double* source, const double* rotation, const double* offset) {
  Ray ray;
  double square = 0.0;
  for (std::size_t c = 0; c < 3; ++c) {
    ray.arm[c] = rotation[3 * c] * offset[0] + rotation[3 * c + 1] * offset[1] + rotation[3 * c + 2] * offset[2];
    ray.from[c] = source[c] + ray.arm[c];
    ray.direction[c] = user[c] - ray.from[c];
    square += ray.direction[c] * ray.direction[c];
  }
  ray.distance = std::sqrt(square);
  for (double& value : ray.direction) value /= ray.distance > 0.0 ? ray.distance : 1.0;
  return ray;
}

}  // namespace wavefix
