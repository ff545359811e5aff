// SPDX-License-Identifier: Apache-2.0
// Body of the kernels. A source for one level sets its target, defines WAVEFIX_VECTOR_BYTES, WAVEFIX_TILE_COLUMNS and
// WAVEFIX_KERNELS, and includes this. No include guard, on purpose, and no further includes but of the same sort.
#include "source_kernels_body.hpp"
// after it, whose vectors it uses
#include "exact_kernels_body.hpp"
#include "path_kernels_body.hpp"
#include "search_kernels_body.hpp"

namespace wavefix {
namespace {

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(WAVEFIX_VECTOR_BYTES), aligned(sizeof(float)), may_alias));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(WAVEFIX_VECTOR_BYTES), aligned(sizeof(double)), may_alias));
};

/// Two vectors of rows times Columns columns. Each sum is one chain over the depth, the same for any Columns.
template <class T, int Columns>
void multiply_tile(const PackedProduct<T>& product, const T* lane, const T* columns, T* out, std::size_t valid) {
  using Vector = typename VectorOf<T>::type;
  constexpr std::size_t width = WAVEFIX_VECTOR_BYTES / sizeof(T);
  Vector low[Columns], high[Columns];
  for (int c = 0; c < Columns; ++c) low[c] = high[c] = Vector{};
  std::size_t end = product.split;
  std::size_t level = 0;
  for (int part = 0; part < 2; ++part) {
    for (; level < end; ++level, lane += packed_block_rows<T>) {
      const Vector first = *reinterpret_cast<const Vector*>(lane);
      const Vector second = *reinterpret_cast<const Vector*>(lane + width);
#pragma GCC unroll 8
      for (int c = 0; c < Columns; ++c) {
        const T value = columns[static_cast<std::size_t>(c) * product.column_stride + level];
        low[c] += first * value;
        high[c] += second * value;
      }
    }
    columns += product.gap;
    end = product.depth;
  }
#pragma GCC unroll 8
  for (int c = 0; c < Columns; ++c) {
    T* target = out + static_cast<std::size_t>(c) * product.out_stride;
    if (valid >= 2 * width) {
      *reinterpret_cast<Vector*>(target) = low[c];
      *reinterpret_cast<Vector*>(target + width) = high[c];
    } else {
      T tail[2 * width];
      *reinterpret_cast<Vector*>(tail) = low[c];
      *reinterpret_cast<Vector*>(tail + width) = high[c];
      for (std::size_t row = 0; row < valid; ++row) target[row] = tail[row];
    }
  }
}

template <class T>
void multiply(const PackedProduct<T>& product) {
  constexpr std::size_t block_rows = packed_block_rows<T>, tile_rows = 2 * WAVEFIX_VECTOR_BYTES / sizeof(T);
  constexpr std::size_t wide = WAVEFIX_TILE_COLUMNS;
  for (std::size_t row = 0; row < product.rows; row += tile_rows) {
    const T* lane = product.blocks + row / block_rows * block_rows * product.depth + row % block_rows;
    const std::size_t valid = product.rows - row;
    std::size_t c = 0;
    const auto columns = [&] { return product.columns + c * product.column_stride; };
    const auto out = [&] { return product.out + c * product.out_stride + row; };
    for (; c + wide <= product.count; c += wide) multiply_tile<T, wide>(product, lane, columns(), out(), valid);
    if (wide > 4 && c + 4 <= product.count) multiply_tile<T, 4>(product, lane, columns(), out(), valid), c += 4;
    if (c + 2 <= product.count) multiply_tile<T, 2>(product, lane, columns(), out(), valid), c += 2;
    if (c < product.count) multiply_tile<T, 1>(product, lane, columns(), out(), valid);
  }
}

void multiply_planes(const float* a, const float* b, std::size_t stride, std::size_t count, float* __restrict out) {
  for (std::size_t m = 0; m < count; ++m) {
    out[m] = a[m] * b[m] - a[stride + m] * b[stride + m];
    out[stride + m] = a[m] * b[stride + m] + a[stride + m] * b[m];
  }
}

void unit_phasors(const double* turns, std::size_t count, double* __restrict real, double* __restrict imag) {
  constexpr double tau = 6.283185307179586476925286766559;
  constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer, kept in the low bits
  for (std::size_t index = 0; index < count; ++index) {
    const double shifted = 4 * turns[index] + rounder;
    long long quarter;
    __builtin_memcpy(&quarter, &shifted, sizeof(quarter));
    const double x = tau * (turns[index] - 0.25 * (shifted - rounder));     // |x| <= pi / 4
    const double y = (quarter >> 52) == 0x433 ? x * x : __builtin_nan("");  // 2^52 to 2^53, else no phase is left
    // Taylor series; the first term left out is below 5e-17 at pi / 4
    const double sine =
        x *
        (1 + y * (-1. / 6 +
                  y * (1. / 120 +
                       y * (-1. / 5040 + y * (1. / 362880 + y * (-1. / 39916800 + y * (1. / 6227020800 +
                                                                                       y * (-1. / 1307674368000))))))));
    const double cosine =
        1 + y * (-1. / 2 +
                 y * (1. / 24 + y * (-1. / 720 +
                                     y * (1. / 40320 + y * (-1. / 3628800 +
                                                            y * (1. / 479001600 + y * (-1. / 87178291200 +
                                                                                       y * (1. / 20922789888000))))))));
    const bool swapped = (quarter & 1) != 0;
    const double first = swapped ? sine : cosine, second = swapped ? cosine : sine;
    real[index] = ((quarter + 1) & 2) != 0 ? -first : first;
    imag[index] = (quarter & 2) != 0 ? -second : second;
  }
}

}  // namespace

const Kernels WAVEFIX_KERNELS = {WAVEFIX_LEVEL,
                                 multiply<float>,
                                 multiply<double>,
                                 multiply_planes,
                                 unit_phasors,
                                 trace_source,
                                 sum_sources,
                                 turn_source,
                                 fill_carrier,
                                 envelope_costs,
                                 path_product,
                                 path_slopes,
                                 explained_energy,
                                 pair_sums,
                                 add_normal_equations,
                                 row_products,
                                 pair_products,
                                 byte_products,
                                 squared_distance,
                                 inner_product,
                                 screen,
                                 score};

}  // namespace wavefix
