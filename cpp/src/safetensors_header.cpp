// SPDX-License-Identifier: Apache-2.0
// The JSON of a safetensors header. Its nesting is fixed, so the parser has one function a level and no recursion.
#include <limits>

#include "safetensors.hpp"
#include "wavefix/error.hpp"

namespace wavefix::safetensors {
namespace {

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  Header header() {
    Header header;
    bool has_metadata = false;
    object([&](const std::string& key) {
      if (key == "__metadata__") {
        if (has_metadata) fail("duplicate key \"__metadata__\"");
        has_metadata = true;
        header.metadata = metadata();
      } else {
        if (header.entries.count(key)) fail("duplicate key \"" + key + "\"");
        header.entries.emplace(key, entry(key));
      }
    });
    skip_space();
    if (at_ != text_.size()) fail("text after the end of the header object");
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw ModelFormatError("safetensors header, byte " + std::to_string(at_) + ": " + what);
  }

  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
      ++at_;
    }
  }

  bool accept(char wanted) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail(std::string("expected '") + wanted + "'");
  }

  template <class Member>
  void object(const Member& member) {
    expect('{');
    if (accept('}')) return;
    do {
      const std::string key = string();
      expect(':');
      member(key);
    } while (accept(','));
    expect('}');
  }

  std::map<std::string, std::string> metadata() {
    std::map<std::string, std::string> values;
    object([&](const std::string& key) {
      if (!values.emplace(key, string()).second) fail("duplicate key \"" + key + "\" in __metadata__");
    });
    return values;
  }

  Entry entry(const std::string& name) {
    Entry entry;
    bool has_dtype = false, has_shape = false, has_offsets = false;
    const auto once = [&](bool& has, const std::string& key) {
      if (has) fail("duplicate key \"" + key + "\" in tensor \"" + name + "\"");
      has = true;
    };
    object([&](const std::string& key) {
      if (key == "dtype") {
        once(has_dtype, key);
        entry.dtype = string();
      } else if (key == "shape") {
        once(has_shape, key);
        entry.shape = integers(max_dimensions);
      } else if (key == "data_offsets") {
        once(has_offsets, key);
        const auto offsets = integers(2);
        if (offsets.size() != 2) fail("expected two data_offsets in tensor \"" + name + "\"");
        entry.begin = offsets[0];
        entry.end = offsets[1];
      } else {
        fail("unknown key \"" + key + "\" in tensor \"" + name + "\"");
      }
    });
    if (!has_dtype || !has_shape || !has_offsets) {
      fail("tensor \"" + name + "\" lacks dtype, shape or data_offsets");
    }
    return entry;
  }

  std::vector<std::uint64_t> integers(std::size_t most) {
    std::vector<std::uint64_t> values;
    expect('[');
    if (accept(']')) return values;
    do {
      if (values.size() == most) fail("more than " + std::to_string(most) + " integers in an array");
      values.push_back(integer());
    } while (accept(','));
    expect(']');
    return values;
  }

  std::uint64_t integer() {
    skip_space();
    const std::size_t start = at_;
    std::uint64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const auto digit = static_cast<std::uint64_t>(text_[at_] - '0');
      if (value > (std::numeric_limits<std::uint64_t>::max() - digit) / 10) fail("integer out of range");
      value = value * 10 + digit;
    }
    if (at_ == start) fail("expected a non-negative integer");
    if (at_ - start > 1 && text_[start] == '0') fail("integer with a leading zero");
    return value;
  }

  std::string string() {
    expect('"');
    std::string value;
    while (true) {
      if (at_ >= text_.size()) fail("string without an end");
      const auto byte = static_cast<unsigned char>(text_[at_]);
      if (byte == '"') {
        ++at_;
        return value;
      }
      if (byte < 0x20) fail("control character in a string");
      if (byte == '\\') {
        ++at_;
        escape(value);
      } else if (byte < 0x80) {
        value += text_[at_++];
      } else {
        copy_utf8(value);
      }
    }
  }

  void escape(std::string& value) {
    if (at_ >= text_.size()) fail("string without an end");
    constexpr std::string_view names = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    const char letter = text_[at_++];
    if (const auto known = names.find(letter); known != std::string_view::npos) {
      value += meanings[known];
    } else if (letter == 'u') {
      append_utf8(value, code_point());
    } else {
      fail("unknown escape in a string");
    }
  }

  std::uint32_t four_hex_digits() {
    std::uint32_t value = 0;
    for (int digit = 0; digit < 4; ++digit, ++at_) {
      const char c = at_ < text_.size() ? text_[at_] : '\0';
      if (c >= '0' && c <= '9')
        value = value * 16 + static_cast<std::uint32_t>(c - '0');
      else if (c >= 'a' && c <= 'f')
        value = value * 16 + static_cast<std::uint32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F')
        value = value * 16 + static_cast<std::uint32_t>(c - 'A' + 10);
      else
        fail("expected four hexadecimal digits");
    }
    return value;
  }

  std::uint32_t code_point() {
    const std::uint32_t high = four_hex_digits();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || text_.compare(at_, 2, "\\u") != 0) fail("unpaired surrogate in a string");
    at_ += 2;
    const std::uint32_t low = four_hex_digits();
    if (low < 0xDC00 || low > 0xDFFF) fail("unpaired surrogate in a string");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  static void append_utf8(std::string& value, std::uint32_t point) {
    const auto tail = [&](int shift) { value += static_cast<char>(0x80 | ((point >> shift) & 0x3F)); };
    if (point < 0x80) {
      value += static_cast<char>(point);
    } else if (point < 0x800) {
      value += static_cast<char>(0xC0 | (point >> 6)), tail(0);
    } else if (point < 0x10000) {
      value += static_cast<char>(0xE0 | (point >> 12)), tail(6), tail(0);
    } else {
      value += static_cast<char>(0xF0 | (point >> 18)), tail(12), tail(6), tail(0);
    }
  }

  /// Copies one multi-byte character after checking it: well-formed, shortest form, no surrogate, at most U+10FFFF.
  void copy_utf8(std::string& value) {
    const auto byte = [&](std::size_t offset) {
      return at_ + offset < text_.size() ? static_cast<unsigned char>(text_[at_ + offset]) : 0u;
    };
    const unsigned lead = byte(0);
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    std::uint32_t point = lead & (0x7Fu >> length);
    bool valid = lead >= 0xC2 && lead <= 0xF4;
    for (std::size_t offset = 1; offset < length; ++offset) {
      valid = valid && (byte(offset) & 0xC0) == 0x80;
      point = (point << 6) | (byte(offset) & 0x3Fu);
    }
    const std::uint32_t least = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
    if (!valid || point < least || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) {
      fail("string is not UTF-8");
    }
    value.append(text_, at_, length);
    at_ += length;
  }

  const std::string& text_;
  std::size_t at_ = 0;
};

}  // namespace

Header parse_header(const std::string& text) { return Parser(text).header(); }

}  // namespace wavefix::safetensors
