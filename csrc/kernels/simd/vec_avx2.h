// SPDX-License-Identifier: Apache-2.0
//
// The vocabulary of vec_scalar.h on 256 bits: eight lanes, two vectors a panel. Needs AVX2 and
// F16C. AVX2 has no 64-bit arithmetic shift, no 64-bit saturation and no masks: they are made here.
#ifndef QKERNELS_KERNELS_SIMD_VEC_AVX2_H
#define QKERNELS_KERNELS_SIMD_VEC_AVX2_H

#include <immintrin.h>

#include "kernels/contract.h"

namespace qk::QK_TIER {

constexpr uint32_t kLanes = 8;
constexpr uint32_t kByteLanes = 32;
constexpr uint32_t kVecs = kPanel / kLanes;

using VF = __m256;
using VI = __m256i;
using VB = __m256i;

struct VM {
  __m256 lanes;  // all bits of a lane, or none
};

// Loads and stores.
inline VF splat_f(float v) { return _mm256_set1_ps(v); }
inline VI splat_i(int32_t v) { return _mm256_set1_epi32(v); }
inline VF load_f(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
inline void store_f(void* p, VF v) { _mm256_storeu_ps(static_cast<float*>(p), v); }
inline VI load_i(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store_i(void* p, VI v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

inline VI load_s8(const void* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
inline VI load_u8(const void* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
inline VF load_f16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline VF load_bf16(const void* p) {
  const __m128i halves = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

// The packs work within 128-bit halves: each holds four bytes of v[0], then four of v[1].
inline void store_panel_bytes(void* p, const VI (&v)[kVecs]) {
  const __m256i low_byte = _mm256_set1_epi32(0xff);
  const __m256i words =
      _mm256_packus_epi32(_mm256_and_si256(v[0], low_byte), _mm256_and_si256(v[1], low_byte));
  const __m256i bytes = _mm256_packus_epi16(words, words);
  const __m256i in_order =
      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0));
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(in_order));
}

inline void store_panel_words(void* p, const VI (&v)[kVecs]) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[0], v[1]), 0xd8);
  _mm256_storeu_si256(static_cast<__m256i*>(p), words);
}

// float32.
inline VF add(VF a, VF b) { return _mm256_add_ps(a, b); }
inline VF sub(VF a, VF b) { return _mm256_sub_ps(a, b); }
inline VF mul(VF a, VF b) { return _mm256_mul_ps(a, b); }
inline VF div(VF a, VF b) { return _mm256_div_ps(a, b); }
inline VF min(VF a, VF b) { return _mm256_min_ps(a, b); }
inline VF max(VF a, VF b) { return _mm256_max_ps(a, b); }
inline VF abs(VF v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

inline VF copy_sign(VF magnitude, VF sign) {
  const __m256 sign_bit = _mm256_set1_ps(-0.0f);
  return _mm256_or_ps(_mm256_andnot_ps(sign_bit, magnitude), _mm256_and_ps(sign_bit, sign));
}

// int32.
inline VI add(VI a, VI b) { return _mm256_add_epi32(a, b); }
inline VI sub(VI a, VI b) { return _mm256_sub_epi32(a, b); }
inline VI mul(VI a, VI b) { return _mm256_mullo_epi32(a, b); }
inline VI min(VI a, VI b) { return _mm256_min_epi32(a, b); }
inline VI max(VI a, VI b) { return _mm256_max_epi32(a, b); }
inline VI bit_and(VI a, VI b) { return _mm256_and_si256(a, b); }
inline VI bit_xor(VI a, VI b) { return _mm256_xor_si256(a, b); }
inline VI shift_left(VI v, VI count) { return _mm256_sllv_epi32(v, count); }
inline VI shift_right(VI v, VI count) { return _mm256_srav_epi32(v, count); }

// int64 lanes to int32 in their low halves.
inline __m256i saturate_64(__m256i v) {
  const __m256i highest = _mm256_set1_epi64x(INT32_MAX);
  const __m256i lowest = _mm256_set1_epi64x(INT32_MIN);
  v = _mm256_blendv_epi8(v, highest, _mm256_cmpgt_epi64(v, highest));
  return _mm256_blendv_epi8(v, lowest, _mm256_cmpgt_epi64(lowest, v));
}

// Even and odd lanes, each in the low half of its 64 bits, as one vector.
inline VI interleave(__m256i even, __m256i odd) {
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

// saturate((a * b + 2^(s-1)) >> s) of the even lanes; counts of 64 and more shift everything out.
inline __m256i mul_shift_round_even(__m256i a, __m256i b, __m256i s) {
  const __m256i one = _mm256_set1_epi64x(1);
  const __m256i sign = _mm256_set1_epi64x(INT64_MIN);
  const __m256i half = _mm256_sllv_epi64(one, _mm256_sub_epi64(s, one));
  const __m256i sum = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
  // Arithmetic shift from the logical one: shift sum + 2^63, take 2^63 >> s off again.
  return saturate_64(_mm256_sub_epi64(_mm256_srlv_epi64(_mm256_xor_si256(sum, sign), s),
                                      _mm256_srlv_epi64(sign, s)));
}

inline VI mul_shift_round(VI a, VI b, VI s) {
  const __m256i low = _mm256_set1_epi64x(0xffffffff);
  return interleave(mul_shift_round_even(a, b, _mm256_and_si256(s, low)),
                    mul_shift_round_even(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32),
                                         _mm256_srli_epi64(s, 32)));
}

// Of the sum only the bits from 31 on are kept: the low half of a logical shift has them all. One
// product leaves int32, INT32_MIN squared; it shows as INT32_MIN, which no other product gives.
inline VI mul_high_round(VI a, VI b) {
  const __m256i half = _mm256_set1_epi64x(INT64_C(1) << 30);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
  const __m256i odd =
      _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)), half);
  const __m256i high =
      _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xaa);
  return _mm256_xor_si256(high, _mm256_cmpeq_epi32(high, _mm256_set1_epi32(INT32_MIN)));
}

