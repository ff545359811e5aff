// SPDX-License-Identifier: Apache-2.0
// A model file written by hand: networks that ignore the position, so that (2) has a closed form.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

/// Collects tensors and lays them out as safetensors: length of the header, header (JSON), data.
class ModelFile {
 public:
  template <class T>
  void add(const std::string& name, const std::string& shape, const std::vector<T>& values) {
    const std::size_t begin = data_.size();
    data_.resize(begin + values.size() * sizeof(T));
    std::memcpy(data_.data() + begin, values.data(), values.size() * sizeof(T));
    header_ += ",\"" + name + "\":{\"dtype\":\"" + (sizeof(T) == 8 ? "F64" : "F32") + "\",\"shape\":[" + shape +
               "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(data_.size()) + "]}";
  }

  std::string bytes() const {
    std::string header = header_ + "}";
    while (header.size() % 8 != 0) header += ' ';
    const std::uint64_t length = header.size();
    std::string all(sizeof(length), '\0');
    std::memcpy(all.data(), &length, sizeof(length));
    return all + header + data_;
  }

 private:
  std::string header_ =
      R"({"__metadata__":{"format":"wavefix","format_version":"1","kind":"planar","units":"m,s,Hz,rad",)"
      R"("activation":"silu","training":"{}"})";
  std::string data_;
};

constexpr int n_antennas = 8, n_subcarriers = 8, n_atoms = 3;
constexpr double light = 299792458.0, carrier = 3.5e9, wavelength = light / carrier, spacing = 6e6;
constexpr double cosines[n_atoms] = {0.91, -0.37, 0.213};  // of the directions at the user, along x
constexpr float slopes[n_atoms] = {0.3F, -0.6F, 0.1F};     // of the directions at the array
constexpr float lengths[n_atoms] = {20.0F, 33.0F, 51.0F};  // m
constexpr float gains[n_atoms] = {1.0F, 0.8F, 0.9F};

inline double antenna(int j) { return (j - 0.5 * (n_antennas - 1)) * wavelength / 2; }
inline double offset(int k) { return (k - 0.5 * (n_subcarriers - 1)) * spacing; }  // from the carrier, Hz

/// A line of 2 m along x, an array along y, three atoms whose parameters do not depend on the position.
inline std::string model_file() {
  ModelFile file;
  std::vector<double> antennas, frequencies, directions;
  for (int j = 0; j < n_antennas; ++j) antennas.insert(antennas.end(), {5.0, antenna(j), 2.0});
  for (int k = 0; k < n_subcarriers; ++k) frequencies.push_back(carrier + offset(k));
  for (const double c : cosines) directions.insert(directions.end(), {c, std::sqrt(1 - c * c), 0.0});
  const std::string atoms = std::to_string(n_atoms);
  file.add<double>("antenna_positions", std::to_string(n_antennas) + ",3", antennas);
  file.add<double>("frequencies", std::to_string(n_subcarriers), frequencies);
  file.add<double>("region.origin", "3", {0.0, 0.0, 1.5});
  file.add<double>("region.basis", "1,3", {1.0, 0.0, 0.0});
  file.add<double>("region.lower", "1", {-1.0});
  file.add<double>("region.upper", "1", {1.0});
  file.add<double>("validation_nmse", "1", {1e-6});
  file.add<double>("location.directions", atoms + ",3", directions);
  file.add<double>("antenna.basis", "1,3", {0.0, 1.0, 0.0});
  file.add<double>("weight.scale", "1", {1.0});
  const std::vector<float> zeros(n_atoms, 0.0F);
  file.add<float>("delay.0.weight", atoms + ",1", zeros);
  file.add<float>("delay.0.bias", atoms, {lengths, lengths + n_atoms});
  file.add<float>("antenna.0.weight", atoms + ",1", zeros);
  file.add<float>("antenna.0.bias", atoms, {slopes, slopes + n_atoms});
  file.add<float>("weight.0.weight_real", atoms + ",1", zeros);
  file.add<float>("weight.0.weight_imag", atoms + ",1", zeros);
  file.add<float>("weight.0.bias_real", atoms, {gains, gains + n_atoms});
  file.add<float>("weight.0.bias_imag", atoms, zeros);
  return file.bytes();
}
