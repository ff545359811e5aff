// SPDX-License-Identifier: Apache-2.0
// One exception root. The library throws nothing else but std::bad_alloc.
#pragma once

#include <stdexcept>
#include <string>

#include "wavefix/views.hpp"

namespace wavefix {

class WAVEFIX_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  ~Error() override;
};

/// An array has the wrong shape, or an argument is outside its range.
class WAVEFIX_API ShapeError : public Error {
 public:
  using Error::Error;
  ~ShapeError() override;
};

/// A model file is truncated, hostile, of another kind or of another version.
class WAVEFIX_API ModelFormatError : public Error {
 public:
  using Error::Error;
  ~ModelFormatError() override;
};

/// The values of a scene or of a dataset cannot be used (empty, not finite, contradictory).
class WAVEFIX_API DataError : public Error {
 public:
  using Error::Error;
  ~DataError() override;
};

/// The caller's interrupt callback asked a long call to stop.
class WAVEFIX_API Interrupted : public Error {
 public:
  using Error::Error;
  ~Interrupted() override;
};

/// Throws ShapeError("<argument>: expected <expected>, got <got>").
[[noreturn]] WAVEFIX_API void throw_shape(const std::string& argument, const std::string& expected,
                                          const std::string& got);

/// Text of a shape, for example "(3, 64)".
template <std::size_t N>
std::string shape_text(const std::array<std::size_t, N>& shape) {
  std::string text = "(";
  for (std::size_t axis = 0; axis < N; ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + (N == 1 ? ",)" : ")");
}

}  // namespace wavefix
