// SPDX-License-Identifier: Apache-2.0
//
// Probes on ARMv8.0. A dot is what the GEMM kernel spends on eight products: smull and sadalp. fmla
// has at most four pipes and 4 cycles of latency: 16 independent sums cover it.
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_neon.h"
#include "kernels/simd/probe.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kSums = 16;

// smull of the same two registers would be computed once for all: one is made to look new.
int8x8_t renewed(int8x8_t v) {
#if defined(__GNUC__)
  __asm__ volatile("" : "+w"(v));
#else
  clobber(&v);
#endif
  return v;
}

}  // namespace

void probe_dots(ProbeArgs* args) {
  const int8x8_t ones = vdup_n_s8(static_cast<int8_t>(opaque(1)));
  int8x8_t a = ones;
  run_dots<kSums>(args, sizeof(int8x8_t), [&](int32x4_t sum) {
    a = renewed(a);
    return vpadalq_s16(sum, vmull_s8(a, ones));
  });
}

void probe_fma(ProbeArgs* args) {
  const float32x4_t one = vdupq_n_f32(static_cast<float>(opaque(1)));
  run_fma<kSums>(args, [&](float32x4_t sum) { return vfmaq_f32(sum, one, one); });
}

void probe_read(ProbeArgs* args) { run_read(args); }

}  // namespace qk::QK_TIER
