// SPDX-License-Identifier: Apache-2.0
//
// sdot on 16 independent sums: at most four pipes and 3 or 4 cycles of latency.
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_neon.h"
#include "kernels/simd/probe.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void probe_dots(ProbeArgs* args) {
  constexpr uint32_t kSums = 16;
  const int8x16_t ones = vdupq_n_s8(static_cast<int8_t>(opaque(1)));
  run_dots<kSums>(args, sizeof(int8x16_t),
                  [&](int32x4_t sum) { return vdotq_s32(sum, ones, ones); });
}

}  // namespace qk::QK_TIER
