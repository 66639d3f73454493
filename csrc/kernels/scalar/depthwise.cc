// SPDX-License-Identifier: Apache-2.0
//
// acc[m, c] = sum over taps of x[m, tap, c] * w[tap, c]: the definition, for 16 channels.
//
//     w, one panel: [tap / 2][16 channels][2 taps] int16, zero point already removed
//     x: 16 bytes at x + m * x_stride + taps[t]
//
// int16 weights hold w - zero_point for every int8 and uint8 pair (-255..255), so no correction by
// row sums is needed; products of a pair stay below 2^17.
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 4;
constexpr uint32_t kTaps = 2;

template <typename Byte>
void run_signed(const DepthwiseArgs* args) {
  for (uint32_t m = 0; m < args->m; ++m) {
    const uint8_t* x = args->x + static_cast<ptrdiff_t>(m) * args->x_stride;
    const int16_t* w = args->w;
    uint32_t sum[kPanel] = {0};  // unsigned: raw sums may wrap, the corrected ones never do
    for (uint32_t t = 0; t < args->n_taps; t += kTaps, w += kTaps * kPanel) {
      const Byte* x0 = reinterpret_cast<const Byte*>(x + args->taps[t]);
      const Byte* x1 = reinterpret_cast<const Byte*>(x + args->taps[t + 1]);
      for (uint32_t c = 0; c < kPanel; ++c) {
        sum[c] += static_cast<uint32_t>(x0[c] * w[2 * c] + x1[c] * w[2 * c + 1]);
      }
    }
    for (uint32_t c = 0; c < kPanel; ++c) args->acc[m * kPanel + c] = static_cast<int32_t>(sum[c]);
  }
}

void run(const DepthwiseArgs* args) {
  args->x_signed ? run_signed<int8_t>(args) : run_signed<uint8_t>(args);
}

}  // namespace

extern const DepthwiseKernel depthwise_kernels[] = {
    {"dwconv_x8s16_4x16x2_scalar", LayoutId::k_t2c16s16, kMr, kPanel, kTaps, run},
};

}  // namespace qk::QK_TIER
