// SPDX-License-Identifier: Apache-2.0
//
// The vocabulary of one lane, in portable C++: the definition that the other vec_*.h follow.
//
//   VF, VI     kLanes float32, int32          VM   a truth value a lane
//   VB         kByteLanes bytes               kVecs vectors make a panel of kPanel lanes
//
// All pointers may be unaligned. Float operations are IEEE single, one rounding each. min and max
// give the second operand when the two are equal or one is NaN. Integer add, sub, mul wrap.
#ifndef QKERNELS_KERNELS_SIMD_VEC_SCALAR_H
#define QKERNELS_KERNELS_SIMD_VEC_SCALAR_H

#include <string.h>

#include "kernels/contract.h"

namespace qk::QK_TIER {

constexpr uint32_t kLanes = 1;
constexpr uint32_t kByteLanes = 1;
constexpr uint32_t kVecs = kPanel / kLanes;

using VF = float;
using VI = int32_t;
using VM = bool;
using VB = uint8_t;

template <class T>
inline T load_as(const void* p) {
  T value;
  memcpy(&value, p, sizeof(T));
  return value;
}

template <class To, class From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "a bit pattern keeps its size");
  return load_as<To>(&from);
}

inline int32_t wrap(uint32_t v) { return static_cast<int32_t>(v); }

inline int32_t saturate(int64_t v) {
  return static_cast<int32_t>(v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : v);
}

// Loads and stores.
inline VF splat_f(float v) { return v; }
inline VI splat_i(int32_t v) { return v; }
inline VF load_f(const void* p) { return load_as<float>(p); }
inline void store_f(void* p, VF v) { memcpy(p, &v, sizeof(v)); }
inline VI load_i(const void* p) { return load_as<int32_t>(p); }
inline void store_i(void* p, VI v) { memcpy(p, &v, sizeof(v)); }
inline VI load_s8(const void* p) { return load_as<int8_t>(p); }
inline VI load_u8(const void* p) { return load_as<uint8_t>(p); }

// The high half of a float. Moved, not shifted: gcc 12 vectorises the shift by 16 for aarch64 with
// shll and forgets shll2, so that every other four elements are lost.
inline VF load_bf16(const void* p) {
  VF v = 0.0f;
  memcpy(reinterpret_cast<char*>(&v) + 2, p, 2);
  return v;
}

inline VF load_f16(const void* p) {
  const uint32_t half = load_as<uint16_t>(p);
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  const uint32_t rebias = (127u - 15u) << 23;
  uint32_t bits;
  if (magnitude >= 0x7c00u) {  // infinity, NaN
    bits = (magnitude << 13) + 2 * rebias;
  } else if (magnitude >= 0x0400u) {
    bits = (magnitude << 13) + rebias;
  } else {  // subnormal: an integer times 2^-24
    bits = bits_as<uint32_t>(static_cast<float>(magnitude) * (1.0f / 16777216.0f));
  }
  return bits_as<float>(bits | sign);
}

// The low byte of each lane of a panel.
inline void store_panel_bytes(void* p, const VI (&v)[kVecs]) {
  uint8_t bytes[kPanel];
  for (uint32_t i = 0; i < kPanel; ++i) bytes[i] = static_cast<uint8_t>(v[i]);
  memcpy(p, bytes, kPanel);
}

// The low half of each lane of a panel; the values fit into int16.
inline void store_panel_words(void* p, const VI (&v)[kVecs]) {
  uint16_t words[kPanel];
  for (uint32_t i = 0; i < kPanel; ++i) words[i] = static_cast<uint16_t>(v[i]);
  memcpy(p, words, sizeof(words));
}

// float32.
inline VF add(VF a, VF b) { return a + b; }
inline VF sub(VF a, VF b) { return a - b; }
inline VF mul(VF a, VF b) { return a * b; }
inline VF div(VF a, VF b) { return a / b; }
inline VF min(VF a, VF b) { return a < b ? a : b; }
inline VF max(VF a, VF b) { return a > b ? a : b; }
inline VF abs(VF v) { return bits_as<float>(bits_as<uint32_t>(v) & 0x7fffffffu); }

