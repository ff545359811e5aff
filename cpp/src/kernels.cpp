// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

namespace wavefix {

std::size_t usable_kernels(const Kernels* list[3]) {
  std::size_t count = 0;
  list[count++] = &generic_kernels;
#if defined(WAVEFIX_X86_KERNELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    list[count++] = &avx2_kernels;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
      list[count++] = &avx512_kernels;
    }
  }
#endif
  return count;
}

const Kernels& kernels() {
  static const Kernels& best = []() -> const Kernels& {
    const Kernels* list[3];
    return *list[usable_kernels(list) - 1];
  }();
  return best;
}

}  // namespace wavefix
