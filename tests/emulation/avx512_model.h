// SPDX-License-Identifier: Apache-2.0
//
// AVX-512 (F, BW, DQ, VL, VNNI) and AVX-VNNI in terms of AVX2 and plain loops, from the operation that the Intel
// 64 and IA-32 Architectures Software Developer's Manual and Intel's intrinsics guide give each
// instruction. Where a 512-bit operation does to each 256-bit half what AVX2 does to a whole
// register, it is that, twice; what is new in AVX-512 (masks, vpdpbusd, narrowing, 64-bit shifts
// and comparisons, permutations across the register) is a loop over lanes.
//
// The functions live in namespace qk: a kernel in qk::TIER that names _mm512_add_epi32 finds this
// one before the compiler's. They are static, so that object files gain no symbol. A masked load or
// store touches the memory of the selected lanes alone, as the instruction does.
#ifndef QKERNELS_TESTS_EMULATION_AVX512_MODEL_H
#define QKERNELS_TESTS_EMULATION_AVX512_MODEL_H

#include "avx512_lanes.h"

// The compiler has these as macros (always, or without optimisation).
#undef _mm256_dpbusd_avx_epi32
#undef _mm256_dpbusd_epi32
#undef _mm256_dpwssd_epi32
#undef _mm256_mask_blend_epi16
#undef _mm256_mask_blend_epi32
#undef _mm256_mask_blend_epi8
#undef _mm256_mask_blend_ps
#undef _mm512_alignr_epi32
#undef _mm512_cmp_epi32_mask
#undef _mm512_cmp_epi64_mask
#undef _mm512_cmp_epi8_mask
#undef _mm512_cmp_epu32_mask
#undef _mm512_cmp_epu8_mask
#undef _mm512_cmp_ps_mask
#undef _mm512_extractf32x4_ps
#undef _mm512_extractf32x8_ps
#undef _mm512_extracti32x4_epi32
#undef _mm512_extracti32x8_epi32
#undef _mm512_extracti64x4_epi64
#undef _mm512_insertf32x8
#undef _mm512_inserti32x4
#undef _mm512_inserti32x8
#undef _mm512_inserti64x4
#undef _mm512_mask_blend_epi16
#undef _mm512_mask_blend_epi8
#undef _mm512_shuffle_epi32
#undef _mm512_shuffle_i32x4
#undef _mm512_slli_epi16
#undef _mm512_slli_epi32
#undef _mm512_slli_epi64
#undef _mm512_srai_epi16
#undef _mm512_srai_epi32
#undef _mm512_srai_epi64
#undef _mm512_srli_epi16
#undef _mm512_srli_epi32
#undef _mm512_srli_epi64
#undef _mm512_ternarylogic_epi32
#undef _mm512_undefined_epi32
#undef _mm_dpbusd_epi32
#undef _mm_mask_blend_epi16
#undef _mm_mask_blend_epi32
#undef _mm_mask_blend_epi8

