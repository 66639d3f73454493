// SPDX-License-Identifier: Apache-2.0
//
// Probes with 512-bit registers. vpdpbusd and vfmadd issue on at most two ports with 4 or 5 cycles of
// latency: 16 independent sums cover 10.
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_avx512.h"
#include "kernels/simd/probe.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kSums = 16;

}  // namespace

void probe_dots(ProbeArgs* args) {
  const __m512i ones = _mm512_set1_epi32(opaque(0x01010101));
  run_dots<kSums>(args, sizeof(__m512i),
                  [&](__m512i sum) { return _mm512_dpbusd_epi32(sum, ones, ones); });
}

void probe_fma(ProbeArgs* args) {
  const __m512 one = _mm512_set1_ps(static_cast<float>(opaque(1)));
  run_fma<kSums>(args, [&](__m512 sum) { return _mm512_fmadd_ps(sum, one, one); });
}

void probe_read(ProbeArgs* args) { run_read(args); }

}  // namespace qk::QK_TIER
