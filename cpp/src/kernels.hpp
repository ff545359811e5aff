// SPDX-License-Identifier: Apache-2.0
// The inner loops, compiled for several x86-64 levels; the best one that the processor has is chosen at run time.
// Kernel sources include neither Eigen nor the standard library, so no inline function leaks from one level into
// code for another.
#pragma once

#include <cstddef>

#include "path_kernels.hpp"
#include "search_kernels.hpp"
#include "source_kernels.hpp"

namespace wavefix {

/// Rows in a block of a packed matrix of T: two of the widest vector registers, whatever the processor has.
template <class T>
inline constexpr std::size_t packed_block_rows = 128 / sizeof(T);

/// See PackedMatrix::multiply.
template <class T>
struct PackedProduct {
  const T* blocks;
  std::size_t rows, depth, split, gap;
  const T* columns;
  std::size_t count, column_stride;
  T* out;
  std::size_t out_stride;
};

struct Kernels {
  const char* level;
  void (*multiply_float)(const PackedProduct<float>&);
  void (*multiply_double)(const PackedProduct<double>&);
  /// out = a * b for `count` complex numbers in planes: imaginary parts lie `stride` behind the real ones.
  void (*multiply_planes)(const float* a, const float* b, std::size_t stride, std::size_t count, float* out);
  /// real + j imag = e^(j 2 pi turns), to a few units in the last place for |turns| < 2^31. Reducing whole turns
  /// first loses nothing, where reducing radians would. NaN from 2^49 turns on, where a double tells no phase.
  void (*unit_phasors)(const double* turns, std::size_t count, double* real, double* imag);
  /// Distances and amplitudes of a source for a block of antennas; false if none of them sees it.
  bool (*trace_source)(const SourceTrace&);
  /// The channel, and its derivatives, of a block of antennas.
  void (*sum_sources)(const SourceSum&);
  /// real + j imag = amplitude * e^(-j 2 pi wavenumber distance) for a block of antennas; amplitudes as SourceTrace's.
  void (*turn_source)(const double* distance, const float* amplitudes, double wavenumber, float* real, float* imag);
  void (*fill_carrier)(const Carrier&);
  void (*envelope_costs)(const EnvelopeCell&);
  void (*path_product)(const PathProduct&, float* real_imag);
  void (*path_slopes)(const PathSlopes&, float* products);  // [vectors, 2]
  float (*explained_energy)(const MapPoint&);
  void (*pair_sums)(const PathPair&, float* sums);  // [vectors of l, vectors of m, 2]
  void (*add_normal_equations)(const NormalSums&, double* sums);
  void (*row_products)(const RowProducts&);
  void (*pair_products)(const PairProducts&);
  void (*byte_products)(const ByteProducts&);  // null where this would not be faster
  /// ||a - b||^2, and Re and Im of <a, b>, of `count` numbers, re and im in turn, in float64: the same bits on every
  /// level.
  double (*squared_distance)(const float* a, const float* b, std::size_t count);
  void (*inner_product)(const float* a, const float* b, std::size_t count, double* re_im);
  void (*screen)(const Screen&);
  void (*score)(const Scores&);
};

extern const Kernels generic_kernels;
#if defined(__x86_64__) && defined(__GNUC__)
#define WAVEFIX_X86_KERNELS
extern const Kernels avx2_kernels, avx512_kernels, avx512_vnni_kernels;
#endif

inline constexpr std::size_t most_levels = 4;
/// The kernels of every level that this processor can run, the best one last.
std::size_t usable_kernels(const Kernels* list[most_levels]);
/// The best of them, or the one that the environment variable WAVEFIX_KERNELS names; Error if that is none of them.
const Kernels& kernels();

}  // namespace wavefix