namespace qk {

// A table: a line or two an instruction.
// clang-format off
#define QK_MODEL(result) static inline __attribute__((always_inline)) result

// Two operands, 256 bits at a time with the AVX2 intrinsic of the same name.
#define QK_HALVES(V, H, name, avx2)                                                       \
  QK_MODEL(V) _mm512_##name(V a, V b) {                                                   \
    return avx512_model::halves<V>([](H x, H y) { return _mm256_##avx2(x, y); }, a, b);   \
  }
#define QK_INT(name) QK_HALVES(__m512i, __m256i, name, name)
#define QK_PS(name) QK_HALVES(__m512, __m256, name, name)
#define QK_PD(name) QK_HALVES(__m512d, __m256d, name, name)
QK_INT(add_epi8) QK_INT(add_epi16) QK_INT(add_epi32) QK_INT(add_epi64)
QK_INT(sub_epi8) QK_INT(sub_epi16) QK_INT(sub_epi32) QK_INT(sub_epi64)
QK_INT(adds_epi8) QK_INT(adds_epi16) QK_INT(adds_epu8) QK_INT(adds_epu16)
QK_INT(subs_epi8) QK_INT(subs_epi16) QK_INT(subs_epu8) QK_INT(subs_epu16)
QK_INT(mullo_epi16) QK_INT(mullo_epi32) QK_INT(mulhi_epi16) QK_INT(mulhi_epu16)
QK_INT(mulhrs_epi16) QK_INT(mul_epi32) QK_INT(mul_epu32) QK_INT(madd_epi16)
QK_INT(maddubs_epi16) QK_INT(sad_epu8) QK_INT(avg_epu8)
QK_INT(min_epi8) QK_INT(min_epu8) QK_INT(min_epi16) QK_INT(min_epu16) QK_INT(min_epi32)
QK_INT(min_epu32) QK_INT(max_epi8) QK_INT(max_epu8) QK_INT(max_epi16) QK_INT(max_epu16)
QK_INT(max_epi32) QK_INT(max_epu32)
QK_INT(sllv_epi32) QK_INT(srlv_epi32) QK_INT(srav_epi32) QK_INT(sllv_epi64) QK_INT(srlv_epi64)
QK_INT(unpacklo_epi8) QK_INT(unpackhi_epi8) QK_INT(unpacklo_epi16) QK_INT(unpackhi_epi16)
QK_INT(unpacklo_epi32) QK_INT(unpackhi_epi32) QK_INT(unpacklo_epi64) QK_INT(unpackhi_epi64)
QK_INT(packs_epi16) QK_INT(packus_epi16) QK_INT(packs_epi32) QK_INT(packus_epi32)
QK_INT(shuffle_epi8)
QK_HALVES(__m512i, __m256i, and_si512, and_si256)
QK_HALVES(__m512i, __m256i, or_si512, or_si256)
QK_HALVES(__m512i, __m256i, xor_si512, xor_si256)
QK_HALVES(__m512i, __m256i, andnot_si512, andnot_si256)
QK_PS(add_ps) QK_PS(sub_ps) QK_PS(mul_ps) QK_PS(div_ps) QK_PS(min_ps) QK_PS(max_ps)
QK_PS(and_ps) QK_PS(or_ps) QK_PS(xor_ps) QK_PS(andnot_ps) QK_PS(unpacklo_ps) QK_PS(unpackhi_ps)
QK_PD(add_pd) QK_PD(sub_pd) QK_PD(mul_pd) QK_PD(div_pd) QK_PD(min_pd) QK_PD(max_pd)

// One operand, likewise; and a shift by one count (counts of the lane's width or more: all out).
#define QK_UNARY(R, V, H, name)                                                           \
  QK_MODEL(R) _mm512_##name(V v) {                                                        \
    return avx512_model::halves<R>([](H x) { return _mm256_##name(x); }, v);              \
  }
#define QK_SHIFT(name)                                                                    \
  QK_MODEL(__m512i) _mm512_##name(__m512i v, unsigned n) {                                \
    const int count = n > 64 ? 64 : static_cast<int>(n);                                  \
    return avx512_model::halves<__m512i>(                                                 \
        [count](__m256i x) { return _mm256_##name(x, count); }, v);                       \
  }
QK_UNARY(__m512i, __m512i, __m256i, abs_epi8)
QK_UNARY(__m512i, __m512i, __m256i, abs_epi16)
QK_UNARY(__m512i, __m512i, __m256i, abs_epi32)
QK_UNARY(__m512, __m512i, __m256i, cvtepi32_ps)
QK_UNARY(__m512i, __m512, __m256, cvtps_epi32)
QK_UNARY(__m512i, __m512, __m256, cvttps_epi32)
QK_UNARY(__m512, __m512, __m256, sqrt_ps)
QK_SHIFT(slli_epi16) QK_SHIFT(srli_epi16) QK_SHIFT(srai_epi16)
QK_SHIFT(slli_epi32) QK_SHIFT(srli_epi32) QK_SHIFT(srai_epi32)
QK_SHIFT(slli_epi64) QK_SHIFT(srli_epi64)

// Fused: rounded once. By lane, because the folder is compiled without FMA.
QK_MODEL(__m512) _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return avx512_model::map<float, float, __m512>(
      [](float x, float y, float z) { return __builtin_fmaf(x, y, z); }, a, b, c);
}

// 64-bit lanes: what AVX2 lacks.
QK_MODEL(__m512i) _mm512_srav_epi64(__m512i v, __m512i counts) {
  const auto shift = [](int64_t x, int64_t n) {
    return x >> (static_cast<uint64_t>(n) > 63 ? 63 : n);
  };
  return avx512_model::map<int64_t, int64_t, __m512i>(shift, v, counts);
}
QK_MODEL(__m512i) _mm512_srai_epi64(__m512i v, unsigned n) {
  return _mm512_srav_epi64(v, avx512_model::repeat<__m512i>(static_cast<int64_t>(n)));
}
QK_MODEL(__m512i) _mm512_min_epi64(__m512i a, __m512i b) {
  return avx512_model::map<int64_t, int64_t, __m512i>(
      [](int64_t x, int64_t y) { return x < y ? x : y; }, a, b);
}
QK_MODEL(__m512i) _mm512_max_epi64(__m512i a, __m512i b) {
  return avx512_model::map<int64_t, int64_t, __m512i>(
      [](int64_t x, int64_t y) { return x > y ? x : y; }, a, b);
}
QK_MODEL(__m512i) _mm512_mullo_epi64(__m512i a, __m512i b) {
  return avx512_model::map<uint64_t, uint64_t, __m512i>(
      [](uint64_t x, uint64_t y) { return x * y; }, a, b);
}

// Constants and broadcasts.
QK_MODEL(__m512i) _mm512_setzero_si512() { return __m512i{}; }
QK_MODEL(__m512i) _mm512_undefined_epi32() { return __m512i{}; }
QK_MODEL(__m512) _mm512_setzero_ps() { return __m512{}; }
QK_MODEL(__m512d) _mm512_setzero_pd() { return __m512d{}; }
QK_MODEL(__m512i) _mm512_set1_epi8(char v) { return avx512_model::repeat<__m512i>(v); }
QK_MODEL(__m512i) _mm512_set1_epi16(short v) { return avx512_model::repeat<__m512i>(v); }
QK_MODEL(__m512i) _mm512_set1_epi32(int v) { return avx512_model::repeat<__m512i>(v); }
QK_MODEL(__m512i) _mm512_set1_epi64(long long v) { return avx512_model::repeat<__m512i>(v); }
QK_MODEL(__m512) _mm512_set1_ps(float v) { return avx512_model::repeat<__m512>(v); }
QK_MODEL(__m512d) _mm512_set1_pd(double v) { return avx512_model::repeat<__m512d>(v); }
QK_MODEL(__m512i) _mm512_broadcast_i32x4(__m128i v) { return avx512_model::repeat<__m512i>(v); }
QK_MODEL(__m512i) _mm512_broadcast_i64x4(__m256i v) { return avx512_model::repeat<__m512i>(v); }
QK_MODEL(__m512i) _mm512_broadcast_i32x8(__m256i v) { return avx512_model::repeat<__m512i>(v); }
QK_MODEL(__m512i) _mm512_broadcastd_epi32(__m128i v) {
  return _mm512_set1_epi32(_mm_cvtsi128_si32(v));
}
QK_MODEL(__m512i) _mm512_broadcastq_epi64(__m128i v) {
  return _mm512_set1_epi64(_mm_cvtsi128_si64(v));
}
QK_MODEL(__m512) _mm512_broadcastss_ps(__m128 v) { return _mm512_set1_ps(_mm_cvtss_f32(v)); }
QK_MODEL(__m512i) _mm512_setr_epi32(int a, int b, int c, int d, int e, int f, int g, int h, int i,
                                    int j, int k, int l, int m, int n, int o, int p) {
  const int32_t lanes[16] = {a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p};
  return avx512_model::load_all<__m512i>(lanes);
}
QK_MODEL(__m512i) _mm512_setr_epi64(long long a, long long b, long long c, long long d, long long e,
                                    long long f, long long g, long long h) {
  const int64_t lanes[8] = {a, b, c, d, e, f, g, h};
  return avx512_model::load_all<__m512i>(lanes);
}

// Casts, parts of a register.
QK_MODEL(__m512) _mm512_castsi512_ps(__m512i v) { return avx512_model::cast<__m512>(v); }
QK_MODEL(__m512i) _mm512_castps_si512(__m512 v) { return avx512_model::cast<__m512i>(v); }
QK_MODEL(__m256i) _mm512_castsi512_si256(__m512i v) { return avx512_model::cast<__m256i>(v); }
QK_MODEL(__m128i) _mm512_castsi512_si128(__m512i v) { return avx512_model::cast<__m128i>(v); }
QK_MODEL(__m512i) _mm512_castsi256_si512(__m256i v) { return avx512_model::cast<__m512i>(v); }
QK_MODEL(__m512i) _mm512_castsi128_si512(__m128i v) { return avx512_model::cast<__m512i>(v); }
QK_MODEL(__m512i) _mm512_zextsi256_si512(__m256i v) { return avx512_model::cast<__m512i>(v); }
QK_MODEL(__m512i) _mm512_zextsi128_si512(__m128i v) { return avx512_model::cast<__m512i>(v); }
QK_MODEL(__m256) _mm512_castps512_ps256(__m512 v) { return avx512_model::cast<__m256>(v); }
QK_MODEL(__m128) _mm512_castps512_ps128(__m512 v) { return avx512_model::cast<__m128>(v); }
QK_MODEL(__m512) _mm512_castps256_ps512(__m256 v) { return avx512_model::cast<__m512>(v); }
QK_MODEL(float) _mm512_cvtss_f32(__m512 v) { return _mm_cvtss_f32(_mm512_castps512_ps128(v)); }
QK_MODEL(int) _mm512_cvtsi512_si32(__m512i v) {
  return _mm_cvtsi128_si32(_mm512_castsi512_si128(v));
}
#define QK_EXTRACT(Part, V, name) \
  QK_MODEL(Part) _mm512_##name(V v, int i) { return avx512_model::extract<Part>(v, i); }
#define QK_INSERT(Part, V, name) \
  QK_MODEL(V) _mm512_##name(V v, Part part, int i) { return avx512_model::insert(v, part, i); }
QK_EXTRACT(__m128i, __m512i, extracti32x4_epi32)
QK_EXTRACT(__m256i, __m512i, extracti32x8_epi32)
QK_EXTRACT(__m256i, __m512i, extracti64x4_epi64)
QK_EXTRACT(__m128, __m512, extractf32x4_ps)
QK_EXTRACT(__m256, __m512, extractf32x8_ps)
QK_INSERT(__m128i, __m512i, inserti32x4)
QK_INSERT(__m256i, __m512i, inserti32x8)
QK_INSERT(__m256i, __m512i, inserti64x4)
QK_INSERT(__m256, __m512, insertf32x8)

// Loads and stores.
QK_MODEL(__m512i) _mm512_loadu_si512(const void* p) { return avx512_model::load_all<__m512i>(p); }
QK_MODEL(__m512) _mm512_loadu_ps(const void* p) { return avx512_model::load_all<__m512>(p); }
QK_MODEL(__m512d) _mm512_loadu_pd(const void* p) { return avx512_model::load_all<__m512d>(p); }
QK_MODEL(void) _mm512_storeu_si512(void* p, __m512i v) { memcpy(p, &v, sizeof(v)); }
QK_MODEL(void) _mm512_storeu_ps(void* p, __m512 v) { memcpy(p, &v, sizeof(v)); }
QK_MODEL(void) _mm512_storeu_pd(void* p, __m512d v) { memcpy(p, &v, sizeof(v)); }
// Aligned forms: a CPU faults on any other address, and so does this.
QK_MODEL(void) qk_require_aligned(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 64 != 0) __builtin_trap();
}
QK_MODEL(__m512i) _mm512_load_si512(const void* p) {
  qk_require_aligned(p);
  return _mm512_loadu_si512(p);
}
QK_MODEL(__m512) _mm512_load_ps(const void* p) {
  qk_require_aligned(p);
  return _mm512_loadu_ps(p);
}
QK_MODEL(void) _mm512_store_si512(void* p, __m512i v) {
  qk_require_aligned(p);
  _mm512_storeu_si512(p, v);
}
QK_MODEL(void) _mm512_store_ps(void* p, __m512 v) {
  qk_require_aligned(p);
  _mm512_storeu_ps(p, v);
}
QK_MODEL(void) _mm512_stream_si512(void* p, __m512i v) { _mm512_store_si512(p, v); }

// Under a mask: choice, load, store. T: type of a lane.
#define QK_MASKED(prefix, V, K, T, name)                                                   \
  QK_MODEL(V) prefix##_mask_mov_##name(V src, K k, V a) {                                  \
    return avx512_model::choose<T>(k, a, src);                                             \
  }                                                                                        \
  QK_MODEL(V) prefix##_maskz_mov_##name(K k, V a) {                                        \
    return avx512_model::choose<T>(k, a, V{});                                             \
  }                                                                                        \
  QK_MODEL(V) prefix##_mask_blend_##name(K k, V a, V b) {                                  \
    return avx512_model::choose<T>(k, b, a);                                               \
  }                                                                                        \
  QK_MODEL(V) prefix##_mask_loadu_##name(V src, K k, const void* p) {                      \
    return avx512_model::load<T>(k, src, p);                                               \
  }                                                                                        \
  QK_MODEL(V) prefix##_maskz_loadu_##name(K k, const void* p) {                            \
    return avx512_model::load<T>(k, V{}, p);                                               \
  }                                                                                        \
  QK_MODEL(void) prefix##_mask_storeu_##name(void* p, K k, V v) {                          \
    avx512_model::store<T>(p, k, v);                                                       \
  }
