// SPDX-License-Identifier: Apache-2.0
#include "safetensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "wavefix/error.hpp"

namespace wavefix::safetensors {
namespace {

[[noreturn]] void fail(const std::string& what) { throw ModelFormatError("safetensors file: " + what); }

std::uint64_t little_endian(const unsigned char* bytes) {
  std::uint64_t value = 0;
  for (int index = 7; index >= 0; --index) value = (value << 8) | bytes[index];
  return value;
}

/// Bytes of an entry by its dtype and shape; a product that overflows is an error.
std::uint64_t bytes_of(const std::string& name, const Entry& entry) {
  std::uint64_t bytes = 0;
  if (entry.dtype == "F32" || entry.dtype == "I32") bytes = 4;
  if (entry.dtype == "F64") bytes = 8;
  if (bytes == 0) fail("tensor \"" + name + "\" has dtype " + entry.dtype + ", expected F32, F64 or I32");
  for (const std::uint64_t extent : entry.shape) {
    if (extent != 0 && bytes > std::numeric_limits<std::uint64_t>::max() / extent) {
      fail("tensor \"" + name + "\" has a shape whose size overflows");
    }
    bytes *= extent;
  }
  return bytes;
}

/// Each entry's size fits its shape, and together they cover the buffer once, without gap or overlap.
void check_layout(const Header& header, std::uint64_t buffer_bytes) {
  std::vector<std::pair<const std::string*, const Entry*>> order;
  for (const auto& [name, entry] : header.entries) {
    if (entry.begin > entry.end || entry.end > buffer_bytes) {
      fail("tensor \"" + name + "\" lies outside the file: bytes " + std::to_string(entry.begin) + " to " +
           std::to_string(entry.end) + " of " + std::to_string(buffer_bytes));
    }
    if (entry.end - entry.begin != bytes_of(name, entry)) {
      fail("tensor \"" + name + "\" has " + std::to_string(entry.end - entry.begin) + " bytes, its shape needs " +
           std::to_string(bytes_of(name, entry)));
    }
    order.emplace_back(&name, &entry);
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a.second->begin, a.second->end) < std::make_pair(b.second->begin, b.second->end);
  });
  std::uint64_t covered = 0;
  for (const auto& [name, entry] : order) {
    if (entry->begin != covered) {
      fail("tensor \"" + *name + (entry->begin < covered ? "\" overlaps another one" : "\" follows a gap"));
    }
    covered = entry->end;
  }
  if (covered != buffer_bytes) {
    fail("the tensors end at byte " + std::to_string(covered) + " of " + std::to_string(buffer_bytes) +
         " after the header");
  }
}

template <class T>
void copy_values(const std::string& name, const unsigned char* bytes, std::vector<double>& values) {
  for (std::size_t index = 0; index < values.size(); ++index) {
    T value;
    std::memcpy(&value, bytes + index * sizeof(T), sizeof(T));  // the buffer may have any alignment
    if (!std::isfinite(static_cast<double>(value))) {
      fail("tensor \"" + name + "\" has a value that is not finite, at index " + std::to_string(index));
    }
    values[index] = static_cast<double>(value);
  }
}

Tensor read_tensor(const std::string& name, const Entry& entry, const unsigned char* buffer) {
  Tensor tensor;
  tensor.dtype = entry.dtype == "F64" ? Dtype::f64 : entry.dtype == "I32" ? Dtype::i32 : Dtype::f32;
  tensor.shape.assign(entry.shape.begin(), entry.shape.end());
  const std::uint64_t bytes = entry.end - entry.begin;
  tensor.values.resize(static_cast<std::size_t>(bytes / (tensor.dtype == Dtype::f64 ? 8 : 4)));
  if (tensor.dtype == Dtype::f64) copy_values<double>(name, buffer + entry.begin, tensor.values);
  if (tensor.dtype == Dtype::f32) copy_values<float>(name, buffer + entry.begin, tensor.values);
  if (tensor.dtype == Dtype::i32) copy_values<std::int32_t>(name, buffer + entry.begin, tensor.values);
  return tensor;
}

}  // namespace

File parse(const void* data, std::size_t size) {
  if (size > max_file_bytes) {
    fail("larger than " + std::to_string(max_file_bytes) + " bytes: " + std::to_string(size));
  }
  if (size < 8) fail("shorter than the 8 bytes of the header length: " + std::to_string(size) + " bytes");
  const auto* bytes = static_cast<const unsigned char*>(data);
  const std::uint64_t header_bytes = little_endian(bytes);
  if (header_bytes > max_header_bytes) {
    fail("the header claims " + std::to_string(header_bytes) + " bytes, at most " + std::to_string(max_header_bytes) +
         " are accepted");
  }
  if (header_bytes > size - 8) {
    fail("truncated: the header claims " + std::to_string(header_bytes) + " bytes, " + std::to_string(size - 8) +
         " are there");
  }
  const std::string text(reinterpret_cast<const char*>(bytes + 8), static_cast<std::size_t>(header_bytes));
  Header header = parse_header(text);
  const unsigned char* buffer = bytes + 8 + header_bytes;
  check_layout(header, size - 8 - header_bytes);
  File file;
  file.metadata = std::move(header.metadata);
  for (const auto& [name, entry] : header.entries) file.tensors.emplace(name, read_tensor(name, entry, buffer));
  return file;
}

}  // namespace wavefix::safetensors
