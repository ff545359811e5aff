// SPDX-License-Identifier: Apache-2.0
#include "wavefix/channel_model.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "packed_matrix.hpp"
#include "wavefix/error.hpp"

namespace {

using wavefix::cdouble;
using wavefix::cfloat;
using wavefix::ChannelModel;

constexpr double pi = 3.14159265358979323846;

struct Entry {
  std::vector<std::size_t> shape;
  std::vector<double> values;
  bool single = false;  // F32
};

std::string file_of(const std::map<std::string, Entry>& entries) {
  std::string header = R"({"__metadata__":{"format":"wavefix","format_version":"1","kind":"planar",)"
                       R"("units":"m,s,Hz,rad","activation":"silu"})";
  std::string buffer;
  for (const auto& [name, entry] : entries) {
    header += ",\"" + name + "\":{\"dtype\":\"" + (entry.single ? "F32" : "F64") + "\",\"shape\":[";
    for (std::size_t axis = 0; axis < entry.shape.size(); ++axis) {
      header += (axis ? "," : "") + std::to_string(entry.shape[axis]);
    }
    header += "],\"data_offsets\":[" + std::to_string(buffer.size()) + ",";
    for (const double value : entry.values) {
      const auto narrow = static_cast<float>(value);
      buffer.append(entry.single ? reinterpret_cast<const char*>(&narrow) : reinterpret_cast<const char*>(&value),
                    entry.single ? 4 : 8);
    }
    header += std::to_string(buffer.size()) + "]}";
  }
  header += "}";
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>((header.size() >> shift) & 0xFF);
  return bytes + header + buffer;
}

/// One atom whose networks are affine: L = 20 + 3 xi, slope = 0.5 + 0.1 xi, z = (2 + xi) + 1j, on the segment
/// x = -1 ... 1 m of the first axis.
std::map<std::string, Entry> one_atom() {
  const std::vector<std::size_t> one{1}, square{1, 1};
  return {{"antenna_positions", {{3, 3}, {0, 5, 0, 0, 5.04, 0, 0, 5.08, 0}}},
          {"frequencies", {{2}, {3.49e9, 3.51e9}}},
          {"region.origin", {{3}, {0, 0, 0}}},
          {"region.basis", {{1, 3}, {1, 0, 0}}},
          {"region.lower", {one, {-1}}},
          {"region.upper", {one, {1}}},
          {"validation_nmse", {one, {0.001}}},
          {"location.directions", {{1, 3}, {0.6, 0.8, 0}}},
          {"antenna.basis", {{1, 3}, {0, 1, 0}}},
          {"delay.0.weight", {square, {3}, true}},
          {"delay.0.bias", {one, {20}, true}},
          {"antenna.0.weight", {square, {0.1}, true}},
          {"antenna.0.bias", {one, {0.5}, true}},
          {"weight.0.weight_real", {square, {1}, true}},
          {"weight.0.weight_imag", {square, {0}, true}},
          {"weight.0.bias_real", {one, {2}, true}},
          {"weight.0.bias_imag", {one, {1}, true}},
          {"weight.scale", {one, {0.25}}}};
}

cdouble expected(double x, double y, int antenna, int subcarrier) {
  const double wavelength = wavefix::speed_of_light / 3.5e9, offset = 0.04 * (antenna - 1);
  const double slope = static_cast<double>(0.5f) + static_cast<double>(0.1f) * x;
  const double baseband = subcarrier == 0 ? -1e7 : 1e7;
  const double phase = 2 * pi / wavelength * (slope * offset - (0.6 * x + 0.8 * y)) -
                       2 * pi * baseband * (20 + 3 * x) / wavefix::speed_of_light;
  return 0.25 * cdouble(2 + x, 1) * std::polar(1.0, phase);
}

ChannelModel model_of(const std::string& bytes) { return ChannelModel::from_bytes(bytes.data(), bytes.size()); }

TEST_CASE("one atom with affine networks has its closed form and its slope") {
  const auto model = model_of(file_of(one_atom()));
  CHECK(model.kind() == "planar");
  CHECK(model.n_antennas() == 3);
  CHECK(model.n_subcarriers() == 2);
  CHECK(model.n_atoms() == 1);
  CHECK(model.region().dimension() == 1);
  const auto workspace = model.make_workspace();
  for (const double x : {-0.9, 0.0, 0.37}) {
    const double position[3] = {x, 0.2, 7};
    cfloat channel[6], jacobian[18];
    model.synthesize_one(position, channel, jacobian, *workspace);
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 2; ++k) {
        const double h = 1e-5;
        const cdouble by_x = (expected(x + h, 0.2, j, k) - expected(x - h, 0.2, j, k)) / (2 * h);
        const cdouble by_y = (expected(x, 0.2 + h, j, k) - expected(x, 0.2 - h, j, k)) / (2 * h);
        CHECK(std::abs(cdouble(channel[2 * j + k]) - expected(x, 0.2, j, k)) < 1e-6);
        CHECK(std::abs(cdouble(jacobian[2 * j + k]) - by_x) < 1e-4);
        CHECK(std::abs(cdouble(jacobian[6 + 2 * j + k]) - by_y) < 1e-4);
        CHECK(std::abs(jacobian[12 + 2 * j + k]) < 1e-6);
      }
    }
  }
}