QK_MASKED(_mm512, __m512i, __mmask64, int8_t, epi8)
QK_MASKED(_mm512, __m512i, __mmask32, int16_t, epi16)
QK_MASKED(_mm512, __m512i, __mmask16, int32_t, epi32)
QK_MASKED(_mm512, __m512i, __mmask8, int64_t, epi64)
QK_MASKED(_mm512, __m512, __mmask16, int32_t, ps)
QK_MASKED(_mm512, __m512d, __mmask8, int64_t, pd)
QK_MASKED(_mm256, __m256i, __mmask32, int8_t, epi8)
QK_MASKED(_mm256, __m256i, __mmask16, int16_t, epi16)
QK_MASKED(_mm256, __m256i, __mmask8, int32_t, epi32)
QK_MASKED(_mm256, __m256, __mmask8, int32_t, ps)
QK_MASKED(_mm, __m128i, __mmask16, int8_t, epi8)
QK_MASKED(_mm, __m128i, __mmask8, int16_t, epi16)
QK_MASKED(_mm, __m128i, __mmask8, int32_t, epi32)

#define QK_MASKED_BINARY(V, K, T, op, name)                                                \
  QK_MODEL(V) _mm512_mask_##op##_##name(V src, K k, V a, V b) {                            \
    return avx512_model::choose<T>(k, _mm512_##op##_##name(a, b), src);                    \
  }                                                                                        \
  QK_MODEL(V) _mm512_maskz_##op##_##name(K k, V a, V b) {                                  \
    return avx512_model::choose<T>(k, _mm512_##op##_##name(a, b), V{});                    \
  }
