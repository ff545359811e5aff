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

/// sum + a0 b0 + a1 b1 of pairs of 16-bit integers.
inline Ints add_pairs(Ints sum, Ints a, Ints b) {
#if defined(WAVEFIX_VNNI)
  return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__x86_64__) && WAVEFIX_VECTOR_BYTES == 64
  return sum + (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__x86_64__) && WAVEFIX_VECTOR_BYTES == 32
  return sum + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
  return sum + (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  return sum + (a >> 16) * (b >> 16) + ((a << 16) >> 16) * ((b << 16) >> 16);
#endif
}

/// A bit for each lane that is all ones.
inline unsigned bits_of(Ints mask) {
#if defined(__x86_64__) && WAVEFIX_VECTOR_BYTES == 64
  return static_cast<unsigned>(_mm512_movepi32_mask((__m512i)mask));
#elif defined(__x86_64__) && WAVEFIX_VECTOR_BYTES == 32
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)mask));
#elif defined(__x86_64__)
  return static_cast<unsigned>(_mm_movemask_ps((__m128)mask));
#else
  unsigned bits = 0;
  for (std::size_t lane = 0; lane < lane_width; ++lane) bits |= (mask[lane] != 0 ? 1u : 0u) << lane;
  return bits;
#endif
}

inline Ints load_pairs(const short* from) {
  typedef Ints Loose __attribute__((aligned(sizeof(short)), may_alias));
  return *reinterpret_cast<const Loose*>(from);
}

/// All screened_rows rows times Columns columns, a pair of levels at a time.
template <std::size_t Columns>
void multiply_pairs(const PairProducts& task, std::size_t column) {
  // One query waits for memory only, which comes fastest in the order in which it lies, and if it is asked for early.
  constexpr std::size_t vectors = Columns == 1 ? screened_rows / lane_width : 2;
  const short* from[Columns];
  for (std::size_t c = 0; c < Columns; ++c) from[c] = task.columns[column + c];
  for (std::size_t row = 0; row < screened_rows; row += vectors * lane_width) {
    Ints sums[Columns][vectors];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < Columns; ++c) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < vectors; ++v) sums[c][v] = Ints{};
    }
    std::size_t level = 0, end = task.levels[0];
    for (int part = 0; part < 2; ++part, end += task.levels[1]) {
      const short* lane = task.parts[part];  // none where there are no such levels
      for (; level < end; level += 2, lane += 2 * screened_rows) {
        Ints rows[vectors];
#pragma GCC unroll 8
        for (std::size_t v = 0; v < vectors; ++v) {
          const short* const pairs = lane + 2 * (row + v * lane_width);
          rows[v] = load_pairs(pairs);
          if (Columns == 1) __builtin_prefetch(pairs + prefetched_bytes / sizeof(short));
        }
#pragma GCC unroll 8
        for (std::size_t c = 0; c < Columns; ++c) {
          int pair;
          __builtin_memcpy(&pair, from[c] + level, sizeof(pair));
          const Ints both = Ints{} + pair;
#pragma GCC unroll 8
          for (std::size_t v = 0; v < vectors; ++v) sums[c][v] = add_pairs(sums[c][v], rows[v], both);
        }
      }
    }
#pragma GCC unroll 8
    for (std::size_t c = 0; c < Columns; ++c) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < vectors; ++v) {
        float* const to = task.products[column + c] + row + v * lane_width;
        store(to, __builtin_convertvector(sums[c][v], Floats));
      }
    }
  }
}

void pair_products(const PairProducts& task) {
  constexpr std::size_t wide = lane_width == 16 ? 8 : 4;
  std::size_t column = 0;
  for (; column + wide <= task.n_columns; column += wide) multiply_pairs<wide>(task, column);
  if (wide > 4 && column + 4 <= task.n_columns) multiply_pairs<4>(task, column), column += 4;
  if (column + 2 <= task.n_columns) multiply_pairs<2>(task, column), column += 2;
  if (column < task.n_columns) multiply_pairs<1>(task, column);
}

