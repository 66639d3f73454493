// SPDX-License-Identifier: Apache-2.0
//
// The vocabulary of vec_scalar.h on 128 bits: four lanes, four vectors a panel. ARMv8.0 has it all;
// FPCR says how floats are rounded (core/float_env.h). Where x86 and Arm part, the definition is
// kept: min and max by comparison (fmin and fmax return a NaN of either side), conversions out of
// range give INT32_MIN (fcvtns saturates), shift counts are bounded (sshl reads eight signed bits).
#ifndef QKERNELS_KERNELS_SIMD_VEC_NEON_H
#define QKERNELS_KERNELS_SIMD_VEC_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "kernels/contract.h"

namespace qk::QK_TIER {

constexpr uint32_t kLanes = 4;
constexpr uint32_t kByteLanes = 16;
constexpr uint32_t kVecs = kPanel / kLanes;

using VF = float32x4_t;
using VI = int32x4_t;
using VB = uint8x16_t;

struct VM {
  uint32x4_t lanes;  // all bits of a lane, or none
};

// Loads and stores: of bytes, so that no alignment is implied.
inline VF splat_f(float v) { return vdupq_n_f32(v); }
inline VI splat_i(int32_t v) { return vdupq_n_s32(v); }
inline VF load_f(const void* p) {
  return vreinterpretq_f32_u8(vld1q_u8(static_cast<const uint8_t*>(p)));
}
inline void store_f(void* p, VF v) { vst1q_u8(static_cast<uint8_t*>(p), vreinterpretq_u8_f32(v)); }
inline VI load_i(const void* p) {
  return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p)));
}
inline void store_i(void* p, VI v) { vst1q_u8(static_cast<uint8_t*>(p), vreinterpretq_u8_s32(v)); }

inline uint8x8_t load_4_bytes(const void* p) {
  uint32_t four;
  memcpy(&four, p, sizeof(four));
  return vreinterpret_u8_u32(vdup_n_u32(four));
}
inline VI load_s8(const void* p) {
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_4_bytes(p)))));
}
inline VI load_u8(const void* p) {
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(load_4_bytes(p)))));
}
inline VF load_f16(const void* p) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(static_cast<const uint8_t*>(p))));
}
inline VF load_bf16(const void* p) {
  return vreinterpretq_f32_u32(
      vshll_n_u16(vreinterpret_u16_u8(vld1_u8(static_cast<const uint8_t*>(p))), 16));
}

// The even halves of two vectors.
inline uint16x8_t low_halves(VI a, VI b) {
  return vuzp1q_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b));
}

inline void store_panel_bytes(void* p, const VI (&v)[kVecs]) {
  vst1q_u8(static_cast<uint8_t*>(p), vuzp1q_u8(vreinterpretq_u8_u16(low_halves(v[0], v[1])),
                                               vreinterpretq_u8_u16(low_halves(v[2], v[3]))));
}

inline void store_panel_words(void* p, const VI (&v)[kVecs]) {
  uint8_t* const to = static_cast<uint8_t*>(p);
  vst1q_u8(to, vreinterpretq_u8_u16(low_halves(v[0], v[1])));
  vst1q_u8(to + 16, vreinterpretq_u8_u16(low_halves(v[2], v[3])));
}

