// SPDX-License-Identifier: Apache-2.0
// Body of the kernels of the float and fix steps, for one level; see kernels_body.hpp. No include guard, on purpose.

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors wider than the level's registers stay inside of this file
#endif

namespace wavefix {
namespace {

typedef float Eight __attribute__((vector_size(32), aligned(sizeof(float)), may_alias));
typedef float Four __attribute__((vector_size(16), aligned(sizeof(float)), may_alias));

inline Eight eight(const float* from) { return *reinterpret_cast<const Eight*>(from); }
inline Four four(const float* from) { return *reinterpret_cast<const Four*>(from); }

/// Each of four weights for the real and the imaginary part of one tap.
inline Eight twice(float a, float b, float c, float d) { return Eight{a, a, b, b, c, c, d, d}; }

struct CubicTaps {
  int first;
  float s;  // from the second tap on
};
inline CubicTaps cubic_taps(float at, std::size_t nodes) {
  const float highest = static_cast<float>(nodes) - 1.0f, last_cell = static_cast<float>(nodes) - 3.0f;
  at = at > 0.0f ? (at < highest ? at : highest) : 0.0f;
  float cell = static_cast<float>(static_cast<int>(at));
  cell = cell < 1.0f ? 1.0f : (cell > last_cell ? last_cell : cell);
  return {static_cast<int>(cell) - 1, at - cell};
}

constexpr std::size_t tap_block = 16;  // antennas whose weights are computed together

struct TapBlock {
  float weight[4][tap_block], slope[4][tap_block];
  int first[tap_block];
};
template <bool Slopes>
inline void fill_taps(const float* delay, std::size_t count, std::size_t nodes, TapBlock& taps) {
  for (std::size_t i = 0; i < tap_block; ++i) {
    const CubicTaps at = cubic_taps(delay[i < count ? i : 0], nodes);
    const float s = at.s, m = s - 1.0f, p = s + 1.0f, n = s - 2.0f;
    taps.first[i] = at.first;
    taps.weight[0][i] = -s * m * n * (1.0f / 6.0f);
    taps.weight[1][i] = p * m * n * 0.5f;
    taps.weight[2][i] = -p * s * n * 0.5f;
    taps.weight[3][i] = p * s * m * (1.0f / 6.0f);
    if (!Slopes) continue;
    taps.slope[0][i] = (-3.0f * s * s + 6.0f * s - 2.0f) * (1.0f / 6.0f);
    taps.slope[1][i] = (3.0f * s * s - 4.0f * s - 1.0f) * 0.5f;
    taps.slope[2][i] = (-3.0f * s * s + 2.0f * s + 2.0f) * 0.5f;
    taps.slope[3][i] = (3.0f * s * s - 1.0f) * (1.0f / 6.0f);
  }
}

/// conj(a) z from the products of z's taps with the real and with the imaginary parts of a.
inline void close_product(Eight by_real, Eight by_imag, float* real_imag) {
  real_imag[0] = real_imag[1] = 0.0f;
  for (int tap = 0; tap < 8; tap += 2) {
    real_imag[0] += by_real[tap] + by_imag[tap + 1];
    real_imag[1] += by_real[tap + 1] - by_imag[tap];
  }
}

/// [vectors, 2]; one vector is the product alone.
template <std::size_t Vectors>
void products_of(const PathSlopes& task, float* out) {
  const PathProduct& path = task.path;
  const std::size_t groups = (path.antennas + task.group - 1) / task.group;
  Eight by_real[Vectors] = {}, by_imag[Vectors] = {};
  for (std::size_t begin = 0; begin < path.antennas; begin += tap_block) {
    const std::size_t count = path.antennas - begin < tap_block ? path.antennas - begin : tap_block;
    TapBlock taps;
    fill_taps<(Vectors > 1)>(path.delay + begin, count, path.nodes, taps);
    const float* row = path.profile + 2 * begin * path.nodes;
    for (std::size_t i = 0; i < count; ++i, row += 2 * path.nodes) {
      const std::size_t j = begin + i;
      const Eight table = eight(row + 2 * taps.first[i]);
      const Eight z = twice(taps.weight[0][i], taps.weight[1][i], taps.weight[2][i], taps.weight[3][i]) * table;
      by_real[0] += path.real[j] * z;
      by_imag[0] += path.imag[j] * z;
      if (Vectors == 1) continue;
      const Eight slope = twice(taps.slope[0][i], taps.slope[1][i], taps.slope[2][i], taps.slope[3][i]) * table;
      for (std::size_t c = 1; c < Vectors; ++c) {
        const Eight moved = task.later[(c - 1) * groups + j / task.group] * slope;
        by_real[c] += path.real[c * path.antennas + j] * z + path.real[j] * moved;
        by_imag[c] += path.imag[c * path.antennas + j] * z + path.imag[j] * moved;
      }
    }
  }
  for (std::size_t c = 0; c < Vectors; ++c) close_product(by_real[c], by_imag[c], out + 2 * c);
}
void path_product(const PathProduct& path, float* real_imag) { products_of<1>({path, nullptr, 1, 1}, real_imag); }
void path_slopes(const PathSlopes& task, float* out) {
  if (task.vectors == 3) return products_of<3>(task, out);
  return task.vectors == 4 ? products_of<4>(task, out) : products_of<2>(task, out);
}

float explained_energy(const MapPoint& point) {
  float real[most_paths], imag[most_paths];
  for (std::size_t l = 0; l < point.count; ++l) {
    const float *re = point.real + l * point.antenna_stride, *im = point.imag + l * point.antenna_stride;
    const GroupTaps* taps = point.taps + l * point.tap_stride;
    const float* row = point.profile;
    Eight by_real = {}, by_imag = {};
    for (std::size_t begin = 0; begin < point.antennas; begin += point.group, ++taps) {
      const std::size_t end = begin + point.group < point.antennas ? begin + point.group : point.antennas;
      Eight r = {}, i = {};
      for (std::size_t j = begin; j < end; ++j, row += 2 * point.nodes) {
        const Eight z = eight(row + 2 * taps->first);
        r += re[j] * z;
        i += im[j] * z;
      }
      const Eight weight = twice(taps->weight[0], taps->weight[1], taps->weight[2], taps->weight[3]);
      by_real += weight * r;
      by_imag += weight * i;
    }
    float product[2];
    close_product(by_real, by_imag, product);
    real[l] = product[0], imag[l] = product[1];
  }
  Four energy = {};
  const float* from = point.whitener;
  for (std::size_t first = 0; first < point.count; first += 4) {
    const std::size_t columns = first + 4 < point.count ? first + 4 : point.count;
    Four r = {}, i = {};
    for (std::size_t m = 0; m < columns; ++m, from += 8) {
      r += four(from) * real[m] - four(from + 4) * imag[m];
      i += four(from) * imag[m] + four(from + 4) * real[m];
    }
    energy += r * r + i * i;
  }
  return (energy[0] + energy[1]) + (energy[2] + energy[3]);
}

/// In planes, one group a lane: the sum over subcarriers as a function of the delay between the paths.
inline void look_up_overlaps(const PathPair& pair, std::size_t at, float planes[6][group_lanes]) {
  for (std::size_t lane = 0; lane < group_lanes; ++lane) {
    if (at + lane >= pair.groups) {
      for (int part = 0; part < 6; ++part) planes[part][lane] = 0.0f;
      continue;
    }
    const CubicTaps taps = cubic_taps(pair.m.delay[at + lane] - pair.l.delay[at + lane] + pair.middle, pair.shifts);
    const float s = taps.s, m = s - 1.0f, p = s + 1.0f, n = s - 2.0f;
    const float* entry = pair.overlaps + static_cast<std::size_t>(taps.first) * overlap_width;
    const Eight sum = (-s * m * n * (1.0f / 6.0f)) * eight(entry) + (p * m * n * 0.5f) * eight(entry + overlap_width) +
                      (-p * s * n * 0.5f) * eight(entry + 2 * overlap_width) +
                      (p * s * m * (1.0f / 6.0f)) * eight(entry + 3 * overlap_width);
    for (int part = 0; part < 6; ++part) planes[part][lane] = sum[part];
  }
}

struct ComplexEight {
  Eight real, imag;
};
inline ComplexEight operator*(ComplexEight a, ComplexEight b) {
  return {a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real};
}
inline void add(ComplexEight& to, ComplexEight value) { to.real += value.real, to.imag += value.imag; }

/// [Vectors, Vectors, 2]
template <std::size_t Vectors>
void pair_sums_of(const PathPair& pair, float* out) {
  ComplexEight total[Vectors][Vectors] = {};
  for (std::size_t at = 0; at < pair.lanes; at += group_lanes) {
    float planes[6][group_lanes];
    look_up_overlaps(pair, at, planes);
    ComplexEight sum[Vectors][Vectors];
    for (std::size_t c = 0; c < Vectors; ++c) {
      ComplexEight row[Vectors] = {};
      for (std::size_t i = 0; i < pair.group; ++i) {
        const std::size_t of_l = (c * pair.group + i) * pair.lanes + at;
        const Eight re = eight(pair.l.real + of_l), im = eight(pair.l.imag + of_l);
        for (std::size_t e = 0; e < Vectors; ++e) {
          const std::size_t of_m = (e * pair.group + i) * pair.lanes + at;
          const Eight other_re = eight(pair.m.real + of_m), other_im = eight(pair.m.imag + of_m);
          row[e].real += re * other_re;
          row[e].imag += re * other_im;
          row[e].real += im * other_im;
          row[e].imag -= im * other_re;
        }
      }
      for (std::size_t e = 0; e < Vectors; ++e) sum[c][e] = row[e];
    }
    const ComplexEight value{eight(planes[0]), eight(planes[1])}, slope{eight(planes[2]), eight(planes[3])},
        bend{eight(planes[4]), eight(planes[5])};
    const ComplexEight turned = slope * sum[0][0], bent = bend * sum[0][0];
    add(total[0][0], value * sum[0][0]);
    for (std::size_t d = 1; d < Vectors; ++d) {
      const Eight l = eight(pair.l.later + (d - 1) * pair.lanes + at);
      const Eight m = eight(pair.m.later + (d - 1) * pair.lanes + at);
      add(total[0][d], value * sum[0][d]);
      add(total[0][d], {m * turned.real, m * turned.imag});
      add(total[d][0], value * sum[d][0]);
      add(total[d][0], {-l * turned.real, -l * turned.imag});
      for (std::size_t e = 1; e < Vectors; ++e) {
        const Eight also = eight(pair.m.later + (e - 1) * pair.lanes + at);
        const ComplexEight by_m = slope * sum[d][0], by_l = slope * sum[0][e];
        add(total[d][e], value * sum[d][e]);
        add(total[d][e], {also * by_m.real - l * by_l.real - l * also * bent.real,
                          also * by_m.imag - l * by_l.imag - l * also * bent.imag});
      }
    }
  }
  const auto close = [](Eight v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); };
  for (std::size_t c = 0; c < Vectors; ++c) {
    for (std::size_t e = 0; e < Vectors; ++e) {
      *out++ = close(total[c][e].real);
      *out++ = close(total[c][e].imag);
    }
  }
}
void pair_sums(const PathPair& pair, float* out) {
  if (pair.vectors == 1) return pair_sums_of<1>(pair, out);
  if (pair.vectors == 3) return pair_sums_of<3>(pair, out);
  return pair.vectors == 4 ? pair_sums_of<4>(pair, out) : pair_sums_of<2>(pair, out);
}

void fill_carrier(const Carrier& task) {
  for (std::size_t begin = 0; begin < task.count; begin += lane_width) {
    double at[lane_width];
    for (std::size_t i = 0; i < lane_width; ++i) at[i] = task.first + task.step * static_cast<double>(begin + i);
    const Wide t = load_wide(at);
    const Complex value = quarter_phasor(4.0 * task.turns + t * (4.0 * task.rate + 4.0 * task.bend * t));
    store(task.real + begin, value.real), store(task.imag + begin, value.imag);
  }
}

inline Doubles wide_half(const float* from) {
  typedef HalfFloats LooseHalf __attribute__((aligned(sizeof(float)), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const LooseHalf*>(from), Doubles);
}

void add_normal_equations(const NormalSums& task, double* sums) {
  constexpr std::size_t width = lane_width / 2;
  const float *x = task.jacobian, *y = x + task.parts, *z = y + task.parts;
  Doubles xx{}, xy{}, xz{}, yy{}, yz{}, zz{}, xr{}, yr{}, zr{}, rr{};  // by name, so that they stay in registers
  const auto add = [&](Doubles a, Doubles b, Doubles c, Doubles rest) {
    xx += a * a, xy += a * b, xz += a * c, yy += b * b, yz += b * c, zz += c * c;
    xr += a * rest, yr += b * rest, zr += c * rest, rr += rest * rest;
  };
  std::size_t i = 0;
  for (; i + width <= task.parts; i += width) {
    add(wide_half(x + i), wide_half(y + i), wide_half(z + i),
        wide_half(task.measured + i) - wide_half(task.channel + i));
  }
  if (i < task.parts) {
    float tail[5][width] = {};
    for (std::size_t lane = 0; i + lane < task.parts; ++lane) {
      const float* const from[5] = {x, y, z, task.measured, task.channel};
      for (int row = 0; row < 5; ++row) tail[row][lane] = from[row][i + lane];
    }
    add(wide_half(tail[0]), wide_half(tail[1]), wide_half(tail[2]), wide_half(tail[3]) - wide_half(tail[4]));
  }
  const Doubles total[normal_sums] = {xx, xy, xz, yy, yz, zz, xr, yr, zr, rr};
  for (std::size_t sum = 0; sum < normal_sums; ++sum) {
    sums[sum] = 0.0;
    for (std::size_t lane = 0; lane < width; ++lane) sums[sum] += total[sum][lane];
  }
}

/// Amplitudes of a block of antennas with the phase of their distances.
void turn_source(const double* distance, const float* amplitudes, double wavenumber, float* real, float* imag) {
  for (std::size_t lane = 0; lane < source_lanes; lane += lane_width) {
    const Complex value =
        load_complex(amplitudes + lane) * quarter_phasor(-4.0 * wavenumber * load_wide(distance + lane));
    store(real + lane, value.real), store(imag + lane, value.imag);
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
}  // namespace wavefix
