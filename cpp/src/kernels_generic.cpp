// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#define WAVEFIX_VECTOR_BYTES 16
#define WAVEFIX_TILE_COLUMNS 4
#define WAVEFIX_KERNELS generic_kernels
#define WAVEFIX_LEVEL "generic"
#include "kernels_body.hpp"