QK_MASKED_BINARY(__m512i, __mmask16, int32_t, add, epi32)
QK_MASKED_BINARY(__m512i, __mmask16, int32_t, sub, epi32)
QK_MASKED_BINARY(__m512i, __mmask16, int32_t, min, epi32)
QK_MASKED_BINARY(__m512i, __mmask16, int32_t, max, epi32)
QK_MASKED_BINARY(__m512, __mmask16, int32_t, add, ps)
QK_MASKED_BINARY(__m512, __mmask16, int32_t, sub, ps)
QK_MASKED_BINARY(__m512, __mmask16, int32_t, mul, ps)
QK_MASKED_BINARY(__m512, __mmask16, int32_t, min, ps)
QK_MASKED_BINARY(__m512, __mmask16, int32_t, max, ps)

// Comparisons to a mask.
#define _mm512_cmp_ps_mask(a, b, predicate) \
  static_cast<__mmask16>(qk::avx512_model::compare_ps<predicate>(a, b))
#define QK_COMPARE_BY(K, T, suffix, name, predicate)                                       \
  QK_MODEL(K) _mm512_##name##_##suffix##_mask(__m512i a, __m512i b) {                      \
    return static_cast<K>(avx512_model::compare_by<T>(predicate, a, b));                   \
  }