// Truth values.
inline VM greater(VF a, VF b) { return {_mm256_cmp_ps(a, b, _CMP_GT_OQ)}; }
inline VM greater(VI a, VI b) { return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b))}; }
inline VM equal(VI a, VI b) { return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b))}; }
inline VM is_nan(VF v) { return {_mm256_cmp_ps(v, v, _CMP_UNORD_Q)}; }
inline VM either(VM a, VM b) { return {_mm256_or_ps(a.lanes, b.lanes)}; }
inline VM no_lane() { return {_mm256_setzero_ps()}; }
inline bool any(VM m) { return _mm256_movemask_ps(m.lanes) != 0; }
inline VF select(VM m, VF yes, VF no) { return _mm256_blendv_ps(no, yes, m.lanes); }
inline VI select(VM m, VI yes, VI no) {
  return _mm256_blendv_epi8(no, yes, _mm256_castps_si256(m.lanes));
}

// Conversions.
inline VI bits_of(VF v) { return _mm256_castps_si256(v); }
inline VF to_float(VI v) { return _mm256_cvtepi32_ps(v); }
inline VI to_int(VF v) { return _mm256_cvtps_epi32(v); }  // MXCSR: nearest even

// A float64 holds the difference of two int32 exactly.
inline VF difference(VI a, VI b) {
  const __m256d low = _mm256_sub_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(a)),
                                    _mm256_cvtepi32_pd(_mm256_castsi256_si128(b)));
  const __m256d high = _mm256_sub_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(a, 1)),
                                     _mm256_cvtepi32_pd(_mm256_extracti128_si256(b, 1)));
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                              1);
}

inline VF power_of_two(VI n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

// Bytes.
inline VB load_b(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store_b(void* p, VB v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
inline VB flip_sign(VB v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
inline VI add_bytes(VI acc, VB unsigned_bytes) {
  return _mm256_add_epi32(acc, _mm256_sad_epu8(unsigned_bytes, _mm256_setzero_si256()));
}
inline int32_t sum_lanes(VI v) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}
inline int32_t max_lanes(VI v) {
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtsi128_si32(most);
}

template <bool kSigned>
inline void widen_b(void* dst, const void* src) {
  const __m128i* from = static_cast<const __m128i*>(src);
  __m256i* to = static_cast<__m256i*>(dst);
  for (uint32_t i = 0; i < 2; ++i) {
    const __m128i half = _mm_loadu_si128(from + i);
    _mm256_storeu_si256(to + i, kSigned ? _mm256_cvtepi8_epi16(half) : _mm256_cvtepu8_epi16(half));
  }
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_VEC_AVX2_H