TEST_CASE("a batch has the bits of single positions") {
  const auto model = model_of(file_of(one_atom()));
  std::vector<double> positions;
  for (int index = 0; index < 3 * 21; ++index) positions.push_back(0.01 * index - 0.3);
  std::vector<cfloat> channels(21 * 6), jacobian(21 * 18), channel(6), slope(18);
  for (const int threads : {1, 2}) {
    model.synthesize({positions.data(), {21, 3}}, {channels.data(), {21, 3, 2}}, {jacobian.data(), {21, 3, 3, 2}},
                     {threads, {}});
    const auto workspace = model.make_workspace();
    for (std::size_t index = 0; index < 21; ++index) {
      model.synthesize_one(&positions[3 * index], channel.data(), slope.data(), *workspace);
      CHECK(std::memcmp(channel.data(), &channels[6 * index], 6 * sizeof(cfloat)) == 0);
      CHECK(std::memcmp(slope.data(), &jacobian[18 * index], 18 * sizeof(cfloat)) == 0);
    }
  }
}

TEST_CASE("bad arguments and bad files have their exceptions") {
  const auto model = model_of(file_of(one_atom()));
  double position[3] = {0, 0, 0};
  cfloat channel[6];
  CHECK_THROWS_AS(model.synthesize({position, {1, 3}}, {channel, {1, 2, 3}}), wavefix::ShapeError);
  CHECK_THROWS_AS(model.synthesize({position, {1, 2}}, {channel, {1, 3, 2}}), wavefix::ShapeError);
  position[1] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(model.synthesize({position, {1, 3}}, {channel, {1, 3, 2}}), wavefix::DataError);
  CHECK_THROWS_AS(ChannelModel::load("no such file"), wavefix::Error);
  CHECK_THROWS_AS(ChannelModel::load("."), wavefix::Error);
#if defined(__linux__)
  CHECK_THROWS_WITH_AS(ChannelModel::load("/proc/self/cmdline"), doctest::Contains("header"),
                       wavefix::ModelFormatError);
#endif
  for (const auto& [name, entry] : one_atom()) {
    auto entries = one_atom();
    entries.erase(name);
    CHECK_THROWS_AS(model_of(file_of(entries)), wavefix::ModelFormatError);
    entries = one_atom();
    entries[name].shape.push_back(1);
    CHECK_THROWS_AS(model_of(file_of(entries)), wavefix::ModelFormatError);
  }
}