inline VF copy_sign(VF magnitude, VF sign) {
  return bits_as<float>((bits_as<uint32_t>(magnitude) & 0x7fffffffu) |
                        (bits_as<uint32_t>(sign) & 0x80000000u));
}

// int32.
inline VI add(VI a, VI b) { return wrap(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
inline VI sub(VI a, VI b) { return wrap(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); }
inline VI mul(VI a, VI b) { return wrap(static_cast<uint32_t>(a) * static_cast<uint32_t>(b)); }
inline VI min(VI a, VI b) { return a < b ? a : b; }
inline VI max(VI a, VI b) { return a > b ? a : b; }
inline VI bit_and(VI a, VI b) { return a & b; }
inline VI bit_xor(VI a, VI b) { return a ^ b; }

// Counts of 32 and more shift everything out (the right shift leaves the sign).
inline VI shift_left(VI v, VI count) {
  return count > 31 ? 0 : wrap(static_cast<uint32_t>(v) << count);
}
inline VI shift_right(VI v, VI count) { return v >> (count > 31 ? 31 : count); }

// saturate((a * b + 2^(s-1)) >> s) in 64 bits, 0 <= s <= 62; s == 0 adds nothing.
inline VI mul_shift_round(VI a, VI b, VI s) {
  const int64_t half = s == 0 ? 0 : INT64_C(1) << (s - 1);
  return saturate((static_cast<int64_t>(a) * b + half) >> s);
}

// The same for s = 31: the saturating rounding doubling high multiply. Its definition truncates
// toward zero with a nudge of 1 - 2^30 for negative products, which is floor((ab + 2^30) / 2^31).
inline VI mul_high_round(VI a, VI b) {
  return saturate((static_cast<int64_t>(a) * b + (INT64_C(1) << 30)) >> 31);
}

// Truth values.
inline VM greater(VF a, VF b) { return a > b; }
inline VM greater(VI a, VI b) { return a > b; }
inline VM equal(VI a, VI b) { return a == b; }
inline VM is_nan(VF v) { return v != v; }
inline VM either(VM a, VM b) { return a || b; }
inline VM no_lane() { return false; }
inline bool any(VM m) { return m; }
inline VF select(VM m, VF yes, VF no) { return m ? yes : no; }
inline VI select(VM m, VI yes, VI no) { return m ? yes : no; }

// Conversions.
inline VI bits_of(VF v) { return bits_as<int32_t>(v); }
inline VF to_float(VI v) { return static_cast<float>(v); }

// Half to even. Adding 2^23 leaves no fraction bits, so the sum is rounded as IEEE demands. What
// int32 cannot hold gives INT32_MIN, as on x86.
inline VI to_int(VF v) {
  constexpr float kNoFraction = 8388608.0f;
  if (v > -kNoFraction && v < kNoFraction) {
    const float magic = v < 0.0f ? -kNoFraction : kNoFraction;
    return static_cast<int32_t>((v + magic) - magic);
  }
  return v >= -2147483648.0f && v < 2147483648.0f ? static_cast<int32_t>(v) : INT32_MIN;
}

// float32 of the exact difference: one rounding.
inline VF difference(VI a, VI b) {
  return static_cast<float>(static_cast<int64_t>(a) - static_cast<int64_t>(b));
}

inline VF power_of_two(VI n) {  // -126 <= n <= 127
  return bits_as<float>((static_cast<uint32_t>(n) + 127u) << 23);
}

// Bytes.
inline VB load_b(const void* p) { return load_as<uint8_t>(p); }
inline void store_b(void* p, VB v) { memcpy(p, &v, sizeof(v)); }
inline VB flip_sign(VB v) { return v ^ 0x80; }
inline VI add_bytes(VI acc, VB unsigned_bytes) { return add(acc, VI{unsigned_bytes}); }
inline int32_t sum_lanes(VI v) { return v; }
inline int32_t max_lanes(VI v) { return v; }

// kByteLanes bytes to int16.
template <bool kSigned>
inline void widen_b(void* dst, const void* src) {
  const int16_t wide = kSigned ? load_as<int8_t>(src) : load_as<uint8_t>(src);
  memcpy(dst, &wide, sizeof(wide));
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_VEC_SCALAR_H
