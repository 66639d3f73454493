// SPDX-License-Identifier: Apache-2.0
//
// The vocabulary of vec_scalar.h on 512 bits: sixteen lanes, a vector is a panel. Needs AVX512F,
// BW, DQ and VL.
#ifndef QKERNELS_KERNELS_SIMD_VEC_AVX512_H
#define QKERNELS_KERNELS_SIMD_VEC_AVX512_H

// gcc 12 takes the undefined operand of its own unmasked intrinsics for a mistake (PR 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

#include "kernels/contract.h"

namespace qk::QK_TIER {

constexpr uint32_t kLanes = 16;
constexpr uint32_t kByteLanes = 64;
constexpr uint32_t kVecs = kPanel / kLanes;

using VF = __m512;
using VI = __m512i;
using VB = __m512i;

struct VM {
  __mmask16 lanes;  // a bit a lane
};

// Loads and stores.
inline VF splat_f(float v) { return _mm512_set1_ps(v); }
inline VI splat_i(int32_t v) { return _mm512_set1_epi32(v); }
inline VF load_f(const void* p) { return _mm512_loadu_ps(p); }
inline void store_f(void* p, VF v) { _mm512_storeu_ps(p, v); }
inline VI load_i(const void* p) { return _mm512_loadu_si512(p); }
inline void store_i(void* p, VI v) { _mm512_storeu_si512(p, v); }

inline VI load_s8(const void* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline VI load_u8(const void* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline VF load_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline VF load_bf16(const void* p) {
  const __m256i halves = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline void store_panel_bytes(void* p, const VI (&v)[kVecs]) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v[0]));
}

inline void store_panel_words(void* p, const VI (&v)[kVecs]) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(v[0]));
}

// float32.
inline VF add(VF a, VF b) { return _mm512_add_ps(a, b); }
inline VF sub(VF a, VF b) { return _mm512_sub_ps(a, b); }
inline VF mul(VF a, VF b) { return _mm512_mul_ps(a, b); }
inline VF div(VF a, VF b) { return _mm512_div_ps(a, b); }
inline VF min(VF a, VF b) { return _mm512_min_ps(a, b); }
inline VF max(VF a, VF b) { return _mm512_max_ps(a, b); }
inline VF abs(VF v) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), v); }

inline VF copy_sign(VF magnitude, VF sign) {
  const __m512 sign_bit = _mm512_set1_ps(-0.0f);
  return _mm512_or_ps(_mm512_andnot_ps(sign_bit, magnitude), _mm512_and_ps(sign_bit, sign));
}

// int32.
inline VI add(VI a, VI b) { return _mm512_add_epi32(a, b); }
inline VI sub(VI a, VI b) { return _mm512_sub_epi32(a, b); }
inline VI mul(VI a, VI b) { return _mm512_mullo_epi32(a, b); }
inline VI min(VI a, VI b) { return _mm512_min_epi32(a, b); }
inline VI max(VI a, VI b) { return _mm512_max_epi32(a, b); }
inline VI bit_and(VI a, VI b) { return _mm512_and_si512(a, b); }
inline VI bit_xor(VI a, VI b) { return _mm512_xor_si512(a, b); }
inline VI shift_left(VI v, VI count) { return _mm512_sllv_epi32(v, count); }
inline VI shift_right(VI v, VI count) { return _mm512_srav_epi32(v, count); }

// int64 lanes to int32 in their low halves.
inline __m512i saturate_64(__m512i v) {
  return _mm512_max_epi64(_mm512_min_epi64(v, _mm512_set1_epi64(INT32_MAX)),
                          _mm512_set1_epi64(INT32_MIN));
}

// Even and odd lanes, each in the low half of its 64 bits, as one vector.
inline VI interleave(__m512i even, __m512i odd) {
  return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

// saturate((a * b + 2^(s-1)) >> s) of the even lanes; counts of 64 and more shift everything out.
inline __m512i mul_shift_round_even(__m512i a, __m512i b, __m512i s) {
  const __m512i one = _mm512_set1_epi64(1);
  const __m512i half = _mm512_sllv_epi64(one, _mm512_sub_epi64(s, one));
  return saturate_64(_mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(a, b), half), s));
}

