// SPDX-License-Identifier: Apache-2.0
//
// vpdpbusd, VEX, on 12 independent sums as in the GEMM kernel.
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_avx2.h"
#include "kernels/simd/probe.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void probe_dots(ProbeArgs* args) {
  constexpr uint32_t kSums = 12;
  const __m256i ones = _mm256_set1_epi32(opaque(0x01010101));
  run_dots<kSums>(args, sizeof(__m256i),
                  [&](__m256i sum) { return _mm256_dpbusd_avx_epi32(sum, ones, ones); });
}

}  // namespace qk::QK_TIER
