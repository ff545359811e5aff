// SPDX-License-Identifier: Apache-2.0
// Views of the caller's arrays: a pointer and extents, C order, nothing owned.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <type_traits>

#if defined(_WIN32)
#define WAVEFIX_API
#define WAVEFIX_KEEP
#else
#define WAVEFIX_API __attribute__((visibility("default")))
#define WAVEFIX_KEEP __attribute__((used))
#endif

// Vectors, strings and maps of the standard library cross the interface, and each of its modes lays them out anew. A
// program in another mode than the library's is refused by the linker, which misses the variable named after the mode.
#if defined(_LIBCPP_VERSION)
#define WAVEFIX_CONTAINERS built_with_libcpp
#elif defined(_GLIBCXX_DEBUG)
#define WAVEFIX_CONTAINERS built_with_GLIBCXX_DEBUG
#elif defined(_GLIBCXX_USE_CXX11_ABI) && !_GLIBCXX_USE_CXX11_ABI
#define WAVEFIX_CONTAINERS built_with_old_strings
#else
#define WAVEFIX_CONTAINERS built_with_default_containers
#endif

namespace wavefix {

WAVEFIX_API extern const char WAVEFIX_CONTAINERS;
namespace {
WAVEFIX_KEEP const char* const containers_of_the_library = &WAVEFIX_CONTAINERS;
}

using cfloat = std::complex<float>;
using cdouble = std::complex<double>;

inline constexpr double speed_of_light = 299792458.0;  // m/s, exact

/// An N-dimensional C-ordered view; `View<const T, N>` is read-only.
template <class T, std::size_t N>
struct View {
  T* data = nullptr;
  std::array<std::size_t, N> shape{};

  View() = default;
  View(T* data_, std::array<std::size_t, N> shape_) : data(data_), shape(shape_) {}
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T> && !std::is_same_v<U, T>>>
  View(const View<U, N>& other) : data(other.data), shape(other.shape) {}  // T* to const T*

  std::size_t size() const {
    std::size_t total = 1;
    for (std::size_t extent : shape) total *= extent;
    return total;
  }
  bool empty() const { return size() == 0; }

  /// Number of elements in one entry along the first axis.
  std::size_t stride() const {
    std::size_t total = 1;
    for (std::size_t axis = 1; axis < N; ++axis) total *= shape[axis];
    return total;
  }
  T* row(std::size_t index) const { return data + index * stride(); }
};

}  // namespace wavefix
