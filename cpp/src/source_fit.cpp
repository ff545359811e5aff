// SPDX-License-Identifier: Apache-2.0
#include "wavefix/source_fit.hpp"

#include <memory>
#include <string>
#include <vector>

#include "source_rays.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

constexpr std::size_t block = 256;  // candidates an item

struct Worker {
  explicit Worker(const Measurement& measurement)
      : rays(measurement.frequencies), re(rays.padded_count()), im(rays.padded_count()) {}
  RayPhasors rays;
  std::vector<float> re, im;
};

std::vector<std::unique_ptr<Worker>> workers_for(const Measurement& measurement, const Execution& execution) {
  std::vector<std::unique_ptr<Worker>> workers;
  const int count = thread_count(measurement.positions.shape[0], execution.threads);
  for (int worker = 0; worker < count; ++worker) workers.push_back(std::make_unique<Worker>(measurement));
  return workers;
}

template <class T>
void require(const char* name, View<T, 3> view, std::array<std::size_t, 3> shape) {
  if (view.shape != shape) throw_shape(name, "shape " + shape_text(shape), shape_text(view.shape));
}

}  // namespace

void source_accumulate(const Measurement& measurement, const SourceGeometry& sources, View<const cfloat, 3> amplitudes,
                       View<cfloat, 3> channels, const Execution& execution) {
  const std::size_t n = measurement.positions.shape[0], antennas = measurement.offsets.shape[0];
  const std::size_t tones = measurement.frequencies.shape[0], count = sources.positions.shape[0];
  require("amplitudes", amplitudes, {n, antennas, count});
  require("channels", channels, {n, antennas, tones});
  auto workers = workers_for(measurement, execution);
  parallel_for(n, execution, [&](std::size_t row, int index) {
    Worker& worker = *workers[static_cast<std::size_t>(index)];
    const double* user = measurement.positions.row(row);
    for (std::size_t j = 0; j < antennas; ++j) {
      const cfloat* amplitude = amplitudes.row(row) + j * count;
      std::fill(worker.re.begin(), worker.re.end(), 0.0f), std::fill(worker.im.begin(), worker.im.end(), 0.0f);
      for (std::size_t l = 0; l < count; ++l) {
        if (amplitude[l] == cfloat(0.0f)) continue;
        const Ray ray = ray_of(user, sources.positions.row(l), sources.rotations.row(l), measurement.offsets.row(j));
        worker.rays.set(ray.distance);
        worker.rays.add(amplitude[l], worker.re.data(), worker.im.data());
      }
      cfloat* out = channels.row(row) + j * tones;
      for (std::size_t k = 0; k < tones; ++k) out[k] += cfloat(worker.re[k], worker.im[k]);
    }
  });
}

void source_project(const Measurement& measurement, const SourceGeometry& sources, View<const cfloat, 3> channels,
                    View<cfloat, 3> out, const Execution& execution) {
  const std::size_t n = measurement.positions.shape[0], antennas = measurement.offsets.shape[0];
  const std::size_t tones = measurement.frequencies.shape[0], count = sources.positions.shape[0];
  require("channels", channels, {n, antennas, tones});
  require("out", out, {count, n, antennas});
  auto workers = workers_for(measurement, execution);
  parallel_for(n, execution, [&](std::size_t row, int index) {
    Worker& worker = *workers[static_cast<std::size_t>(index)];
    const double* user = measurement.positions.row(row);
    for (std::size_t j = 0; j < antennas; ++j) {
      const cfloat* from = channels.row(row) + j * tones;
      for (std::size_t k = 0; k < tones; ++k) worker.re[k] = from[k].real(), worker.im[k] = from[k].imag();
      for (std::size_t l = 0; l < count; ++l) {
        const Ray ray = ray_of(user, sources.positions.row(l), sources.rotations.row(l), measurement.offsets.row(j));
        worker.rays.set(ray.distance);
        out.data[(l * n + row) * antennas + j] = worker.rays.project(worker.re.data(), worker.im.data());
      }
    }
  });
}

void source_scores(View<const double, 2> positions, View<const cfloat, 1> values, View<const double, 2> candidates,
                   double frequency, View<double, 1> out, const Execution& execution) {
  const std::size_t n = positions.shape[0], count = candidates.shape[0];
  const double wavenumber = frequency / speed_of_light;
  parallel_for((count + block - 1) / block, execution, [&](std::size_t item, int) {
    std::vector<double> turns(n), cosine(n), sine(n);
    for (std::size_t i = item * block; i < std::min(count, (item + 1) * block); ++i) {
      const double* source = candidates.row(i);
      for (std::size_t row = 0; row < n; ++row) {
        const double* user = positions.row(row);
        const double x = user[0] - source[0], y = user[1] - source[1], z = user[2] - source[2];
        turns[row] = wavenumber * std::sqrt(x * x + y * y + z * z);
      }
      kernels().unit_phasors(turns.data(), n, cosine.data(), sine.data());
      double real = 0.0, imag = 0.0;
      for (std::size_t row = 0; row < n; ++row) {
        const double re = values.data[row].real(), im = values.data[row].imag();
        real += re * cosine[row] - im * sine[row];
        imag += re * sine[row] + im * cosine[row];
      }
      out.data[i] = real * real + imag * imag;
    }
  });
}

}  // namespace wavefix
