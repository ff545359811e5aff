// SPDX-License-Identifier: Apache-2.0
// Body of the kernels. A source for one level sets its target, defines WAVEFIX_VECTOR_BYTES, WAVEFIX_TILE_COLUMNS and
// WAVEFIX_KERNELS, and includes this. No include guard, on purpose, and no further includes but of the same sort.
#include "source_kernels_body.hpp"
// after it, whose vectors it uses
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
    const double x = tau * (turns[index] - 0.25 * (shifted - rounder));  // |x| <= pi / 4
    const double y = x * x;
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

void path_product(const PathProduct& path, float* real_imag) {
  typedef float Four __attribute__((vector_size(32), aligned(sizeof(float)), may_alias));  // complex numbers
  constexpr std::size_t block = 16;
  Four by_real = {}, by_imag = {};
  const float highest = static_cast<float>(path.nodes) - 1.0f, last_cell = static_cast<float>(path.nodes) - 3.0f;
  for (std::size_t begin = 0; begin < path.antennas; begin += block) {
    const std::size_t count = path.antennas - begin < block ? path.antennas - begin : block;
    float weight[4][block];
    int first[block];
    for (std::size_t i = 0; i < block; ++i) {
      float at = path.delay[begin + (i < count ? i : 0)];
      at = at > 0.0f ? (at < highest ? at : highest) : 0.0f;
      float cell = static_cast<float>(static_cast<int>(at));
      cell = cell < 1.0f ? 1.0f : (cell > last_cell ? last_cell : cell);
      const float s = at - cell, m = s - 1.0f, p = s + 1.0f, n = s - 2.0f;
      first[i] = static_cast<int>(cell) - 1;
      weight[0][i] = -s * m * n * (1.0f / 6.0f);
      weight[1][i] = p * m * n * 0.5f;
      weight[2][i] = -p * s * n * 0.5f;
      weight[3][i] = p * s * m * (1.0f / 6.0f);
    }
    const float* row = path.profile + 2 * begin * path.nodes;
    for (std::size_t i = 0; i < count; ++i, row += 2 * path.nodes) {
      const float w0 = weight[0][i], w1 = weight[1][i], w2 = weight[2][i], w3 = weight[3][i];
      const Four z = Four{w0, w0, w1, w1, w2, w2, w3, w3} * *reinterpret_cast<const Four*>(row + 2 * first[i]);
      by_real += path.real[begin + i] * z;
      by_imag += path.imag[begin + i] * z;
    }
  }
  real_imag[0] = real_imag[1] = 0.0f;
  for (int tap = 0; tap < 8; tap += 2) {
    real_imag[0] += by_real[tap] + by_imag[tap + 1];
    real_imag[1] += by_real[tap + 1] - by_imag[tap];
  }
}

void envelope_costs(const EnvelopeCell& cell) {
  constexpr std::size_t width = 16;
  for (std::size_t begin = 0; begin < cell.lanes; begin += width) {
    const std::size_t lanes = cell.lanes - begin < width ? cell.lanes - begin : width;
    float t[width], sum[width] = {};
    for (std::size_t i = 0; i < width; ++i) t[i] = cell.first + cell.step * static_cast<float>(begin + i);
    const auto load = [&](const float* plane, std::size_t slot, float* to) {
      const float* from = plane + slot * cell.carrier_stride + begin;
      for (std::size_t i = 0; i < lanes; ++i) to[i] = from[i];
      for (std::size_t i = lanes; i < width; ++i) to[i] = 0.0f;
    };
    const float* low = cell.nodes;
    const float *middle = low + cell.node_stride, *high = middle + cell.node_stride;
    for (std::size_t m = 0; m < cell.slots; ++m) {
      float mr[width], mi[width], row_re[width] = {}, row_im[width] = {};
      load(cell.carrier_re, m, mr);
      load(cell.carrier_im, m, mi);
      // sum over l < m of G_lm e^(j phase_l), then times e^(-j phase_m)
      const std::size_t pairs = 3 * cell.capacity + m * (m - 1);
      for (std::size_t l = 0; l < m; ++l) {
        const std::size_t at = pairs + 2 * l;
        const float b0 = middle[at], b1 = 0.5f * (high[at] - low[at]), b2 = 0.5f * (high[at] + low[at]) - b0;
        const float c0 = middle[at + 1], c1 = 0.5f * (high[at + 1] - low[at + 1]),
                    c2 = 0.5f * (high[at + 1] + low[at + 1]) - c0;
        float lr[width], li[width];
        load(cell.carrier_re, l, lr);
        load(cell.carrier_im, l, li);
        for (std::size_t i = 0; i < width; ++i) {
          const float re = b0 + t[i] * (b1 + t[i] * b2), im = c0 + t[i] * (c1 + t[i] * c2);
          row_re[i] += re * lr[i] - im * li[i];
          row_im[i] += re * li[i] + im * lr[i];
        }
      }
      const std::size_t at = 2 * m, energy = 2 * cell.capacity + m;
      const float b0 = middle[at], b1 = 0.5f * (high[at] - low[at]), b2 = 0.5f * (high[at] + low[at]) - b0;
      const float c0 = middle[at + 1], c1 = 0.5f * (high[at + 1] - low[at + 1]),
                  c2 = 0.5f * (high[at + 1] + low[at + 1]) - c0;
      const float e0 = middle[energy], e1 = 0.5f * (high[energy] - low[energy]),
                  e2 = 0.5f * (high[energy] + low[energy]) - e0;
      for (std::size_t i = 0; i < width; ++i) {
        const float re = b0 + t[i] * (b1 + t[i] * b2), im = c0 + t[i] * (c1 + t[i] * c2);
        sum[i] += row_re[i] * mr[i] + row_im[i] * mi[i] + re * mr[i] - im * mi[i] + e0 + t[i] * (e1 + t[i] * e2);
      }
    }
    for (std::size_t i = 0; i < lanes; ++i) cell.cost[begin + i] += sum[i];
  }
}

}  // namespace

const Kernels WAVEFIX_KERNELS = {WAVEFIX_LEVEL, multiply<float>, multiply<double>, multiply_planes,
                                 unit_phasors,  trace_source,    sum_sources,      envelope_costs,
                                 path_product,  row_products,    pair_products,    screen};

}  // namespace wavefix