#define QK_COMPARE(K, T, suffix)                                                           \
  QK_MODEL(K) _mm512_cmp_##suffix##_mask(__m512i a, __m512i b, int predicate) {            \
    return static_cast<K>(avx512_model::compare_by<T>(predicate, a, b));                   \
  }                                                                                        \
  QK_COMPARE_BY(K, T, suffix, cmpeq, 0)                                                    \
  QK_COMPARE_BY(K, T, suffix, cmplt, 1)                                                    \
  QK_COMPARE_BY(K, T, suffix, cmple, 2)                                                    \
  QK_COMPARE_BY(K, T, suffix, cmpneq, 4)                                                   \
  QK_COMPARE_BY(K, T, suffix, cmpge, 5)                                                    \
  QK_COMPARE_BY(K, T, suffix, cmpgt, 6)
QK_COMPARE(__mmask64, int8_t, epi8)
QK_COMPARE(__mmask64, uint8_t, epu8)
QK_COMPARE(__mmask16, int32_t, epi32)
QK_COMPARE(__mmask16, uint32_t, epu32)
QK_COMPARE(__mmask8, int64_t, epi64)
QK_MODEL(__mmask16) _mm512_test_epi32_mask(__m512i a, __m512i b) {
  return _mm512_cmpneq_epi32_mask(_mm512_and_si512(a, b), _mm512_setzero_si512());
}
QK_MODEL(__mmask16) _mm512_movepi32_mask(__m512i v) {
  return _mm512_cmplt_epi32_mask(v, _mm512_setzero_si512());
}
QK_MODEL(__mmask64) _mm512_movepi8_mask(__m512i v) {
  return _mm512_cmplt_epi8_mask(v, _mm512_setzero_si512());
}

