// SPDX-License-Identifier: Apache-2.0
//
// Every intrinsic of avx512_model.h on fixed pseudo-random operands, limits and special values
// among them; a checksum of all results. The expected checksums come from the same file compiled
// for AVX-512 and executed as real instructions ("--print" writes the table), so that model and
// machine answer for each other.
#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "avx512_checksums.h"
#include "check.h"

namespace qk::emulation_test {
namespace {

constexpr int kRounds = 64;

struct Operands {
  __m512i i, j, k;        // integers: random, or limits of 8, 16, 32 and 64 bits
  __m512i counts, index;  // shift counts 0..79 a lane; indices, high bits included
  __m512 f, g;            // floats: of int32 size, special values (NaN in f alone)
  __m512d d;
  __m256i half;
  __m128i quarter;
  __m256 fhalf;
  uint64_t mask;
  uint8_t memory[64];
};

float special(uint32_t r, bool nan) {
  static const uint32_t kBits[] = {0x00000000, 0x80000000, 0x7f800000, 0xff800000,
                                   0x00000001, 0x807fffff, 0x4f000000, 0x7fc00000};
  const uint32_t bits = kBits[r % (nan ? 8 : 7)];
  float v;
  memcpy(&v, &bits, sizeof(v));
  return v;
}

Operands operands(Random& random) {
  alignas(64) uint32_t words[3][16], counts[16], index[16];
  alignas(64) uint64_t wide_counts[8];
  alignas(64) float f[2][16];
  alignas(64) double d[8];
  static const uint32_t kLimits[] = {0x80000000, 0x7fffffff, 0xffffffff, 0,
                                     0x80808080, 0x7fff8000, 0x000000ff, 0x00010000};
  for (auto& row : words) {
    for (uint32_t& v : row) {
      const uint32_t r = random.next();
      v = r % 4 == 0 ? kLimits[r >> 8 & 7] : random.next();
    }
  }
  for (uint32_t& v : counts) v = random.next() % 40;
  for (uint64_t& v : wide_counts) {
    v = random.next() % 80;
    if (v == 64) v = 63;  // Bochs 2.7 to 3.0 shift by 64 as by 0 (vpsravq)
  }
  for (uint32_t& v : index) v = random.next();
  for (int row = 0; row < 2; ++row) {
    for (float& v : f[row]) {
      const uint32_t r = random.next();
      const float plain = static_cast<float>(static_cast<int32_t>(random.next())) / 65536.0f;
      v = r % 4 == 0 ? special(r >> 8, row == 0) : r % 4 == 1 ? plain * 100000.0f : plain;
    }
  }
  for (double& v : d) v = static_cast<int32_t>(random.next()) * 1.000000119;
  Operands o;
  o.i = _mm512_loadu_si512(words[0]);
  o.j = _mm512_loadu_si512(words[1]);
  o.k = _mm512_loadu_si512(words[2]);
  o.counts = _mm512_loadu_si512(random.next() % 2 == 0 ? static_cast<void*>(counts) : wide_counts);
  o.index = _mm512_loadu_si512(index);
  o.f = _mm512_loadu_ps(f[0]);
  o.g = _mm512_loadu_ps(f[1]);
  o.d = _mm512_loadu_pd(d);
  memcpy(&o.half, words[1], sizeof(o.half));
  memcpy(&o.quarter, words[2], sizeof(o.quarter));
  memcpy(&o.fhalf, f[1], sizeof(o.fhalf));
  o.mask = static_cast<uint64_t>(random.next()) << 32 | random.next();
  memcpy(o.memory, words[2], sizeof(o.memory));
  return o;
}

// FNV-1a over the bytes of the results.
class Checksum {
 public:
  template <class T>
  void add(T value) {
    uint8_t bytes[sizeof(T)];
    memcpy(bytes, &value, sizeof(T));
    for (uint8_t b : bytes) sum_ = (sum_ ^ b) * UINT64_C(1099511628211);
  }
  uint64_t value() const { return sum_; }

