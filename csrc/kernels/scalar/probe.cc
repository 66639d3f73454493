// SPDX-License-Identifier: Apache-2.0
//
// Probes in plain C++: what the compiler makes of the same loops for the baseline of the ABI. The
// loops over lanes have constant bounds and independent sums, so that it can keep vectors busy.
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_scalar.h"
#include "kernels/simd/probe.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

// int16 pairs into int32, as the GEMM kernel's products; two rows share their right side.
void probe_dots(ProbeArgs* args) {
  constexpr uint32_t kRows = 2;
  constexpr uint32_t kDepth = 128;
  int16_t a[kRows][kDepth];
  int16_t w[kDepth];
  for (uint32_t k = 0; k < kDepth; ++k) a[0][k] = a[1][k] = w[k] = 1;
  uint32_t total = 0;
  for (size_t round = 0; round < args->n; ++round) {
    clobber(a);
    clobber(w);
    int32_t sum0 = 0;
    int32_t sum1 = 0;
    for (uint32_t k = 0; k < kDepth; ++k) {
      sum0 += a[0][k] * w[k];
      sum1 += a[1][k] * w[k];
    }
    total += static_cast<uint32_t>(sum0) + static_cast<uint32_t>(sum1);
  }
  args->work = uint64_t{args->n} * kRows * kDepth;
  args->sum = total;
}

void probe_fma(ProbeArgs* args) {
  constexpr uint32_t kLanes = 32;
  const auto one = static_cast<float>(opaque(1));
  float acc[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) acc[i] = static_cast<float>(i);
  for (size_t round = 0; round < args->n; ++round) {
    for (uint32_t i = 0; i < kLanes; ++i) {
#if defined(__FP_FAST_FMAF)
      acc[i] = __builtin_fmaf(acc[i], one, one);
#else
      acc[i] = acc[i] * one + one;
#endif
    }
  }
  uint32_t total = 0;
  for (uint32_t i = 0; i < kLanes; ++i) total += static_cast<uint32_t>(acc[i]) - i;
  args->work = uint64_t{args->n} * kLanes;
  args->sum = total;
}

void probe_read(ProbeArgs* args) {
  constexpr uint32_t kSums = 32;
  const auto* words = static_cast<const uint32_t*>(args->src);
  uint32_t sums[kSums] = {0};
  for (size_t i = 0; i < args->n / sizeof(uint32_t); i += kSums) {
    for (uint32_t j = 0; j < kSums; ++j) sums[j] += words[i + j];
  }
  uint32_t total = 0;
  for (uint32_t j = 0; j < kSums; ++j) total += sums[j];
  args->work = args->n;
  args->sum = total;
}

}  // namespace qk::QK_TIER
