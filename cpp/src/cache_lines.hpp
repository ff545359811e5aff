// SPDX-License-Identifier: Apache-2.0
// Vectors that begin at a cache line, so that no vector register is loaded from two of them.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace wavefix {

template <class T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t line{64};

  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), line)); }
  void deallocate(T* values, std::size_t) { ::operator delete(values, line); }
  /// Elements without a value have none: gigabytes are not to be written twice.
  template <class U>
  void construct(U* at) {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class... Values>
  void construct(U* at, Values... values) {
    ::new (static_cast<void*>(at)) U(values...);
  }
  template <class U>
  bool operator==(const LineAllocator<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const LineAllocator<U>&) const {
    return false;
  }
};

template <class T>
using CacheLines = std::vector<T, LineAllocator<T>>;

}  // namespace wavefix
