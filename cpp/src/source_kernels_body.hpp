// SPDX-License-Identifier: Apache-2.0
// Body of the kernels of the spherical kind, for one level; see kernels_body.hpp. No include guard, on purpose.
#include "source_kernels_math.hpp"

namespace wavefix {
namespace {

constexpr float invisible = 1e-9f;  // gates below this count as closed
constexpr double nearest = 1e-12;   // square meters: a source is a pole, on which a position may not stand
constexpr float saturated = 25.f;   // a logit whose sigmoid is 1 in float

struct Gate {
  Floats open;      // g
  Floats slope[3];  // by x
};

/// prod_lines sigmoid(v), v = x'.m - s'.(m + d x x'); its slope is itself times sum_lines (1 - sigmoid(v)) (m - s' x
/// d).
bool open_cell(const SourceTrace& task, std::size_t cell, const Wide s[3], Gate& out) {
  const double* x = task.position;
  out.open = broadcast(1.f);
  out.slope[0] = out.slope[1] = out.slope[2] = Floats{};
  for (std::size_t index = task.cells[cell]; index < task.cells[cell + 1]; ++index) {
    const double *m = task.lines[index].moment, *d = task.lines[index].direction;
    const double across[3] = {m[0] + d[1] * x[2] - d[2] * x[1], m[1] + d[2] * x[0] - d[0] * x[2],
                              m[2] + d[0] * x[1] - d[1] * x[0]};
    const Wide seen = across[0] * s[0] + across[1] * s[1] + across[2] * s[2];
    const Floats logit = narrow((x[0] * m[0] + x[1] * m[1] + x[2] * m[2]) - seen);
    if (all(logit > saturated)) continue;
    if (all(logit < -saturated)) return false;
    const Sigmoid part = sigmoid(logit);
    out.open *= part.value;
    if (!task.slopes) continue;
    for (int a = 0; a < 3; ++a) {
      const int b = (a + 1) % 3, c = (a + 2) % 3;
      out.slope[a] += part.rest * narrow(m[a] - (d[c] * s[b] - d[b] * s[c]));
    }
  }
  for (Floats& slope : out.slope) slope *= out.open;
  return true;
}

/// g = sum_cells cell. Members are set one by one: compilers clear an aggregate with instructions that take longer than
/// all the rest.
void open_gate(const SourceTrace& task, const Wide s[3], Gate& gate) {
  gate.open = broadcast(task.n_cells == 0 ? 1.f : 0.f);
  gate.slope[0] = gate.slope[1] = gate.slope[2] = Floats{};
  for (std::size_t index = 0; index < task.n_cells; ++index) {
    Gate cell;
    if (!open_cell(task, index, s, cell)) continue;
    gate.open += cell.open;
    for (int a = 0; a < 3; ++a) gate.slope[a] += cell.slope[a];
  }
}

struct Gain {
  Complex value, by_v1, by_v2;
};

Gain gain(const SourceTrace& task, Floats v1, Floats v2) {
  Floats monomials[max_gain_terms];
  const float *real = task.coefficients, *imag = real + task.terms;
  Gain out;
  out.value.real = broadcast(real[0]), out.value.imag = broadcast(imag[0]);
  out.by_v1.real = out.by_v1.imag = out.by_v2.real = out.by_v2.imag = Floats{};
  monomials[0] = broadcast(1.f);
  std::size_t term = 1;
  for (std::size_t total = 1; total <= task.degree; ++total) {
    const Floats* before = monomials + term - total;
    for (std::size_t b = 0; b <= total; ++b, ++term) {
      const Floats monomial = b < total ? before[b] * v1 : before[total - 1] * v2;
      monomials[term] = monomial;
      out.value.real += real[term] * monomial, out.value.imag += imag[term] * monomial;
      if (!task.slopes) continue;
      if (b < total) {
        const Floats slope = static_cast<float>(total - b) * before[b];
        out.by_v1.real += real[term] * slope, out.by_v1.imag += imag[term] * slope;
      }
      if (b > 0) {
        const Floats slope = static_cast<float>(b) * before[b - 1];
        out.by_v2.real += real[term] * slope, out.by_v2.imag += imag[term] * slope;
      }
    }
  }
  return out;
}

/// The sets of the derivative: grad a - j 2 pi f_r / c u a, and -j 2 pi / c u a, which f_k - f_r multiplies.
void fill_slopes(const SourceTrace& task, const Gate& gate, const Gain& w, const Floats u[3], Floats inverse,
                 Floats along1, Floats along2, Complex amplitude, float* out) {
  const auto carrier = static_cast<float>(task.carrier_slope), band = static_cast<float>(task.band_slope);
  for (int a = 0; a < 3; ++a) {
    const Floats by1 = gate.open * inverse * (static_cast<float>(task.variables[a]) - along1 * u[a]);
    const Floats by2 = gate.open * inverse * (static_cast<float>(task.variables[4 + a]) - along2 * u[a]);
    const Floats shrink = u[a] * inverse, turn = carrier * u[a], shift = band * u[a];
    const Floats real = inverse * (w.by_v1.real * by1 + w.by_v2.real * by2 + gate.slope[a] * w.value.real);
    const Floats imag = inverse * (w.by_v1.imag * by1 + w.by_v2.imag * by2 + gate.slope[a] * w.value.imag);
    store_complex(out + (1 + 2 * a) * 2 * source_lanes, {real - shrink * amplitude.real + turn * amplitude.imag,
                                                         imag - shrink * amplitude.imag - turn * amplitude.real});
    store_complex(out + (2 + 2 * a) * 2 * source_lanes, {shift * amplitude.imag, -shift * amplitude.real});
  }
}

bool trace_lanes(const SourceTrace& task, std::size_t lane) {
  Wide s[3], away[3], square{};
  for (int a = 0; a < 3; ++a) {
    s[a] = load_wide(task.at + static_cast<std::size_t>(a) * task.stride + lane);
    away[a] = task.position[a] - s[a];
    square = square + away[a] * away[a];
  }
  square = nearest + square;
  const Wide distance = root(square), inverse = inverse_of(distance);
  store_wide(task.distance + lane, distance);
  float* out = task.amplitudes + lane;
  Gate gate;
  open_gate(task, s, gate);
  if (all(gate.open < invisible)) {
    for (std::size_t set = 0; set < (task.slopes ? source_sets : 1); ++set) {
      store_complex(out + set * 2 * source_lanes, {Floats{}, Floats{}});
    }
    return false;
  }
  Wide along[2];
  for (int row = 0; row < 2; ++row) {
    const double* m = task.variables + 4 * row;
    along[row] = inverse * (m[0] * away[0] + m[1] * away[1] + m[2] * away[2]);
  }
  const Gain w = gain(task, narrow(task.variables[3] + along[0]), narrow(task.variables[7] + along[1]));
  const Floats near = narrow(inverse), scale = gate.open * near;
  const Complex amplitude{scale * w.value.real, scale * w.value.imag};
  store_complex(out, amplitude);
  if (!task.slopes) return true;
  const Floats u[3] = {narrow(away[0] * inverse), narrow(away[1] * inverse), narrow(away[2] * inverse)};
  fill_slopes(task, gate, w, u, near, narrow(along[0]), narrow(along[1]), amplitude, out);
  return true;
}

/// Fills distances and amplitudes; false if no antenna of the block sees the source.
bool trace_source(const SourceTrace& task) {
  bool seen = false;
  for (std::size_t lane = 0; lane < source_lanes; lane += lane_width) seen = trace_lanes(task, lane) || seen;
  return seen;
}

/// table[n] = first * ratio^n, n below count <= 8, by doubling: errors grow with the logarithm of the count.
__attribute__((always_inline)) inline void fill_powers(Complex first, Complex ratio, std::size_t count, float* table) {
  constexpr std::size_t row = 2 * source_lanes;
  static_assert(source_pairs == 8 && source_segment == 64, "rows are at most 4, pairs at most 8");
  const Complex second = first * ratio;
  store_complex(table, first);
  if (count > 1) store_complex(table + row, second);
  if (count <= 2) return;
  const Complex squared = ratio * ratio, third = first * squared, fourth = second * squared;
  store_complex(table + 2 * row, third);
  if (count > 3) store_complex(table + 3 * row, fourth);
  const Complex power = squared * squared, upper[4] = {first * power, second * power, third * power, fourth * power};
  for (std::size_t n = 4; n < count; ++n) store_complex(table + n * row, upper[n - 4]);
}

/// What all sets share: the pair table, and the phasors that the row tables start from.
void prepare_segment(const SourceSum& task, std::size_t first) {
  constexpr std::size_t row = 2 * source_lanes;
  const double step = -4 * task.step, half = static_cast<double>(task.pairs);
  const double middle = -4 * task.wavenumbers[first] + (half - 0.5) * step, hop = 2 * half * step;
  for (std::size_t source = 0; source < task.count; ++source) {
    for (std::size_t lane = 0; lane < source_lanes; lane += lane_width) {
      const Wide distance = load_wide(task.distances + source * source_lanes + lane);
      float* phasors = task.phasors + 2 * source * row + lane;
      store_complex(phasors, quarter_phasor(middle * distance));
      if (first > 0) continue;
      if (task.rows > 1) store_complex(phasors + row, quarter_phasor(hop * distance));
      const Complex nearest_one = quarter_phasor(0.5 * step * distance);
      fill_powers(nearest_one, nearest_one * nearest_one, task.pairs,
                  task.pair_table + source * task.pairs * row + lane);
    }
  }
}

/// The row table of one source of a chunk, with its amplitudes, for the subcarriers of one segment.
__attribute__((always_inline)) inline void fill_rows(const SourceSum& task, std::size_t source, std::size_t set,
                                                     std::size_t first, std::size_t lane, float* rows) {
  constexpr std::size_t row = 2 * source_lanes;
  const Complex amplitude = load_complex(task.amplitudes + (source * source_sets + set) * row + lane);
  if (task.equal) {
    const float* phasors = task.phasors + 2 * source * row + lane;
    fill_powers(amplitude * load_complex(phasors), load_complex(phasors + row), task.rows, rows);
    return;
  }
  const Wide distance = load_wide(task.distances + source * source_lanes + lane);
  for (std::size_t k = 0; k < task.rows && first + k < task.subcarriers; ++k) {
    store_complex(rows + k * row, amplitude * quarter_phasor(-4 * task.wavenumbers[first + k] * distance));
  }
}

/// A subcarrier's sum, which a chunk of sources starts or adds to.
inline void put(float* sum, bool fresh, Floats real, Floats imag) {
  store(sum, fresh ? real : load(sum) + real);
  store(sum + source_lanes, fresh ? imag : load(sum + source_lanes) + imag);
}

/// The sums of `Pairs` pairs from pair p on, in each of `Rows` rows, over the slots: for a row's a and a pair's b, of
/// a b beyond the middle of the row and of a conj(b) before it.
template <int Rows, int Pairs>
void sum_tile(const SourceSum& task, std::size_t slots, const float* rows, std::size_t p, const float* pairs,
              bool fresh, float* sums) {
  constexpr std::size_t row = 2 * source_lanes;
  Floats rr[Rows][Pairs], ii[Rows][Pairs], ri[Rows][Pairs], ir[Rows][Pairs];  // of real and imaginary parts
  for (int r = 0; r < Rows; ++r) {
    for (int c = 0; c < Pairs; ++c) rr[r][c] = ii[r][c] = ri[r][c] = ir[r][c] = Floats{};
  }
  for (std::size_t slot = 0; slot < slots; ++slot, rows += task.rows * row, pairs += task.pairs * row) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Complex a = held(load_complex(rows + static_cast<std::size_t>(r) * row));
#pragma GCC unroll 8
      for (int c = 0; c < Pairs; ++c) {
        const Complex b = load_complex(pairs + static_cast<std::size_t>(c) * row);
        rr[r][c] += a.real * b.real;
        ii[r][c] += a.imag * b.imag;
        ri[r][c] += a.real * b.imag;
        ir[r][c] += a.imag * b.real;
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    float* const middle = sums + (2 * static_cast<std::size_t>(r) + 1) * task.pairs * row;
#pragma GCC unroll 8
    for (int c = 0; c < Pairs; ++c) {
      const std::size_t away = (p + static_cast<std::size_t>(c)) * row;
      put(middle + away, fresh, rr[r][c] - ii[r][c], ri[r][c] + ir[r][c]);
      put(middle - away - row, fresh, rr[r][c] + ii[r][c], ir[r][c] - ri[r][c]);
    }
  }
}

/// Tiles of eight sums, as many as an addition's latency wants at two a cycle, or sixteen where there are the
/// registers.
template <int Rows>
void sum_rows(const SourceSum& task, std::size_t slots, const float* rows, const float* pairs, bool fresh,
              float* sums) {
  constexpr std::size_t row = 2 * source_lanes;
  constexpr std::size_t wide = (WAVEFIX_VECTOR_BYTES == 64 ? 4 : 2) / Rows;
  std::size_t p = 0;
  for (; p + wide <= task.pairs; p += wide) sum_tile<Rows, wide>(task, slots, rows, p, pairs + p * row, fresh, sums);
  for (; p < task.pairs; ++p) sum_tile<Rows, 1>(task, slots, rows, p, pairs + p * row, fresh, sums);
}

/// Subcarriers at any frequency: the row table holds every one of them.
void add_rows(const SourceSum& task, std::size_t slots, const float* rows, bool fresh, std::size_t count, float* sums) {
  constexpr std::size_t row = 2 * source_lanes;
  for (std::size_t k = 0; k < count; ++k) {
    Complex sum = fresh ? Complex{Floats{}, Floats{}} : load_complex(sums + k * row);
    for (std::size_t slot = 0; slot < slots; ++slot) {
      const Complex part = load_complex(rows + (slot * task.rows + k) * row);
      sum.real += part.real, sum.imag += part.imag;
    }
    store_complex(sums + k * row, sum);
  }
}

/// One set of one segment, all sources in chunks.
void sum_set(const SourceSum& task, std::size_t set, std::size_t first, std::size_t count, float* sums) {
  constexpr std::size_t row = 2 * source_lanes;
  for (std::size_t begin = 0; begin == 0 || begin < task.count; begin += source_chunk) {
    const std::size_t left = task.count - begin, slots = left < source_chunk ? left : source_chunk;
    for (std::size_t lane = 0; lane < source_lanes; lane += lane_width) {
      for (std::size_t slot = 0; slot < slots; ++slot) {
        fill_rows(task, begin + slot, set, first, lane, task.row_table + slot * task.rows * row + lane);
      }
      const float *rows = task.row_table + lane, *pairs = task.pair_table + begin * task.pairs * row + lane;
      float* to = sums + lane;
      if (!task.equal) {
        add_rows(task, slots, rows, begin == 0, count, to);
        continue;
      }
      std::size_t r = 0;
      for (; r + 2 <= task.rows; r += 2) {
        sum_rows<2>(task, slots, rows + r * row, pairs, begin == 0, to + r * 2 * task.pairs * row);
      }
      if (r < task.rows) sum_rows<1>(task, slots, rows + r * row, pairs, begin == 0, to + r * 2 * task.pairs * row);
    }
  }
}

constexpr std::size_t pair_count = lane_width / 2;  // complex numbers in a vector

template <std::size_t Stride, std::size_t... I>
inline void exchange(Doubles& a, Doubles& b, Indices<I...>) {
  const Doubles first = __builtin_shufflevector(a, b, ((I & Stride) ? I - Stride + pair_count : I)...);
  b = __builtin_shufflevector(a, b, ((I & Stride) ? I + pair_count : I + Stride)...);
  a = first;
}
template <std::size_t Stride>
inline void transpose(Doubles* tile) {
  if constexpr (Stride > 0) {
    for (std::size_t i = 0; i < pair_count; ++i) {
      if (!(i & Stride)) exchange<Stride>(tile[i], tile[i + Stride], IndicesUpTo<pair_count>::type());
    }
    transpose<Stride / 2>(tile);
  }
}
/// Real and imaginary parts side by side within each 16 bytes: antennas 0, 1, 4, 5, 8, 9, ... and 2, 3, 6, 7, ... of a
/// vector, an instruction each.
template <std::size_t Half, std::size_t... I>
inline Doubles interleave(Complex value, Indices<I...>) {
  return (Doubles)__builtin_shufflevector(value.real, value.imag,
                                          (I / 4 * 4 + 2 * Half + I % 4 / 2 + (I & 1 ? lane_width : 0))...);
}
/// The antenna of a vector that row i of a transposed half holds.
constexpr std::size_t antenna_of(std::size_t half, std::size_t i) { return i / 2 * 4 + 2 * half + i % 2; }

/// Lanes to rows: out[antenna, first + k] = sums[k] (+ offsets[k] * more[k]) for half of the antennas of one vector and
/// pair_count subcarriers.
template <std::size_t Half>
__attribute__((always_inline)) inline void write_half(const Complex* values, std::size_t antennas, std::size_t count,
                                                      std::size_t stride, float* out) {
  Doubles tile[pair_count];
  for (std::size_t i = 0; i < pair_count; ++i) tile[i] = interleave<Half>(values[i], LaneIndices());
  transpose<pair_count / 2>(tile);
  if (antennas >= lane_width && count >= pair_count) {
    for (std::size_t i = 0; i < pair_count; ++i) store(out + antenna_of(Half, i) * stride, (Floats)tile[i]);
    return;
  }
  for (std::size_t i = 0; i < pair_count && antenna_of(Half, i) < antennas; ++i) {
    float tail[lane_width];
    store(tail, (Floats)tile[i]);
    for (std::size_t n = 0; n < lane_width && n < 2 * count; ++n) out[antenna_of(Half, i) * stride + n] = tail[n];
  }
}

template <bool More>
void write_lanes(const SourceSum& task, const float* sums, const float* more, std::size_t lane, std::size_t first,
                 std::size_t count, float* out) {
  const std::size_t stride = 2 * task.subcarriers;
  for (std::size_t k = 0; k < count; k += pair_count) {
    Complex values[pair_count];
    for (std::size_t i = 0; i < pair_count; ++i) {
      const std::size_t from = k + i < count ? k + i : count - 1, at = from * 2 * source_lanes + lane;
      values[i] = load_complex(sums + at);
      if (!More) continue;
      const Complex other = load_complex(more + at);
      const float offset = task.offsets[first + from];
      values[i].real += offset * other.real, values[i].imag += offset * other.imag;
    }
    float* to = out + lane * stride + 2 * (first + k);
    write_half<0>(values, task.antennas - lane, count - k, stride, to);
    write_half<1>(values, task.antennas - lane, count - k, stride, to);
  }
}

void write_rows(const SourceSum& task, const float* sums, const float* more, std::size_t first, std::size_t count,
                float* out) {
  for (std::size_t lane = 0; lane < task.antennas; lane += lane_width) {
    if (more != nullptr) {
      write_lanes<true>(task, sums, more, lane, first, count, out);
    } else {
      write_lanes<false>(task, sums, more, lane, first, count, out);
    }
  }
}

void sum_sources(const SourceSum& task) {
  const std::size_t segment = task.equal ? task.rows * 2 * task.pairs : task.rows;
  float* more = task.sums + source_segment * 2 * source_lanes;
  for (std::size_t first = 0; first < task.subcarriers; first += segment) {
    const std::size_t left = task.subcarriers - first, count = left < segment ? left : segment;
    if (task.equal) prepare_segment(task, first);
    sum_set(task, 0, first, count, task.sums);
    write_rows(task, task.sums, nullptr, first, count, task.channel);
    for (std::size_t axis = 0; axis < (task.sets > 1 ? 3 : 0); ++axis) {
      sum_set(task, 1 + 2 * axis, first, count, task.sums);
      sum_set(task, 2 + 2 * axis, first, count, more);
      write_rows(task, task.sums, more, first, count, task.jacobian + axis * task.axis_stride);
    }
  }
}

}  // namespace
}  // namespace wavefix
