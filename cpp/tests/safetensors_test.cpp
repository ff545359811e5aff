// SPDX-License-Identifier: Apache-2.0
#include "safetensors.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "wavefix/error.hpp"

namespace {

namespace st = wavefix::safetensors;

std::string packed(const std::string& header, const std::string& buffer) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>((header.size() >> shift) & 0xFF);
  return bytes + header + buffer;
}

template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

st::File parse(const std::string& bytes) { return st::parse(bytes.data(), bytes.size()); }

TEST_CASE("values, shapes and metadata of a file are read at any alignment") {
  const std::string header =
      R"({"b":{"dtype":"F64","shape":[],"data_offsets":[8,16]},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("__metadata__":{"k\u00e9y":"v\ud83d\ude00\"\n"}})";
  for (std::size_t spaces = 0; spaces < 8; ++spaces) {
    const auto file =
        parse(packed(header + std::string(spaces, ' '), bytes_of(1.5f) + bytes_of(-2.0f) + bytes_of(3.25)));
    CHECK(file.metadata.at("k\xC3\xA9y") == "v\xF0\x9F\x98\x80\"\n");
    CHECK(file.tensors.at("a").shape == std::vector<std::size_t>{2, 1});
    CHECK(file.tensors.at("a").values == std::vector<double>{1.5, -2.0});
    CHECK(file.tensors.at("a").dtype == st::Dtype::f32);
    CHECK(file.tensors.at("b").shape.empty());
    CHECK(file.tensors.at("b").values == std::vector<double>{3.25});
  }
}

TEST_CASE("an empty tensor takes no bytes") {
  const auto file = parse(packed(R"({"a":{"dtype":"F32","shape":[3,0],"data_offsets":[0,0]}})", ""));
  CHECK(file.tensors.at("a").values.empty());
}

TEST_CASE("every truncation and every extension is refused") {
  const std::string whole = packed(R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})", bytes_of(1.0));
  CHECK_NOTHROW(parse(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CHECK_THROWS_AS(parse(whole.substr(0, size)), wavefix::ModelFormatError);
  }
  CHECK_THROWS_AS(parse(whole + '\0'), wavefix::ModelFormatError);
}

TEST_CASE("numbers that are not finite are refused") {
  for (const double value : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    const auto bytes = packed(R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})", bytes_of(value));
    CHECK_THROWS_WITH_AS(parse(bytes), "safetensors file: tensor \"a\" has a value that is not finite, at index 0",
                         wavefix::ModelFormatError);
  }
}

TEST_CASE("sizes that overflow are refused before they are used") {
  for (const char* shape : {"[4294967296,4294967296]", "[2305843009213693953]", "[9223372036854775808,2,0]"}) {
    const std::string header = std::string(R"({"a":{"dtype":"F64","shape":)") + shape + R"(,"data_offsets":[0,8]}})";
    CHECK_THROWS_AS(parse(packed(header, bytes_of(1.0))), wavefix::ModelFormatError);
  }
  CHECK_THROWS_AS(parse(std::string(8, '\xFF') + "{}"), wavefix::ModelFormatError);
}

TEST_CASE("deep nesting is refused without recursion") {
  for (const char* opening : {"[", "{", "{\"a\":"}) {
    std::string header;
    while (header.size() < st::max_header_bytes - 8) header += opening;
    CHECK_THROWS_AS(st::parse_header(header), wavefix::ModelFormatError);
  }
}

}  // namespace
