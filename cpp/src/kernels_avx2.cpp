// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#if defined(WAVEFIX_X86_KERNELS)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define WAVEFIX_VECTOR_BYTES 32
#define WAVEFIX_TILE_COLUMNS 4
#define WAVEFIX_KERNELS avx2_kernels
#define WAVEFIX_LEVEL "avx2"
#include "kernels_body.hpp"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
