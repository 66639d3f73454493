// SPDX-License-Identifier: Apache-2.0
//
// Probes on AVX2. A dot is what the GEMM kernel spends on a product: vpmaddwd and vpaddd. vfmadd
// issues on two ports with 4 or 5 cycles of latency: 12 independent sums cover 10, and leave
// registers for the operands.
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_avx2.h"
#include "kernels/simd/probe.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kSums = 12;

// vpmaddwd of the same two registers would be computed once for all: one is made to look new.
__m256i renewed(__m256i v) {
#if defined(__GNUC__)
  __asm__ volatile("" : "+x"(v));
#else
  clobber(&v);
#endif
  return v;
}

}  // namespace

void probe_dots(ProbeArgs* args) {
  const __m256i ones = _mm256_set1_epi16(static_cast<int16_t>(opaque(1)));
  __m256i a = ones;
  run_dots<kSums>(args, sizeof(__m256i) / sizeof(int16_t), [&](__m256i sum) {
    a = renewed(a);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, ones));
  });
}

void probe_fma(ProbeArgs* args) {
  const __m256 one = _mm256_set1_ps(static_cast<float>(opaque(1)));
  run_fma<kSums>(args, [&](__m256 sum) { return _mm256_fmadd_ps(sum, one, one); });
}

void probe_read(ProbeArgs* args) { run_read(args); }

}  // namespace qk::QK_TIER
