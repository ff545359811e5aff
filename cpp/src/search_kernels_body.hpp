// SPDX-License-Identifier: Apache-2.0
// Body of the kernels of a dictionary search, for one level; see kernels_body.hpp. No include guard, on purpose.

namespace wavefix {
namespace {

/// From W vectors to one whose lane i is the sum over the lanes of vector i.
template <std::size_t Stride, std::size_t... I>
inline Floats fold(Floats a, Floats b, Indices<I...>) {
  return __builtin_shufflevector(a, b, ((I & Stride) ? I + lane_width : I)...) +
         __builtin_shufflevector(a, b, ((I & Stride) ? (I ^ Stride) + lane_width : (I ^ Stride))...);
}
template <std::size_t Stride>
inline void fold_all(Floats* sums) {
  if constexpr (Stride > 0) {
    for (std::size_t i = 0; i < Stride; ++i) sums[i] = fold<Stride>(sums[i], sums[i + Stride], LaneIndices());
    fold_all<Stride / 2>(sums);
  }
}

constexpr std::size_t prefetched_bytes = 8192;  // ahead: two rounds of 16 rows of 8x8 channels

/// lane_width products over one stretch of the depth, lane = column * rows + row, with rows = lane_width / Columns.
template <std::size_t Columns>
inline Floats multiply_stretch(const float* const* rows, const float* const* columns, std::size_t begin,
                               std::size_t end) {
  constexpr std::size_t count = lane_width / Columns;
  Floats sums[lane_width];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < lane_width; ++i) sums[i] = Floats{};
  for (std::size_t at = begin; at < end; at += lane_width) {
    Floats column[Columns];
#pragma GCC unroll 4
    for (std::size_t c = 0; c < Columns; ++c) column[c] = load(columns[c] + at);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < count; ++r) {
      const Floats row = load(rows[r] + at);
      // one query waits for memory only, and short rows side by side are no stream that the processor recognizes
      if (Columns == 1) __builtin_prefetch(reinterpret_cast<const char*>(rows[r] + at) + prefetched_bytes);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < Columns; ++c) sums[c * count + r] += row * column[c];
    }
  }
  fold_all<lane_width / 2>(sums);
  return sums[0];
}

/// The columns from `column` on, over one stretch.
template <std::size_t Columns>
void multiply_rows(const RowProducts& task, std::size_t column, std::size_t begin, std::size_t end) {
  constexpr std::size_t count = lane_width / Columns;
  const float* columns[Columns];
  for (std::size_t c = 0; c < Columns; ++c) columns[c] = task.columns + (column + c) * task.column_stride;
  for (std::size_t first = 0; first < task.n_rows; first += count) {
    const float* rows[count];  // past the end, the last one again
    for (std::size_t r = 0; r < count; ++r) {
      rows[r] = task.rows + (first + r < task.n_rows ? first + r : task.n_rows - 1) * task.row_stride;
    }
    float sums[lane_width];
    store(sums, multiply_stretch<Columns>(rows, columns, begin, end));
    const std::size_t valid = task.n_rows - first < count ? task.n_rows - first : count;
    for (std::size_t c = 0; c < Columns; ++c) {
      float* to = task.products + (column + c) * task.product_stride + first;
      for (std::size_t r = 0; r < valid; ++r) to[r] = begin == 0 ? sums[c * count + r] : to[r] + sums[c * count + r];
    }
  }
}

void row_products(const RowProducts& task) {
  constexpr std::size_t wide = lane_width == 16 ? 4 : 2;
  for (std::size_t begin = 0; begin < task.depth; begin += product_depth) {
    const std::size_t end = task.depth - begin < product_depth ? task.depth : begin + product_depth;
    std::size_t column = 0;
    for (; column + wide <= task.n_columns; column += wide) multiply_rows<wide>(task, column, begin, end);
    if (column + 2 <= task.n_columns) multiply_rows<2>(task, column, begin, end), column += 2;
    if (column < task.n_columns) multiply_rows<1>(task, column, begin, end);
  }
}

