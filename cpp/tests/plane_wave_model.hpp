// SPDX-License-Identifier: Apache-2.0
// A planar model that is known exactly: plane waves with constant weights, built as a model file in memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "wavefix/channel_model.hpp"

namespace wavefix::testing {

inline constexpr double carrier = 3.5e9;

/// Appends tensors and writes the safetensors layout: header length, JSON header, data.
class ModelFile {
 public:
  explicit ModelFile(std::string kind = "planar") : kind_(std::move(kind)) {}

  template <class T>
  void add(const std::string& name, const std::vector<std::size_t>& shape, const std::vector<T>& values) {
    std::string extents;
    for (const std::size_t extent : shape) extents += (extents.empty() ? "" : ",") + std::to_string(extent);
    const std::size_t begin = data_.size();
    data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    header_ += ",\"" + name + "\":{\"dtype\":\"" + dtype_of(T()) + "\",\"shape\":[" + extents + "],\"data_offsets\":[" +
               std::to_string(begin) + "," + std::to_string(data_.size()) + "]}";
  }

  std::string bytes() const {
    const std::string header = R"({"__metadata__":{"format":"wavefix","format_version":"1","kind":")" + kind_ +
                               R"(","units":"m,s,Hz,rad","activation":"silu","training":"{}"})" + header_ + "}";
    const std::uint64_t length = header.size();
    std::string file(sizeof length, '\0');
    std::memcpy(file.data(), &length, sizeof length);
    return file + header + data_;
  }

 private:
  static const char* dtype_of(double) { return "F64"; }
  static const char* dtype_of(float) { return "F32"; }
  static const char* dtype_of(std::int32_t) { return "I32"; }

  std::string kind_, header_, data_;
};

inline std::string plane_wave_model_file(std::size_t antennas = 8, std::size_t subcarriers = 12, std::size_t waves = 10,
                                         double extent = 6.0) {
  std::mt19937 generator(1);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  const double wavelength = speed_of_light / carrier, half = extent * wavelength / 2.0;
  std::vector<double> positions, frequencies, directions;
  std::vector<float> delay_weight, delay_bias, slopes, real, imag;
  for (std::size_t j = 0; j < antennas; ++j) {
    positions.insert(positions.end(), {10.0, 3.0 + 0.5 * wavelength * static_cast<double>(j), 5.0});
  }
  for (std::size_t k = 0; k < subcarriers; ++k) {
    frequencies.push_back(carrier + 50e6 * (static_cast<double>(k) / static_cast<double>(subcarriers - 1) - 0.5));
  }
  for (std::size_t i = 0; i < waves; ++i) {
    double u[3] = {normal(generator), normal(generator), normal(generator)};
    const double norm = std::sqrt(u[0] * u[0] + u[1] * u[1] + u[2] * u[2]);
    for (const double component : u) directions.push_back(component / norm);
    delay_weight.insert(delay_weight.end(),
                        {static_cast<float>(u[0] / norm * half), static_cast<float>(u[1] / norm * half)});
    delay_bias.push_back(static_cast<float>(30.0 + 25.0 * uniform(generator)));
    slopes.push_back(static_cast<float>(0.9 * uniform(generator)));
    real.push_back(static_cast<float>(normal(generator)));
    imag.push_back(static_cast<float>(normal(generator)));
  }
  ModelFile file;
  file.add<double>("antenna_positions", {antennas, 3}, positions);
  file.add<double>("frequencies", {subcarriers}, frequencies);
  file.add<double>("region.origin", {3}, {1.0, 2.0, 1.5});
  file.add<double>("region.basis", {2, 3}, {1.0, 0.0, 0.0, 0.0, 1.0, 0.0});
  file.add<double>("region.lower", {2}, {-half, -half});
  file.add<double>("region.upper", {2}, {half, half});
  file.add<double>("validation_nmse", {1}, {1e-6});
  file.add<double>("location.directions", {waves, 3}, directions);
  file.add<double>("antenna.basis", {1, 3}, {0.0, 1.0, 0.0});
  file.add<float>("delay.0.weight", {waves, 2}, delay_weight);
  file.add<float>("delay.0.bias", {waves}, delay_bias);
  file.add<float>("antenna.0.weight", {waves, 2}, std::vector<float>(2 * waves));
  file.add<float>("antenna.0.bias", {waves}, slopes);
  file.add<float>("weight.0.weight_real", {waves, 2}, std::vector<float>(2 * waves));
  file.add<float>("weight.0.weight_imag", {waves, 2}, std::vector<float>(2 * waves));
  file.add<float>("weight.0.bias_real", {waves}, real);
  file.add<float>("weight.0.bias_imag", {waves}, imag);
  file.add<double>("weight.scale", {1}, {1e-4});
  return file.bytes();
}

inline ChannelModel plane_wave_model(std::size_t antennas = 8, std::size_t subcarriers = 12, std::size_t waves = 10,
                                     double extent = 6.0) {
  const std::string bytes = plane_wave_model_file(antennas, subcarriers, waves, extent);
  return ChannelModel::from_bytes(bytes.data(), bytes.size());
}

/// Positions [n, 3] within the inner 80 % of the model's region.
inline std::vector<double> random_positions(const ChannelModel& model, std::size_t n, unsigned seed = 0) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(-0.8, 0.8);
  std::vector<double> positions;
  for (std::size_t row = 0; row < n; ++row) {
    const Region& region = model.region();
    positions.insert(positions.end(), {region.origin[0] + uniform(generator) * region.upper[0],
                                       region.origin[1] + uniform(generator) * region.upper[1], region.origin[2]});
  }
  return positions;
}

inline std::vector<cfloat> synthesize(const ChannelModel& model, const std::vector<double>& positions) {
  const std::size_t n = positions.size() / 3;
  std::vector<cfloat> channels(n * model.n_antennas() * model.n_subcarriers());
  model.synthesize(View<const double, 2>(positions.data(), {n, 3}),
                   View<cfloat, 3>(channels.data(), {n, model.n_antennas(), model.n_subcarriers()}));
  return channels;
}

}  // namespace wavefix::testing