// Widening and narrowing.
#define QK_CONVERT(R, V, To, From, name)                                                   \
  QK_MODEL(R) _mm512_##name(V v) { return avx512_model::convert<To, From, R>(v); }
QK_CONVERT(__m512i, __m256i, int16_t, int8_t, cvtepi8_epi16)
QK_CONVERT(__m512i, __m256i, int16_t, uint8_t, cvtepu8_epi16)
QK_CONVERT(__m512i, __m128i, int32_t, int8_t, cvtepi8_epi32)
QK_CONVERT(__m512i, __m128i, int32_t, uint8_t, cvtepu8_epi32)
QK_CONVERT(__m512i, __m256i, int32_t, int16_t, cvtepi16_epi32)
QK_CONVERT(__m512i, __m256i, int32_t, uint16_t, cvtepu16_epi32)
QK_CONVERT(__m512i, __m256i, int64_t, int32_t, cvtepi32_epi64)
QK_CONVERT(__m512i, __m256i, int64_t, uint32_t, cvtepu32_epi64)
QK_CONVERT(__m128i, __m512i, int8_t, int32_t, cvtepi32_epi8)
QK_CONVERT(__m256i, __m512i, int16_t, int32_t, cvtepi32_epi16)
QK_CONVERT(__m256i, __m512i, int8_t, int16_t, cvtepi16_epi8)
QK_CONVERT(__m256i, __m512i, int32_t, int64_t, cvtepi64_epi32)
QK_CONVERT(__m512d, __m256i, double, int32_t, cvtepi32_pd)
QK_CONVERT(__m512d, __m256, double, float, cvtps_pd)
QK_CONVERT(__m256, __m512d, float, double, cvtpd_ps)
QK_MODEL(__m128i) _mm512_cvtsepi32_epi8(__m512i v) {
  return avx512_model::convert_saturated<int8_t, int32_t, __m128i>(v, INT8_MIN, INT8_MAX);
}
QK_MODEL(__m128i) _mm512_cvtusepi32_epi8(__m512i v) {
  return avx512_model::convert_saturated<uint8_t, uint32_t, __m128i>(v, 0, UINT8_MAX);
}
QK_MODEL(__m256i) _mm512_cvtsepi32_epi16(__m512i v) {
  return avx512_model::convert_saturated<int16_t, int32_t, __m256i>(v, INT16_MIN, INT16_MAX);
}
QK_MODEL(__m256i) _mm512_cvtsepi64_epi32(__m512i v) {
  return avx512_model::convert_saturated<int32_t, int64_t, __m256i>(v, INT32_MIN, INT32_MAX);
}
QK_MODEL(void) _mm512_mask_cvtepi32_storeu_epi8(void* p, __mmask16 k, __m512i v) {
  avx512_model::store<int8_t>(p, k, _mm512_cvtepi32_epi8(v));
}
QK_MODEL(void) _mm512_mask_cvtsepi32_storeu_epi8(void* p, __mmask16 k, __m512i v) {
  avx512_model::store<int8_t>(p, k, _mm512_cvtsepi32_epi8(v));
}
QK_MODEL(void) _mm512_mask_cvtusepi32_storeu_epi8(void* p, __mmask16 k, __m512i v) {
  avx512_model::store<int8_t>(p, k, _mm512_cvtusepi32_epi8(v));
}
QK_MODEL(__m512) _mm512_cvtph_ps(__m256i v) {
  const __m512 low = _mm512_castps256_ps512(_mm256_cvtph_ps(_mm256_castsi256_si128(v)));
  return _mm512_insertf32x8(low, _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)), 1);
}

