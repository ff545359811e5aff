// SPDX-License-Identifier: Apache-2.0
#include "wavefix/error.hpp"

namespace wavefix {

const char WAVEFIX_CONTAINERS = 0;

// Out of line: one copy of each type's identity, so that a catch works across shared libraries.
Error::~Error() = default;
ShapeError::~ShapeError() = default;
ModelFormatError::~ModelFormatError() = default;
DataError::~DataError() = default;
Interrupted::~Interrupted() = default;

void throw_shape(const std::string& argument, const std::string& expected, const std::string& got) {
  throw ShapeError(argument + ": expected " + expected + ", got " + got);
}

}  // namespace wavefix