#if defined(WAVEFIX_VNNI)
/// All screened_rows rows times Columns columns, four levels at a time. The block that follows in memory is fetched
/// meanwhile, which the processor would not do before it is read: by one query as a stream, by many in equal shares.
template <std::size_t Columns>
void multiply_bytes(const ByteProducts& task, std::size_t column) {
  constexpr std::size_t vectors = screened_rows / lane_width;
  constexpr std::size_t chains = Columns < 4 ? 4 / Columns : 1;  // fewer sums than this would wait for each other
  const signed char* from[Columns];
  Ints sums[chains][Columns][vectors];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < Columns; ++c) {
    from[c] = task.columns[column + c];
#pragma GCC unroll 4
    for (std::size_t chain = 0; chain < chains; ++chain) {
#pragma GCC unroll 2
      for (std::size_t v = 0; v < vectors; ++v) sums[chain][c][v] = Ints{} + (chain == 0 ? task.starts[column + c] : 0);
    }
  }
  std::size_t level = 0, end = task.levels[0];
  for (int part = 0; part < 2; ++part, end += task.levels[1]) {
    const unsigned char* lane = task.parts[part];
    const std::size_t pace = 4 * screened_rows * Columns / task.n_columns;
    const unsigned char* ahead = lane + task.levels[part] * (screened_rows + screened_rows * column / task.n_columns);
    while (level < end) {
#pragma GCC unroll 4
      for (std::size_t chain = 0; chain < chains; ++chain, level += 4, lane += 4 * screened_rows) {
        __m512i rows[vectors];
#pragma GCC unroll 2
        for (std::size_t v = 0; v < vectors; ++v) {
          rows[v] = _mm512_loadu_si512(lane + 4 * v * lane_width);
          if (Columns == 1) __builtin_prefetch(lane + 4 * v * lane_width + prefetched_bytes);
        }
        if (Columns == 8) __builtin_prefetch(ahead), ahead += pace;
#pragma GCC unroll 8
        for (std::size_t c = 0; c < Columns; ++c) {
          int four;
          __builtin_memcpy(&four, from[c] + level, sizeof(four));
          const __m512i all = _mm512_set1_epi32(four);
#pragma GCC unroll 2
          for (std::size_t v = 0; v < vectors; ++v) {
            sums[chain][c][v] = (Ints)_mm512_dpbusd_epi32((__m512i)sums[chain][c][v], rows[v], all);
          }
        }
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t c = 0; c < Columns; ++c) {
#pragma GCC unroll 2
    for (std::size_t v = 0; v < vectors; ++v) {
      Ints sum = sums[0][c][v];
#pragma GCC unroll 4
      for (std::size_t chain = 1; chain < chains; ++chain) {  // parts may overflow, the whole does not
        sum = (Ints)_mm512_add_epi32((__m512i)sum, (__m512i)sums[chain][c][v]);
      }
      store(task.products[column + c] + v * lane_width,
            __builtin_convertvector(sum, Floats) * load(task.scales + v * lane_width));
    }
  }
}

void byte_products(const ByteProducts& task) {
  std::size_t column = 0;
  for (; column + 8 <= task.n_columns; column += 8) multiply_bytes<8>(task, column);
  if (column + 4 <= task.n_columns) multiply_bytes<4>(task, column), column += 4;
  if (column + 2 <= task.n_columns) multiply_bytes<2>(task, column), column += 2;
  if (column < task.n_columns) multiply_bytes<1>(task, column);
}
#else
constexpr void (*byte_products)(const ByteProducts&) = nullptr;
#endif

/// What is not a number excludes nothing.
template <bool Magnitudes>
void screen_queries(const Screen& task) {
  for (std::size_t query = 0; query < task.n; ++query) {
    const ScreenBounds bounds = *task.bounds[query];
    const float* const real = task.products[query];
    unsigned excluded = 0;
    for (std::size_t row = 0; row < screened_rows; row += lane_width) {
      const Floats least =
          (bounds.a * load(task.u + row) + bounds.b * load(task.v + row)) + (bounds.c * load(task.w + row) + bounds.d);
      const Floats product = load(real + row);
      Ints below = (Ints)(product < least);
      if (Magnitudes) {
        const Floats imag = load(real + screened_rows + row);
        below = (Ints)(least > 1e-15f) &  // whose square float still has
                (Ints)(product * product + imag * imag < least * least);
      }
      excluded |= bits_of(below) << row;
    }
    task.wanted[query] = ~excluded;
  }
}

void screen(const Screen& task) {
  if (task.magnitudes) {
    screen_queries<true>(task);
  } else {
    screen_queries<false>(task);
  }
}

/// b where one of them is no number.
inline Floats larger(Floats a, Floats b) {
  const Ints above = (Ints)(a > b);
  return (Floats)(((Ints)a & above) | ((Ints)b & ~above));
}
template <std::size_t Stride, std::size_t... I>
inline Floats exchanged(Floats value, Indices<I...>) {
  return __builtin_shufflevector(value, value, (I ^ Stride)...);
}
/// Every lane the largest of all.
template <std::size_t Stride>
inline Floats largest(Floats value) {
  if constexpr (Stride > 0) {
    value = largest<Stride / 2>(larger(value, exchanged<Stride>(value, LaneIndices())));
  }
  return value;
}

template <bool Magnitudes>
void score_queries(const Scores& task) {
  for (std::size_t query = 0; query < task.n; ++query) {
    const ScreenBounds bounds = task.bounds[query];
    const float* const real = task.products[query];
    Floats best = broadcast(-__builtin_inff());
    Ints unknown = Ints{};
    for (std::size_t row = 0; row < screened_rows; row += lane_width) {
      const Floats product = load(real + row), u = load(task.u + row),
                   beside = bounds.c * load(task.w + row) + bounds.d;
      Floats score;
      if (Magnitudes) {
        const Floats imag = load(real + screened_rows + row);
        score = root(product * product + imag * imag) - beside;
      } else {
        score = (product - (bounds.a * u + beside)) * u;
      }
      unknown |= (Ints)(score != score);
      best = larger(score, best);
    }
    task.scores[query] = bits_of(unknown) != 0 ? __builtin_inff() : largest<lane_width / 2>(best)[0];
  }
}

void score(const Scores& task) {
  if (task.magnitudes) {
    score_queries<true>(task);
  } else {
    score_queries<false>(task);
  }
}

}  // namespace
}  // namespace wavefix
