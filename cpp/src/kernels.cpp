// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#include <cstdlib>
#include <string>

#include "wavefix/error.hpp"
#include "wavefix/parallel.hpp"

namespace wavefix {

std::size_t usable_kernels(const Kernels* list[most_levels]) {
  std::size_t count = 0;
  list[count++] = &generic_kernels;
#if defined(WAVEFIX_X86_KERNELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    list[count++] = &avx2_kernels;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw")) {
      list[count++] = &avx512_kernels;
      if (__builtin_cpu_supports("avx512vnni")) list[count++] = &avx512_vnni_kernels;
    }
  }
#endif
  return count;
}

namespace {

const Kernels& chosen_kernels() {
  const Kernels* list[most_levels];
  const std::size_t count = usable_kernels(list);
  const char* const wanted = std::getenv("WAVEFIX_KERNELS");
  if (wanted == nullptr || *wanted == '\0') return *list[count - 1];
  std::string names;
  for (std::size_t index = 0; index < count; ++index) {
    if (std::string(wanted) == list[index]->level) return *list[index];
    names += (index == 0 ? "" : index + 1 < count ? ", " : " or ") + std::string(list[index]->level);
  }
  throw Error("WAVEFIX_KERNELS: expected " + names + ", which this processor can run, got " + wanted);
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = chosen_kernels();
  return chosen;
}

std::string kernel_level() { return kernels().level; }

std::vector<std::string> kernel_levels() {
  const Kernels* list[most_levels];
  std::vector<std::string> names;
  for (std::size_t index = 0, count = usable_kernels(list); index < count; ++index) names.push_back(list[index]->level);
  return names;
}

}  // namespace wavefix
