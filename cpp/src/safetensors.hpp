// SPDX-License-Identifier: Apache-2.0
// Strict reader of the safetensors format: 8 bytes of header length, a JSON header, the tensors without gaps.
// Every rule of the format is checked before a value is used, so hostile bytes end in a ModelFormatError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "wavefix/channel_model.hpp"

namespace wavefix::safetensors {

inline constexpr std::size_t max_header_bytes = std::size_t{1} << 20;
inline constexpr std::size_t max_file_bytes = ChannelModel::max_bytes;
inline constexpr std::size_t max_dimensions = 8;

enum class Dtype { f32, f64, i32 };

/// One entry of the header.
struct Entry {
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  ///< bytes, from the end of the header
  std::uint64_t end = 0;
};

struct Header {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Entry> entries;
};

/// The JSON header: an object of entries and at most one "__metadata__". Nothing else of JSON is accepted.
Header parse_header(const std::string& text);

struct Tensor {
  Dtype dtype = Dtype::f32;
  std::vector<std::size_t> shape;
  std::vector<double> values;  ///< finite; float32 and int32 are exact as doubles

  std::size_t extent(std::size_t axis) const { return shape.at(axis); }
};

struct File {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Tensor> tensors;
};

/// Parses and copies; `data` may have any alignment and is not needed afterwards.
File parse(const void* data, std::size_t size);

}  // namespace wavefix::safetensors