TEST_CASE("unit_phasors is accurate on and between quarter turns") {
  std::vector<double> turns;
  for (int index = -4000; index <= 4000; ++index) turns.push_back(index / 1000.0);
  for (const double whole : {1e3, -1e6, 1e9}) turns.push_back(whole + 0.25);
  std::vector<double> real(turns.size()), imag(turns.size());
  const wavefix::Kernels* levels[wavefix::most_levels];
  for (std::size_t level = wavefix::usable_kernels(levels); level-- > 0;) {
    CAPTURE(levels[level]->level);
    levels[level]->unit_phasors(turns.data(), turns.size(), real.data(), imag.data());
    for (std::size_t index = 0; index < turns.size(); ++index) {
      const double angle = 2 * pi * (turns[index] - std::round(turns[index]));
      CHECK(std::abs(real[index] - std::cos(angle)) < 4e-16);
      CHECK(std::abs(imag[index] - std::sin(angle)) < 4e-16);
    }
    // Nearly the last numbers of turns that tell a phase, and what says nothing of one.
    const double edge = 0x1p49, last = edge - 1.3125, infinity = std::numeric_limits<double>::infinity();
    for (const double number : {last, -last}) {
      levels[level]->unit_phasors(&number, 1, real.data(), imag.data());
      const double angle = 2 * pi * (number - std::round(number));
      CHECK(std::abs(real[0] - std::cos(angle)) < 4e-16);
      CHECK(std::abs(imag[0] - std::sin(angle)) < 4e-16);
    }
    for (const double number : {1.001 * edge, -1.001 * edge, 2 * edge, 1e20, -1e300, infinity, -infinity}) {
      levels[level]->unit_phasors(&number, 1, real.data(), imag.data());
      CHECK(std::isnan(real[0]));
      CHECK(std::isnan(imag[0]));
    }
  }
}

TEST_CASE_TEMPLATE("a packed product does not depend on the number of columns", T, float, double) {
  constexpr std::size_t rows = 37, depth = 19, count = 11, gap = 3, split = 8, stride = depth + gap + 2;
  wavefix::PackedMatrix<T> matrix(rows, depth);
  std::vector<T> columns(count * stride);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t level = 0; level < depth; ++level) {
      matrix.at(row, level) = static_cast<T>(std::sin(1.0 + static_cast<double>(row * depth + level)));
    }
  }
  for (std::size_t index = 0; index < columns.size(); ++index) {
    columns[index] = static_cast<T>(std::cos(static_cast<double>(index)));
  }
  std::vector<T> together(count * rows), alone(rows);
  matrix.multiply(columns.data(), count, stride, together.data(), rows, split, gap);
  for (std::size_t c = 0; c < count; ++c) {
    matrix.multiply(columns.data() + c * stride, 1, stride, alone.data(), rows, split, gap);
    for (std::size_t row = 0; row < rows; ++row) {
      double sum = 0;
      for (std::size_t level = 0; level < depth; ++level) {
        const std::size_t place = level < split ? level : level + gap;
        sum += static_cast<double>(matrix.at(row, level)) * static_cast<double>(columns[c * stride + place]);
      }
      CHECK(std::abs(static_cast<double>(together[c * rows + row]) - sum) < 1e-5);
      CHECK(alone[row] == together[c * rows + row]);
    }
  }
}

TEST_CASE("every level computes the same products, to rounding") {
  constexpr std::size_t rows = 90, depth = 33, count = 15;
  wavefix::PackedMatrix<float> matrix(rows, depth);
  std::vector<float> columns(count * depth);
  for (std::size_t index = 0; index < rows * depth; ++index) {
    matrix.at(index / depth, index % depth) = std::sin(static_cast<float>(index));
  }
  for (std::size_t index = 0; index < columns.size(); ++index) columns[index] = std::cos(static_cast<float>(index));
  const wavefix::Kernels* levels[wavefix::most_levels];
  const std::size_t usable = wavefix::usable_kernels(levels);
  std::vector<std::vector<float>> results;
  for (std::size_t level = 0; level < usable; ++level) {
    std::vector<float> out(count * rows), planes(count * rows);
    levels[level]->multiply_float(
        {matrix.lanes(0, 0), rows, depth, depth, 0, columns.data(), count, depth, out.data(), rows});
    levels[level]->multiply_planes(out.data(), out.data() + 10, 600, 600, planes.data());
    out.insert(out.end(), planes.begin(), planes.end());
    results.push_back(out);
  }
  for (const auto& result : results) {
    for (std::size_t index = 0; index < result.size(); ++index) {
      CHECK(std::abs(result[index] - results[0][index]) < 1e-3f);
    }
  }
}

}  // namespace