#if defined(WAVEFIX_BFLOAT)
/// All screened_rows rows times Columns columns, a pair of levels of the depth at a time.
template <std::size_t Columns>
void multiply_pairs(const PairProducts& task, std::size_t column) {
  static_assert(screened_rows == 2 * lane_width, "a block is two vectors of rows");
  const bfloat* lane = task.block;
  const bfloat* const from = task.columns + column * task.column_stride;
  __m512 low[Columns], high[Columns];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < Columns; ++c) low[c] = high[c] = _mm512_setzero_ps();
  for (std::size_t level = 0; level < task.depth; level += 2, lane += 2 * screened_rows) {
    const auto first = (__m512bh)_mm512_loadu_si512(lane), second = (__m512bh)_mm512_loadu_si512(lane + screened_rows);
#pragma GCC unroll 8
    for (std::size_t c = 0; c < Columns; ++c) {
      int pair;
      __builtin_memcpy(&pair, from + c * task.column_stride + level, sizeof(pair));
      const auto both = (__m512bh)_mm512_set1_epi32(pair);
      low[c] = _mm512_dpbf16_ps(low[c], first, both);
      high[c] = _mm512_dpbf16_ps(high[c], second, both);
    }
  }
#pragma GCC unroll 8
  for (std::size_t c = 0; c < Columns; ++c) {
    float* const to = task.products + (column + c) * task.product_stride;
    _mm512_storeu_ps(to, low[c]), _mm512_storeu_ps(to + lane_width, high[c]);
  }
}

void pair_products(const PairProducts& task) {
  std::size_t column = 0;
  for (; column + 8 <= task.n_columns; column += 8) multiply_pairs<8>(task, column);
  if (column + 4 <= task.n_columns) multiply_pairs<4>(task, column), column += 4;
  if (column + 2 <= task.n_columns) multiply_pairs<2>(task, column), column += 2;
  if (column < task.n_columns) multiply_pairs<1>(task, column);
}
#endif

typedef long long Longs __attribute__((vector_size(WAVEFIX_VECTOR_BYTES)));
constexpr std::size_t wide_width = WAVEFIX_VECTOR_BYTES / sizeof(double);

inline Doubles load_doubles(const double* from) { return *reinterpret_cast<const LooseDoubles*>(from); }
inline Doubles load_narrow(const float* from) {
  typedef HalfFloats Loose __attribute__((aligned(sizeof(float)), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Loose*>(from), Doubles);
}

/// The entries whose lower bound does not exceed the limit; what is not a number is wanted.
unsigned long screen(const Screen& task) {
  Longs excluded[screened_rows / wide_width], all = Longs{} - 1;
  for (std::size_t row = 0; row < screened_rows; row += wide_width) {
    const Doubles error =
        task.constant + task.per_norm * load_doubles(task.norms + row) + task.per_tail * load_doubles(task.tails + row);
    const Doubles real = task.scale * load_narrow(task.real + row);
    if (task.imag == nullptr) {
      const Doubles cost = load_doubles(task.energies + row) - 2.0 * (real + error);
      all &= excluded[row / wide_width] = (Longs)(cost + task.query_norm * task.query_norm > task.limit);
      continue;
    }
    // |inner| + error < -limit ||entry|| ||query||
    const Doubles imag = task.scale * load_narrow(task.imag + row);
    const Doubles needed = (-task.limit * task.query_norm) * load_doubles(task.norms + row) - error;
    all &= excluded[row / wide_width] = (Longs)(needed > 0.0) & (Longs)(real * real + imag * imag < needed * needed);
  }
  long long both = -1;
  for (std::size_t lane = 0; lane < wide_width; ++lane) both &= all[lane];
  if (both != 0) return 0;
  unsigned long wanted = 0;
  for (std::size_t row = 0; row < screened_rows; ++row) {
    if (excluded[row / wide_width][row % wide_width] == 0) wanted |= 1ul << row;
  }
  return wanted;
}

}  // namespace
}  // namespace wavefix