// Permutations. A constant of the compiler's own type would find the compiler's function as well,
// hence a macro.
#define _mm512_shuffle_epi32(v, order) qk::avx512_model::shuffle_words(v, order)
QK_MODEL(__m512i) _mm512_permutexvar_epi16(__m512i index, __m512i v) {
  return avx512_model::permute<uint16_t>(v, index, v);
}
QK_MODEL(__m512i) _mm512_permutexvar_epi32(__m512i index, __m512i v) {
  return avx512_model::permute<uint32_t>(v, index, v);
}
QK_MODEL(__m512i) _mm512_permutexvar_epi64(__m512i index, __m512i v) {
  return avx512_model::permute<uint64_t>(v, index, v);
}
QK_MODEL(__m512) _mm512_permutexvar_ps(__m512i index, __m512 v) {
  return avx512_model::permute<uint32_t>(v, index, v);
}
QK_MODEL(__m512i) _mm512_permutex2var_epi16(__m512i a, __m512i index, __m512i b) {
  return avx512_model::permute<uint16_t>(a, index, b);
}
QK_MODEL(__m512i) _mm512_permutex2var_epi32(__m512i a, __m512i index, __m512i b) {
  return avx512_model::permute<uint32_t>(a, index, b);
}
QK_MODEL(__m512i) _mm512_permutex2var_epi64(__m512i a, __m512i index, __m512i b) {
  return avx512_model::permute<uint64_t>(a, index, b);
}
QK_MODEL(__m512) _mm512_permutex2var_ps(__m512 a, __m512i index, __m512 b) {
  return avx512_model::permute<uint32_t>(a, index, b);
}
QK_MODEL(__m512i) _mm512_alignr_epi32(__m512i high, __m512i low, int n) {
  avx512_model::Lanes<__m512i, uint32_t> index;
  for (int i = 0; i < 16; ++i) index.at[i] = static_cast<uint32_t>(i + (n & 15));
  return avx512_model::permute<uint32_t>(low, index.vector(), high);
}
QK_MODEL(__m512i) _mm512_shuffle_i32x4(__m512i a, __m512i b, int order) {
  __m512i r = a;
  for (int i = 0; i < 4; ++i) {
    const int from = order >> 2 * i & 3;
    r = avx512_model::insert(r, avx512_model::extract<__m128i>(i < 2 ? a : b, from), i);
  }
  return r;
}

