// SPDX-License-Identifier: Apache-2.0
#include "kernels/simd/checksum.h"

#include <arm_neon.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

// v * M in 64 bits, from products of halves; the scalar multiplier is kept for the lanes.
inline uint64x2_t times_m(uint64x2_t v) {
  const uint32x2_t low = vdup_n_u32(static_cast<uint32_t>(kChecksumMix & 0xffffffff));
  const uint32x2_t high = vdup_n_u32(static_cast<uint32_t>(kChecksumMix >> 32));
  const uint32x2_t v_low = vmovn_u64(v);
  const uint32x2_t crossed = vmla_u32(vmul_u32(vshrn_n_u64(v, 32), low), v_low, high);
  return vmlal_u32(vshlq_n_u64(vmovl_u32(crossed), 32), v_low, low);
}

}  // namespace

void checksum(const ChecksumArgs* args) {
  run_checksum<1>(*args, [](const uint8_t* data, uint64_t* mixed) {
    for (int half = 0; half < 2; ++half) {
      const uint64x2_t v = times_m(vreinterpretq_u64_u8(vld1q_u8(data + 16 * half)));
      vst1q_u64(mixed + 2 * half, times_m(veorq_u64(v, vshrq_n_u64(v, 32))));
    }
  });
}

}  // namespace qk::QK_TIER
