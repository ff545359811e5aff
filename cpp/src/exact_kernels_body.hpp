// SPDX-License-Identifier: Apache-2.0
// Body of the kernels that decide a dictionary search, for one level: sums in float64 in one order, whatever the
// vectors, so that every level returns the same bits. See kernels_body.hpp. No include guard, on purpose.

namespace wavefix {
namespace {

constexpr std::size_t fetched_numbers = 512;
constexpr std::size_t exact_lanes = 16, exact_width = lane_width / 2, exact_vectors = exact_lanes / exact_width;
/// Calls step(a, b) for all numbers of a and b, exact_lanes at a time, zeros behind the last.
template <class Step>
inline void for_lanes(const float* a, const float* b, std::size_t count, const Step& step) {
  std::size_t at = 0;
  for (; at + exact_lanes <= count; at += exact_lanes) {
    __builtin_prefetch(b + at + fetched_numbers);  // beyond the page that the processor reads ahead in
    step(a + at, b + at);
  }
  if (at == count) return;
  float last_a[exact_lanes] = {}, last_b[exact_lanes] = {};
  __builtin_memcpy(last_a, a + at, (count - at) * sizeof(float));
  __builtin_memcpy(last_b, b + at, (count - at) * sizeof(float));
  step(last_a, last_b);
}
inline Doubles load_doubles(const float* from) {
#if defined(__x86_64__) && WAVEFIX_VECTOR_BYTES == 64  // which the compiler would do by halves
  return (Doubles)_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(from));
#elif defined(__x86_64__) && WAVEFIX_VECTOR_BYTES == 32
  return (Doubles)_mm256_cvtps_pd(_mm_loadu_ps(from));
#else
  typedef HalfFloats Loose __attribute__((aligned(sizeof(float)), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Loose*>(from), Doubles);
#endif
}
/// Sums over the even and over the odd lanes.
inline void sum_lanes(const Doubles* sums, double* even_odd) {
  double lanes[exact_lanes];
  for (std::size_t v = 0; v < exact_vectors; ++v) {
    *reinterpret_cast<LooseDoubles*>(lanes + v * exact_width) = sums[v];
  }
  even_odd[0] = lanes[0], even_odd[1] = lanes[1];
  for (std::size_t lane = 2; lane < exact_lanes; ++lane) even_odd[lane % 2] += lanes[lane];
}

double squared_distance(const float* a, const float* b, std::size_t count) {
  Doubles sums[exact_vectors] = {};
  for_lanes(a, b, count, [&sums](const float* of_a, const float* of_b) {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < exact_vectors; ++v) {
      const Doubles off = load_doubles(of_a + v * exact_width) - load_doubles(of_b + v * exact_width);
      Doubles square = off * off;
#if defined(__x86_64__)
      __asm__("" : "+x"(square));  // rounded, where some levels would fuse it with the sum
#endif
      sums[v] += square;
    }
  });
  double even_odd[2];
  sum_lanes(sums, even_odd);
  return even_odd[0] + even_odd[1];
}

template <std::size_t... I>
inline Doubles swap_pairs(Doubles value, Indices<I...>) {
  return __builtin_shufflevector(value, value, (I ^ 1)...);
}

/// Products of floats are exact in float64, so it does not matter which levels fuse them with the sum.
void inner_product(const float* a, const float* b, std::size_t count, double* re_im) {
  Doubles real[exact_vectors] = {}, imag[exact_vectors] = {};
  for_lanes(a, b, count, [&real, &imag](const float* of_a, const float* of_b) {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < exact_vectors; ++v) {
      const Doubles x = load_doubles(of_a + v * exact_width), y = load_doubles(of_b + v * exact_width);
      real[v] += x * y;
      imag[v] += x * swap_pairs(y, IndicesUpTo<exact_width>::type());
    }
  });
  double even_odd[2];
  sum_lanes(imag, even_odd);
  re_im[1] = even_odd[0] - even_odd[1];
  sum_lanes(real, even_odd);
  re_im[0] = even_odd[0] + even_odd[1];
}

}  // namespace
}  // namespace wavefix