// float32.
inline VF add(VF a, VF b) { return vaddq_f32(a, b); }
inline VF sub(VF a, VF b) { return vsubq_f32(a, b); }
inline VF mul(VF a, VF b) { return vmulq_f32(a, b); }
inline VF div(VF a, VF b) { return vdivq_f32(a, b); }
inline VF min(VF a, VF b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline VF max(VF a, VF b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline VF abs(VF v) { return vabsq_f32(v); }

inline VF copy_sign(VF magnitude, VF sign) {
  return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude);
}

// int32.
inline VI add(VI a, VI b) { return vaddq_s32(a, b); }
inline VI sub(VI a, VI b) { return vsubq_s32(a, b); }
inline VI mul(VI a, VI b) { return vmulq_s32(a, b); }
inline VI min(VI a, VI b) { return vminq_s32(a, b); }
inline VI max(VI a, VI b) { return vmaxq_s32(a, b); }
inline VI bit_and(VI a, VI b) { return vandq_s32(a, b); }
inline VI bit_xor(VI a, VI b) { return veorq_s32(a, b); }

// Counts of 32 and more as 32, which shifts everything out.
inline VI bounded_count(VI count) {
  return vreinterpretq_s32_u32(vminq_u32(vreinterpretq_u32_s32(count), vdupq_n_u32(32)));
}
inline VI shift_left(VI v, VI count) { return vshlq_s32(v, bounded_count(count)); }
inline VI shift_right(VI v, VI count) { return vshlq_s32(v, vnegq_s32(bounded_count(count))); }

// srshl rounds as the definition does and never overflows.
inline VI mul_shift_round(VI a, VI b, VI s) {
  const VI right = vnegq_s32(s);
  const int64x2_t low =
      vrshlq_s64(vmull_s32(vget_low_s32(a), vget_low_s32(b)), vmovl_s32(vget_low_s32(right)));
  const int64x2_t high = vrshlq_s64(vmull_high_s32(a, b), vmovl_high_s32(right));
  return vqmovn_high_s64(vqmovn_s64(low), high);
}

inline VI mul_high_round(VI a, VI b) { return vqrdmulhq_s32(a, b); }

// Truth values.
inline VM greater(VF a, VF b) { return {vcgtq_f32(a, b)}; }
inline VM greater(VI a, VI b) { return {vcgtq_s32(a, b)}; }
inline VM equal(VI a, VI b) { return {vceqq_s32(a, b)}; }
inline VM is_nan(VF v) { return {vmvnq_u32(vceqq_f32(v, v))}; }
inline VM either(VM a, VM b) { return {vorrq_u32(a.lanes, b.lanes)}; }
inline VM no_lane() { return {vdupq_n_u32(0)}; }
inline bool any(VM m) { return vmaxvq_u32(m.lanes) != 0; }
inline VF select(VM m, VF yes, VF no) { return vbslq_f32(m.lanes, yes, no); }
inline VI select(VM m, VI yes, VI no) { return vbslq_s32(m.lanes, yes, no); }

// Conversions.
inline VI bits_of(VF v) { return vreinterpretq_s32_f32(v); }
inline VF to_float(VI v) { return vcvtq_f32_s32(v); }
inline VI to_int(VF v) {
  const uint32x4_t fits = vcltq_f32(v, vdupq_n_f32(2147483648.0f));  // no NaN does
  return vbslq_s32(fits, vcvtnq_s32_f32(v), vdupq_n_s32(INT32_MIN));
}

// A float64 holds the difference of two int32 exactly.
inline VF difference(VI a, VI b) {
  const float64x2_t low = vcvtq_f64_s64(vsubl_s32(vget_low_s32(a), vget_low_s32(b)));
  const float64x2_t high = vcvtq_f64_s64(vsubl_high_s32(a, b));
  return vcvt_high_f32_f64(vcvt_f32_f64(low), high);
}

inline VF power_of_two(VI n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

// Bytes.
inline VB load_b(const void* p) { return vld1q_u8(static_cast<const uint8_t*>(p)); }
inline void store_b(void* p, VB v) { vst1q_u8(static_cast<uint8_t*>(p), v); }
inline VB flip_sign(VB v) { return veorq_u8(v, vdupq_n_u8(0x80)); }
inline VI add_bytes(VI acc, VB unsigned_bytes) {
  return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(acc), vpaddlq_u8(unsigned_bytes)));
}
inline int32_t sum_lanes(VI v) { return vaddvq_s32(v); }
inline int32_t max_lanes(VI v) { return vmaxvq_s32(v); }

template <bool kSigned>
inline void widen_b(void* dst, const void* src) {
  const uint8x16_t bytes = load_b(src);
  const int8x16_t as_signed = vreinterpretq_s8_u8(bytes);
  uint8_t* const to = static_cast<uint8_t*>(dst);
  vst1q_u8(to, kSigned ? vreinterpretq_u8_s16(vmovl_s8(vget_low_s8(as_signed)))
                       : vreinterpretq_u8_u16(vmovl_u8(vget_low_u8(bytes))));
  vst1q_u8(to + 16, kSigned ? vreinterpretq_u8_s16(vmovl_high_s8(as_signed))
                            : vreinterpretq_u8_u16(vmovl_high_u8(bytes)));
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_VEC_NEON_H
