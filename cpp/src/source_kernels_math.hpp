// SPDX-License-Identifier: Apache-2.0
// Vector arithmetic of the source kernels, for one level; see kernels_body.hpp. No include guard, on purpose.

namespace wavefix {
namespace {

constexpr std::size_t lane_width = WAVEFIX_VECTOR_BYTES / sizeof(float);
typedef float Floats __attribute__((vector_size(WAVEFIX_VECTOR_BYTES)));
typedef float HalfFloats __attribute__((vector_size(WAVEFIX_VECTOR_BYTES / 2)));
typedef int Ints __attribute__((vector_size(WAVEFIX_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(WAVEFIX_VECTOR_BYTES)));
typedef Floats LooseFloats __attribute__((aligned(sizeof(float)), may_alias));
typedef Doubles LooseDoubles __attribute__((aligned(sizeof(double)), may_alias));

template <std::size_t... I>
struct Indices {};
template <std::size_t N, std::size_t... I>
struct IndicesUpTo : IndicesUpTo<N - 1, N - 1, I...> {};
template <std::size_t... I>
struct IndicesUpTo<0, I...> {
  typedef Indices<I...> type;
};
typedef IndicesUpTo<lane_width>::type LaneIndices;

inline Floats load(const float* from) { return *reinterpret_cast<const LooseFloats*>(from); }
inline void store(float* to, Floats value) { *reinterpret_cast<LooseFloats*>(to) = value; }
inline Floats broadcast(float value) { return Floats{} + value; }

/// As many doubles as there are floats in a vector.
struct Wide {
  Doubles low, high;
};
inline Wide load_wide(const double* from) {
  return {*reinterpret_cast<const LooseDoubles*>(from), *reinterpret_cast<const LooseDoubles*>(from + lane_width / 2)};
}
inline void store_wide(double* to, Wide value) {
  *reinterpret_cast<LooseDoubles*>(to) = value.low;
  *reinterpret_cast<LooseDoubles*>(to + lane_width / 2) = value.high;
}
inline Wide operator+(Wide a, Wide b) { return {a.low + b.low, a.high + b.high}; }
inline Wide operator-(Wide a, Wide b) { return {a.low - b.low, a.high - b.high}; }
inline Wide operator*(Wide a, Wide b) { return {a.low * b.low, a.high * b.high}; }
inline Wide operator*(double a, Wide b) { return {a * b.low, a * b.high}; }
inline Wide operator+(double a, Wide b) { return {a + b.low, a + b.high}; }
inline Wide operator-(double a, Wide b) { return {a - b.low, a - b.high}; }

template <std::size_t... I>
inline Floats join(HalfFloats low, HalfFloats high, Indices<I...>) {
  return __builtin_shufflevector(low, high, I...);
}
inline Floats narrow(Wide value) {
  return join(__builtin_convertvector(value.low, HalfFloats), __builtin_convertvector(value.high, HalfFloats),
              LaneIndices());
}
struct Complex {
  Floats real, imag;
};
inline Complex operator*(Complex a, Complex b) {
  return {a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real};
}
inline Complex load_complex(const float* from) { return {load(from), load(from + source_lanes)}; }
/// The same, in registers: compilers would rather load it twice, and loads are what products wait for.
inline Complex held(Complex value) {
#if defined(__x86_64__)
  __asm__("" : "+v"(value.real), "+v"(value.imag));
#endif
  return value;
}
inline void store_complex(float* to, Complex value) { store(to, value.real), store(to + source_lanes, value.imag); }

/// Both correctly rounded, and shorter chains of dependent instructions than iterations from an estimate.
inline Doubles root(Doubles value) {
  Doubles out;
  for (std::size_t lane = 0; lane < lane_width / 2; ++lane) out[lane] = __builtin_sqrt(value[lane]);
  return out;
}
inline Floats root(Floats value) {
  Floats out;
  for (std::size_t lane = 0; lane < lane_width; ++lane) out[lane] = __builtin_sqrtf(value[lane]);
  return out;
}
inline Wide root(Wide value) { return {root(value.low), root(value.high)}; }
inline Wide inverse_of(Wide value) { return {1.0 / value.low, 1.0 / value.high}; }

/// The even- or odd-numbered integers of two vectors: the low or high halves of their doubles.
template <std::size_t Half, std::size_t... I>
inline Ints words(Wide value, Indices<I...>) {
  return __builtin_shufflevector((Ints)value.low, (Ints)value.high, (2 * I + Half)...);
}

/// e^(j pi / 2 quarters): whole quarters are taken off in double, the rest is right to a few units of float. NaN beyond
/// 2^51, from where on a double says nothing of the phase.
inline Complex quarter_phasor(Wide quarters) {
  constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer, kept in the low bits
  const Wide shifted = rounder + quarters;
  const Ints whole = words<0>(shifted, LaneIndices()), exponent = words<1>(shifted, LaneIndices()) >> 20;
  const Floats x = narrow(quarters - (-rounder + shifted)) * 1.57079632679489662f;
  const Floats y = exponent == 0x433 ? x * x : broadcast(__builtin_nanf(""));  // 2^52 to 2^53
  const Floats sine = x * (1.f + y * (-1.f / 6 + y * (1.f / 120 + y * (-1.f / 5040 + y * (1.f / 362880)))));
  const Floats cosine = 1.f + y * (-.5f + y * (1.f / 24 + y * (-1.f / 720 + y * (1.f / 40320))));
  const Ints odd = (whole & 1) != 0;
  const Ints first = (Ints)(odd ? sine : cosine), second = (Ints)(odd ? cosine : sine);
  return {(Floats)(first ^ (((whole + 1) & 2) << 30)), (Floats)(second ^ ((whole & 2) << 30))};
}

/// The logistic function and what is missing from 1.
struct Sigmoid {
  Floats value, rest;
};
inline Sigmoid sigmoid(Floats v) {
  const Ints negative = v < 0.f;
  Floats y = (negative ? v : -v) * 1.44269504f;
  y = y < -120.f ? broadcast(-120.f) : y;
  const Floats shifted = y + 12582912.f, f = y - (shifted - 12582912.f);  // 1.5 * 2^23: rounds
  Floats power =
      1.f + f * (0.693147181f +
                 f * (0.240226507f +
                      f * (0.0555041087f +
                           f * (0.00961812911f + f * (0.00133335581f + f * (1.54035304e-4f + f * 1.5252734e-5f))))));
  power = (Floats)((Ints)power + ((Ints)shifted << 23));
  const Floats larger = 1.f / (1.f + power), smaller = power * larger;
  return {negative ? smaller : larger, negative ? larger : smaller};
}

inline bool all(Ints mask) {
  int count = 0;
  for (std::size_t lane = 0; lane < lane_width; ++lane) count += mask[lane];
  return count == -static_cast<int>(lane_width);
}

}  // namespace
}  // namespace wavefix