inline VI mul_shift_round(VI a, VI b, VI s) {
  const __m512i low = _mm512_set1_epi64(0xffffffff);
  return interleave(mul_shift_round_even(a, b, _mm512_and_si512(s, low)),
                    mul_shift_round_even(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32),
                                         _mm512_srli_epi64(s, 32)));
}

// Of the sum only the bits from 31 on are kept: the low half of a logical shift has them all. One
// product leaves int32, INT32_MIN squared; it shows as INT32_MIN, which no other product gives.
inline VI mul_high_round(VI a, VI b) {
  const __m512i half = _mm512_set1_epi64(INT64_C(1) << 30);
  const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
  const __m512i odd =
      _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)), half);
  const __m512i high =
      _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 31), _mm512_slli_epi64(odd, 1));
  const __mmask16 over = _mm512_cmpeq_epi32_mask(high, _mm512_set1_epi32(INT32_MIN));
  return _mm512_mask_blend_epi32(over, high, _mm512_set1_epi32(INT32_MAX));
}

// Truth values.
inline VM greater(VF a, VF b) { return {_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)}; }
inline VM greater(VI a, VI b) { return {_mm512_cmpgt_epi32_mask(a, b)}; }
inline VM equal(VI a, VI b) { return {_mm512_cmpeq_epi32_mask(a, b)}; }
inline VM is_nan(VF v) { return {_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q)}; }
inline VM either(VM a, VM b) { return {static_cast<__mmask16>(a.lanes | b.lanes)}; }
inline VM no_lane() { return {0}; }
inline bool any(VM m) { return m.lanes != 0; }
inline VF select(VM m, VF yes, VF no) { return _mm512_mask_blend_ps(m.lanes, no, yes); }
inline VI select(VM m, VI yes, VI no) { return _mm512_mask_blend_epi32(m.lanes, no, yes); }

// Conversions.
inline VI bits_of(VF v) { return _mm512_castps_si512(v); }
inline VF to_float(VI v) { return _mm512_cvtepi32_ps(v); }
inline VI to_int(VF v) { return _mm512_cvtps_epi32(v); }  // MXCSR: nearest even

// A float64 holds the difference of two int32 exactly.
inline VF difference(VI a, VI b) {
  const __m512d low = _mm512_sub_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(a)),
                                    _mm512_cvtepi32_pd(_mm512_castsi512_si256(b)));
  const __m512d high = _mm512_sub_pd(_mm512_cvtepi32_pd(_mm512_extracti32x8_epi32(a, 1)),
                                     _mm512_cvtepi32_pd(_mm512_extracti32x8_epi32(b, 1)));
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}

inline VF power_of_two(VI n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

// Bytes.
inline VB load_b(const void* p) { return _mm512_loadu_si512(p); }
inline void store_b(void* p, VB v) { _mm512_storeu_si512(p, v); }
inline VB flip_sign(VB v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
inline VI add_bytes(VI acc, VB unsigned_bytes) {
  return _mm512_add_epi32(acc, _mm512_sad_epu8(unsigned_bytes, _mm512_setzero_si512()));
}
inline int32_t sum_lanes(VI v) { return _mm512_reduce_add_epi32(v); }
inline int32_t max_lanes(VI v) { return _mm512_reduce_max_epi32(v); }

template <bool kSigned>
inline void widen_b(void* dst, const void* src) {
  const __m256i* from = static_cast<const __m256i*>(src);
  __m512i* to = static_cast<__m512i*>(dst);
  for (uint32_t i = 0; i < 2; ++i) {
    const __m256i half = _mm256_loadu_si256(from + i);
    _mm512_storeu_si512(to + i, kSigned ? _mm512_cvtepi8_epi16(half) : _mm512_cvtepu8_epi16(half));
  }
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_VEC_AVX512_H