// Bit i of a lane is bit (4 a + 2 b + c) of the table.
QK_MODEL(__m512i) _mm512_ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int table) {
  const auto lookup = [table](uint64_t x, uint64_t y, uint64_t z) {
    uint64_t r = 0;
    for (int row = 0; row < 8; ++row) {
      if (table >> row & 1) r |= (row & 4 ? x : ~x) & (row & 2 ? y : ~y) & (row & 1 ? z : ~z);
    }
    return r;
  };
  return avx512_model::map<uint64_t, uint64_t, __m512i>(lookup, a, b, c);
}

// Reductions.
#define QK_REDUCE(T, V, suffix)                                                            \
  QK_MODEL(T) _mm512_reduce_min_##suffix(V v) {                                            \
    return avx512_model::reduce<T>([](T a, T b) { return a < b ? a : b; }, v);             \
  }                                                                                        \
  QK_MODEL(T) _mm512_reduce_max_##suffix(V v) {                                            \
    return avx512_model::reduce<T>([](T a, T b) { return a > b ? a : b; }, v);             \
  }
QK_REDUCE(int32_t, __m512i, epi32)
QK_REDUCE(float, __m512, ps)
QK_MODEL(int32_t) _mm512_reduce_add_epi32(__m512i v) {
  return static_cast<int32_t>(
      avx512_model::reduce<uint32_t>([](uint32_t a, uint32_t b) { return a + b; }, v));
}
QK_MODEL(float) _mm512_reduce_add_ps(__m512 v) {
  return avx512_model::reduce<float>([](float a, float b) { return a + b; }, v);
}

// VNNI. The sums wrap; the saturating forms are left out, as no kernel may use them.
QK_MODEL(__m512i) _mm512_dpbusd_epi32(__m512i acc, __m512i a, __m512i b) {
  return avx512_model::dot_bytes(acc, a, b);
}
QK_MODEL(__m256i) _mm256_dpbusd_epi32(__m256i acc, __m256i a, __m256i b) {
  return avx512_model::dot_bytes(acc, a, b);
}
// AVX-VNNI: the same operation in the VEX encoding.
QK_MODEL(__m256i) _mm256_dpbusd_avx_epi32(__m256i acc, __m256i a, __m256i b) {
  return _mm256_dpbusd_epi32(acc, a, b);
}
QK_MODEL(__m128i) _mm_dpbusd_epi32(__m128i acc, __m128i a, __m128i b) {
  return avx512_model::dot_bytes(acc, a, b);
}
QK_MODEL(__m512i) _mm512_dpwssd_epi32(__m512i acc, __m512i a, __m512i b) {
  return avx512_model::dot_words(acc, a, b);
}
QK_MODEL(__m256i) _mm256_dpwssd_epi32(__m256i acc, __m256i a, __m256i b) {
  return avx512_model::dot_words(acc, a, b);
}

// clang-format on

#undef QK_MODEL
#undef QK_HALVES
#undef QK_INT
#undef QK_PS
#undef QK_PD
#undef QK_UNARY
#undef QK_SHIFT
#undef QK_EXTRACT
#undef QK_INSERT
#undef QK_MASKED
#undef QK_MASKED_BINARY
#undef QK_COMPARE_BY
#undef QK_COMPARE
#undef QK_CONVERT
#undef QK_REDUCE

}  // namespace qk

#endif  // QKERNELS_TESTS_EMULATION_AVX512_MODEL_H