 private:
  uint64_t sum_ = UINT64_C(14695981039346656037);
};

struct Memory {
  uint8_t bytes[64];
};

template <class F>
Memory stored(const Operands& o, F store) {
  Memory m;
  memcpy(m.bytes, o.memory, sizeof(m.bytes));
  store(m.bytes);
  return m;
}

struct Intrinsic {
  const char* name;
  void (*run)(const Operands& o, Checksum& sum);
};

#define QK_CASE(name, call) \
  {#name, []([[maybe_unused]] const Operands& o, Checksum& sum) { sum.add(call); }}
#define QK_BINARY_INT(name) QK_CASE(name, _mm512_##name(o.i, o.j))
#define QK_BINARY_PS(name) QK_CASE(name, _mm512_##name(o.f, o.g))
#define QK_STORE(name, call) QK_CASE(name, stored(o, [&](uint8_t* p) { call; }))
#define QK_COMPARISONS(suffix)                                                     \
  QK_BINARY_INT(cmpeq_##suffix##_mask), QK_BINARY_INT(cmplt_##suffix##_mask),      \
      QK_BINARY_INT(cmple_##suffix##_mask), QK_BINARY_INT(cmpneq_##suffix##_mask), \
      QK_BINARY_INT(cmpge_##suffix##_mask), QK_BINARY_INT(cmpgt_##suffix##_mask),  \
      QK_CASE(cmp_##suffix##_mask, _mm512_cmp_##suffix##_mask(o.i, o.k, 5))
// The masked moves of one lane type: x and y are operands, K the type of the mask.
#define QK_MASKED(prefix, tag, suffix, K, x, y)                                                \
  QK_CASE(tag##mask_mov_##suffix, prefix##_mask_mov_##suffix(x, K(o.mask), y)),                \
      QK_CASE(tag##maskz_mov_##suffix, prefix##_maskz_mov_##suffix(K(o.mask), y)),             \
      QK_CASE(tag##mask_blend_##suffix, prefix##_mask_blend_##suffix(K(o.mask), x, y)),        \
      QK_CASE(tag##mask_loadu_##suffix, prefix##_mask_loadu_##suffix(x, K(o.mask), o.memory)), \
      QK_CASE(tag##maskz_loadu_##suffix, prefix##_maskz_loadu_##suffix(K(o.mask), o.memory)),  \
      QK_STORE(tag##mask_storeu_##suffix, prefix##_mask_storeu_##suffix(p, K(o.mask), x))
#define QK_MASKED_BINARY(op, suffix, x, y, z)                                             \
  QK_CASE(mask_##op##_##suffix, _mm512_mask_##op##_##suffix(z, __mmask16(o.mask), x, y)), \
      QK_CASE(maskz_##op##_##suffix, _mm512_maskz_##op##_##suffix(__mmask16(o.mask), x, y))
#define QK_SHIFTS(name)                                                               \
  QK_CASE(name##_0, _mm512_##name(o.i, 0)), QK_CASE(name##_7, _mm512_##name(o.i, 7)), \
      QK_CASE(name##_31, _mm512_##name(o.i, 31)), QK_CASE(name##_64, _mm512_##name(o.i, 64))

// clang-format off
const Intrinsic kIntrinsics[] = {
  QK_BINARY_INT(add_epi8), QK_BINARY_INT(add_epi16), QK_BINARY_INT(add_epi32),
  QK_BINARY_INT(add_epi64), QK_BINARY_INT(sub_epi8), QK_BINARY_INT(sub_epi16),
  QK_BINARY_INT(sub_epi32), QK_BINARY_INT(sub_epi64), QK_BINARY_INT(adds_epi8),
  QK_BINARY_INT(adds_epi16), QK_BINARY_INT(adds_epu8), QK_BINARY_INT(adds_epu16),
  QK_BINARY_INT(subs_epi8), QK_BINARY_INT(subs_epi16), QK_BINARY_INT(subs_epu8),
  QK_BINARY_INT(subs_epu16), QK_BINARY_INT(mullo_epi16), QK_BINARY_INT(mullo_epi32),
  QK_BINARY_INT(mullo_epi64), QK_BINARY_INT(mulhi_epi16), QK_BINARY_INT(mulhi_epu16),
  QK_BINARY_INT(mulhrs_epi16), QK_BINARY_INT(mul_epi32), QK_BINARY_INT(mul_epu32),
  QK_BINARY_INT(madd_epi16), QK_BINARY_INT(maddubs_epi16), QK_BINARY_INT(sad_epu8),
  QK_BINARY_INT(avg_epu8), QK_BINARY_INT(min_epi8), QK_BINARY_INT(min_epu8),
  QK_BINARY_INT(min_epi16), QK_BINARY_INT(min_epu16), QK_BINARY_INT(min_epi32),
  QK_BINARY_INT(min_epu32), QK_BINARY_INT(min_epi64), QK_BINARY_INT(max_epi8),
  QK_BINARY_INT(max_epu8), QK_BINARY_INT(max_epi16), QK_BINARY_INT(max_epu16),
  QK_BINARY_INT(max_epi32), QK_BINARY_INT(max_epu32), QK_BINARY_INT(max_epi64),
  QK_BINARY_INT(and_si512), QK_BINARY_INT(or_si512), QK_BINARY_INT(xor_si512),
  QK_BINARY_INT(andnot_si512), QK_BINARY_INT(unpacklo_epi8), QK_BINARY_INT(unpackhi_epi8),
  QK_BINARY_INT(unpacklo_epi16), QK_BINARY_INT(unpackhi_epi16), QK_BINARY_INT(unpacklo_epi32),
  QK_BINARY_INT(unpackhi_epi32), QK_BINARY_INT(unpacklo_epi64), QK_BINARY_INT(unpackhi_epi64),
  QK_BINARY_INT(packs_epi16), QK_BINARY_INT(packus_epi16), QK_BINARY_INT(packs_epi32),
  QK_BINARY_INT(packus_epi32), QK_BINARY_INT(shuffle_epi8),
  QK_CASE(sllv_epi32, _mm512_sllv_epi32(o.i, o.counts)),
  QK_CASE(srlv_epi32, _mm512_srlv_epi32(o.i, o.counts)),
  QK_CASE(srav_epi32, _mm512_srav_epi32(o.i, o.counts)),
  QK_CASE(sllv_epi64, _mm512_sllv_epi64(o.i, o.counts)),
  QK_CASE(srlv_epi64, _mm512_srlv_epi64(o.i, o.counts)),
  QK_CASE(srav_epi64, _mm512_srav_epi64(o.i, o.counts)),
  QK_SHIFTS(slli_epi16), QK_SHIFTS(srli_epi16), QK_SHIFTS(srai_epi16), QK_SHIFTS(slli_epi32),
  QK_SHIFTS(srli_epi32), QK_SHIFTS(srai_epi32), QK_SHIFTS(slli_epi64), QK_SHIFTS(srli_epi64),
  QK_SHIFTS(srai_epi64),
  QK_BINARY_PS(add_ps), QK_BINARY_PS(sub_ps), QK_BINARY_PS(mul_ps), QK_BINARY_PS(div_ps),
  QK_BINARY_PS(min_ps), QK_BINARY_PS(max_ps), QK_BINARY_PS(and_ps), QK_BINARY_PS(or_ps),
  QK_BINARY_PS(xor_ps), QK_BINARY_PS(andnot_ps), QK_BINARY_PS(unpacklo_ps),
  QK_BINARY_PS(unpackhi_ps),
  QK_CASE(sqrt_ps, _mm512_sqrt_ps(o.g)),
  QK_CASE(fmadd_ps, _mm512_fmadd_ps(_mm512_cvtepi32_ps(o.i), _mm512_cvtepi32_ps(o.j),
                                    _mm512_cvtepi32_ps(o.k))),
  QK_CASE(add_pd, _mm512_add_pd(o.d, _mm512_cvtepi32_pd(o.half))),
  QK_CASE(sub_pd, _mm512_sub_pd(o.d, _mm512_cvtepi32_pd(o.half))),
  QK_CASE(mul_pd, _mm512_mul_pd(o.d, _mm512_cvtepi32_pd(o.half))),
  QK_CASE(div_pd, _mm512_div_pd(_mm512_cvtepi32_pd(o.half), o.d)),
  QK_CASE(min_pd, _mm512_min_pd(o.d, _mm512_cvtepi32_pd(o.half))),
  QK_CASE(max_pd, _mm512_max_pd(o.d, _mm512_cvtepi32_pd(o.half))),
  QK_CASE(abs_epi8, _mm512_abs_epi8(o.i)), QK_CASE(abs_epi16, _mm512_abs_epi16(o.i)),
  QK_CASE(abs_epi32, _mm512_abs_epi32(o.i)),
  QK_CASE(cvtepi32_ps, _mm512_cvtepi32_ps(o.i)), QK_CASE(cvtps_epi32, _mm512_cvtps_epi32(o.f)),
  QK_CASE(cvttps_epi32, _mm512_cvttps_epi32(o.f)), QK_CASE(cvtps_pd, _mm512_cvtps_pd(o.fhalf)),
  QK_CASE(cvtpd_ps, _mm512_cvtpd_ps(o.d)), QK_CASE(cvtepi32_pd, _mm512_cvtepi32_pd(o.half)),
  QK_CASE(cvtph_ps, _mm512_cvtph_ps(o.half)),
  QK_CASE(cvtepi8_epi16, _mm512_cvtepi8_epi16(o.half)),
  QK_CASE(cvtepu8_epi16, _mm512_cvtepu8_epi16(o.half)),
  QK_CASE(cvtepi8_epi32, _mm512_cvtepi8_epi32(o.quarter)),
  QK_CASE(cvtepu8_epi32, _mm512_cvtepu8_epi32(o.quarter)),
  QK_CASE(cvtepi16_epi32, _mm512_cvtepi16_epi32(o.half)),
  QK_CASE(cvtepu16_epi32, _mm512_cvtepu16_epi32(o.half)),
  QK_CASE(cvtepi32_epi64, _mm512_cvtepi32_epi64(o.half)),
  QK_CASE(cvtepu32_epi64, _mm512_cvtepu32_epi64(o.half)),
  QK_CASE(cvtepi32_epi8, _mm512_cvtepi32_epi8(o.i)),
  QK_CASE(cvtepi32_epi16, _mm512_cvtepi32_epi16(o.i)),
  QK_CASE(cvtepi16_epi8, _mm512_cvtepi16_epi8(o.i)),
  QK_CASE(cvtepi64_epi32, _mm512_cvtepi64_epi32(o.i)),
  QK_CASE(cvtsepi32_epi8, _mm512_cvtsepi32_epi8(_mm512_srai_epi32(o.i, 22))),
  QK_CASE(cvtusepi32_epi8, _mm512_cvtusepi32_epi8(_mm512_srai_epi32(o.i, 22))),
  QK_CASE(cvtsepi32_epi16, _mm512_cvtsepi32_epi16(_mm512_srai_epi32(o.i, 14))),
  QK_CASE(cvtsepi64_epi32, _mm512_cvtsepi64_epi32(_mm512_srai_epi64(o.i, 30))),
  QK_STORE(mask_cvtepi32_storeu_epi8,
           _mm512_mask_cvtepi32_storeu_epi8(p, __mmask16(o.mask), o.i)),
  QK_STORE(mask_cvtsepi32_storeu_epi8,
           _mm512_mask_cvtsepi32_storeu_epi8(p, __mmask16(o.mask), _mm512_srai_epi32(o.i, 22))),
  QK_STORE(mask_cvtusepi32_storeu_epi8,
           _mm512_mask_cvtusepi32_storeu_epi8(p, __mmask16(o.mask), _mm512_srai_epi32(o.i, 22))),
  QK_CASE(set1_epi8, _mm512_set1_epi8(static_cast<char>(o.memory[0]))),
  QK_CASE(set1_epi16, _mm512_set1_epi16(static_cast<short>(o.mask))),
  QK_CASE(set1_epi32, _mm512_set1_epi32(static_cast<int>(o.mask))),
  QK_CASE(set1_epi64, _mm512_set1_epi64(static_cast<long long>(o.mask))),
  QK_CASE(set1_ps, _mm512_set1_ps(_mm512_cvtss_f32(o.g))),
  QK_CASE(set1_pd, _mm512_set1_pd(static_cast<double>(o.mask))),
  QK_CASE(setzero, _mm512_add_epi8(_mm512_castps_si512(_mm512_setzero_ps()),
                                   _mm512_setzero_si512())),
  QK_CASE(setr_epi32, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)),
  QK_CASE(setr_epi64, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)),
  QK_CASE(broadcast_i32x4, _mm512_broadcast_i32x4(o.quarter)),
  QK_CASE(broadcast_i64x4, _mm512_broadcast_i64x4(o.half)),
  QK_CASE(broadcast_i32x8, _mm512_broadcast_i32x8(o.half)),
  QK_CASE(broadcastd_epi32, _mm512_broadcastd_epi32(o.quarter)),
  QK_CASE(broadcastq_epi64, _mm512_broadcastq_epi64(o.quarter)),
  QK_CASE(broadcastss_ps, _mm512_broadcastss_ps(_mm512_castps512_ps128(o.g))),
  QK_CASE(castsi512_si256, _mm512_castsi512_si256(o.i)),
  QK_CASE(castsi512_si128, _mm512_castsi512_si128(o.i)),
  QK_CASE(castsi512_ps, _mm512_castsi512_ps(o.i)),
  QK_CASE(castps512_ps256, _mm512_castps512_ps256(o.f)),
  QK_CASE(zextsi256_si512, _mm512_zextsi256_si512(o.half)),
  QK_CASE(zextsi128_si512, _mm512_zextsi128_si512(o.quarter)),
  QK_CASE(cvtsi512_si32, _mm512_cvtsi512_si32(o.i)),
  QK_CASE(extracti32x4_epi32, _mm512_extracti32x4_epi32(o.i, 2)),
  QK_CASE(extracti32x8_epi32, _mm512_extracti32x8_epi32(o.i, 1)),
  QK_CASE(extracti64x4_epi64, _mm512_extracti64x4_epi64(o.i, 1)),
  QK_CASE(extractf32x4_ps, _mm512_extractf32x4_ps(o.f, 3)),
  QK_CASE(extractf32x8_ps, _mm512_extractf32x8_ps(o.f, 1)),
  QK_CASE(inserti32x4, _mm512_inserti32x4(o.i, o.quarter, 2)),
  QK_CASE(inserti32x8, _mm512_inserti32x8(o.i, o.half, 1)),
  QK_CASE(inserti64x4, _mm512_inserti64x4(o.i, o.half, 0)),
  QK_CASE(insertf32x8, _mm512_insertf32x8(o.f, o.fhalf, 1)),
  QK_MASKED(_mm512, , epi8, __mmask64, o.i, o.j), QK_MASKED(_mm512, , epi16, __mmask32, o.i, o.j),
  QK_MASKED(_mm512, , epi32, __mmask16, o.i, o.j), QK_MASKED(_mm512, , epi64, __mmask8, o.i, o.j),
  QK_MASKED(_mm512, , ps, __mmask16, o.f, o.g), QK_MASKED(_mm512, , pd, __mmask8, o.d, o.d),
  QK_MASKED(_mm256, half_, epi8, __mmask32, o.half, _mm512_castsi512_si256(o.i)),
  QK_MASKED(_mm256, half_, epi16, __mmask16, o.half, _mm512_castsi512_si256(o.i)),
  QK_MASKED(_mm256, half_, epi32, __mmask8, o.half, _mm512_castsi512_si256(o.i)),
  QK_MASKED(_mm256, half_, ps, __mmask8, o.fhalf, _mm512_castps512_ps256(o.f)),
  QK_MASKED(_mm, quarter_, epi8, __mmask16, o.quarter, _mm512_castsi512_si128(o.i)),
  QK_MASKED(_mm, quarter_, epi16, __mmask8, o.quarter, _mm512_castsi512_si128(o.i)),
  QK_MASKED(_mm, quarter_, epi32, __mmask8, o.quarter, _mm512_castsi512_si128(o.i)),
  QK_MASKED_BINARY(add, epi32, o.i, o.j, o.k), QK_MASKED_BINARY(sub, epi32, o.i, o.j, o.k),
  QK_MASKED_BINARY(min, epi32, o.i, o.j, o.k), QK_MASKED_BINARY(max, epi32, o.i, o.j, o.k),
  QK_MASKED_BINARY(add, ps, o.f, o.g, o.g), QK_MASKED_BINARY(sub, ps, o.f, o.g, o.g),
  QK_MASKED_BINARY(mul, ps, o.f, o.g, o.g), QK_MASKED_BINARY(min, ps, o.f, o.g, o.g),
  QK_MASKED_BINARY(max, ps, o.f, o.g, o.g),
  QK_COMPARISONS(epi8), QK_COMPARISONS(epu8), QK_COMPARISONS(epi32), QK_COMPARISONS(epu32),
  QK_COMPARISONS(epi64),
  QK_CASE(cmp_ps_mask_eq, _mm512_cmp_ps_mask(o.f, o.g, _CMP_EQ_OQ)),
  QK_CASE(cmp_ps_mask_lt, _mm512_cmp_ps_mask(o.f, o.g, _CMP_LT_OQ)),
  QK_CASE(cmp_ps_mask_gt, _mm512_cmp_ps_mask(o.f, o.g, _CMP_GT_OQ)),
  QK_CASE(cmp_ps_mask_unord, _mm512_cmp_ps_mask(o.f, o.g, _CMP_UNORD_Q)),
  QK_CASE(cmp_ps_mask_nge, _mm512_cmp_ps_mask(o.f, o.g, _CMP_NGE_UQ)),
  QK_BINARY_INT(test_epi32_mask), QK_CASE(movepi32_mask, _mm512_movepi32_mask(o.i)),
  QK_CASE(movepi8_mask, _mm512_movepi8_mask(o.i)),
  QK_CASE(permutexvar_epi16, _mm512_permutexvar_epi16(o.index, o.i)),
  QK_CASE(permutexvar_epi32, _mm512_permutexvar_epi32(o.index, o.i)),
  QK_CASE(permutexvar_epi64, _mm512_permutexvar_epi64(o.index, o.i)),
  QK_CASE(permutexvar_ps, _mm512_permutexvar_ps(o.index, o.f)),
  QK_CASE(permutex2var_epi16, _mm512_permutex2var_epi16(o.i, o.index, o.j)),
  QK_CASE(permutex2var_epi32, _mm512_permutex2var_epi32(o.i, o.index, o.j)),
  QK_CASE(permutex2var_epi64, _mm512_permutex2var_epi64(o.i, o.index, o.j)),
  QK_CASE(permutex2var_ps, _mm512_permutex2var_ps(o.f, o.index, o.g)),
  QK_CASE(alignr_epi32, _mm512_alignr_epi32(o.i, o.j, 5)),
  QK_CASE(shuffle_epi32, _mm512_shuffle_epi32(o.i, _MM_PERM_ENUM(0x1b))),
  QK_CASE(shuffle_i32x4, _mm512_shuffle_i32x4(o.i, o.j, 0x9c)),
  QK_CASE(ternarylogic_epi32, _mm512_ternarylogic_epi32(o.i, o.j, o.k, 0x1d)),
  QK_CASE(reduce_add_epi32, _mm512_reduce_add_epi32(o.i)),
  QK_CASE(reduce_min_epi32, _mm512_reduce_min_epi32(o.i)),
  QK_CASE(reduce_max_epi32, _mm512_reduce_max_epi32(o.i)),
  QK_CASE(reduce_add_ps, _mm512_reduce_add_ps(_mm512_cvtepi32_ps(o.i))),
  QK_CASE(reduce_min_ps, _mm512_reduce_min_ps(_mm512_cvtepi32_ps(o.i))),
  QK_CASE(reduce_max_ps, _mm512_reduce_max_ps(_mm512_cvtepi32_ps(o.i))),
  QK_CASE(dpbusd_epi32, _mm512_dpbusd_epi32(o.k, o.i, o.j)),
  QK_CASE(half_dpbusd_epi32, _mm256_dpbusd_epi32(o.half, _mm512_castsi512_si256(o.i), o.half)),
  QK_CASE(quarter_dpbusd_epi32,
          _mm_dpbusd_epi32(o.quarter, o.quarter, _mm512_castsi512_si128(o.i))),
  QK_CASE(dpwssd_epi32, _mm512_dpwssd_epi32(o.k, o.i, o.j)),
  QK_CASE(half_dpwssd_epi32, _mm256_dpwssd_epi32(o.half, _mm512_castsi512_si256(o.i), o.half)),
};
// clang-format on

uint64_t checksum(const Intrinsic& intrinsic) {
  Random random(7);
  Checksum sum;
  for (int round = 0; round < kRounds; ++round) intrinsic.run(operands(random), sum);
  return sum.value();
}

}  // namespace

void print_avx512_checksums() {
  for (const Intrinsic& i : kIntrinsics) {
    std::printf("{\"%s\", 0x%016llx},\n", i.name, static_cast<unsigned long long>(checksum(i)));
  }
}

void test_avx512() {
  constexpr size_t kCount = sizeof(kIntrinsics) / sizeof(kIntrinsics[0]);
  constexpr size_t kExpected = sizeof(kAvx512Checksums) / sizeof(kAvx512Checksums[0]);
  check(kCount == kExpected, "%zu intrinsics, %zu checksums: print the table again", kCount,
        kExpected);
  for (const Intrinsic& i : kIntrinsics) {
    bool found = false;
    for (const auto& expected : kAvx512Checksums) {
      if (strcmp(expected.name, i.name) != 0) continue;
      found = true;
      check(checksum(i) == expected.sum, "%s differs from the instruction", i.name);
    }
    check(found, "%s has no checksum: print the table again", i.name);
  }
}

}  // namespace qk::emulation_test
