// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#if defined(WAVEFIX_X86_KERNELS)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512vnni,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx512vnni,avx2,fma")
#endif

#define WAVEFIX_VNNI
#define WAVEFIX_VECTOR_BYTES 64
#define WAVEFIX_TILE_COLUMNS 8
#define WAVEFIX_KERNELS avx512_vnni_kernels
#define WAVEFIX_LEVEL "avx512_vnni"
#include "kernels_body.hpp"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
