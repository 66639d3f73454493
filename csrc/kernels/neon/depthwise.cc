// SPDX-License-Identifier: Apache-2.0
//
// acc[m, c] = sum over taps of x[m, tap, c] * w[tap, c] for 16 channels and up to 4 pixels.
//
//     w, two taps:     c0t0 c0t1 c1t0 ... c7t1 | c8t0 ...    uzp parts the taps: c0..c7 of each
//     bytes of tap 0:  c0  c1 ... c15                        sxtl or uxtl widens them to int16,
//     bytes of tap 1:  c0  c1 ... c15                        smlal adds 4 channels to a vector of acc
//
// Registers (32): 16 acc (4 pixels x 4), 4 w, the rest for x. A step of 2 taps, 16 channels and 4
// pixels: 12 loads, 4 uzp, 16 sxtl, 32 smlal for 128 products; smlal has one pipe of Cortex-A72 and
// binds it. int16 weights carry w - zero_point, see scalar/depthwise.cc.
#include <arm_neon.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 4;
constexpr uint32_t kTaps = 2;
constexpr uint32_t kHalves = 2;  // 8 channels a vector of int16

template <bool Signed>
int16x8_t widen(uint8x8_t bytes) {
  return Signed ? vmovl_s8(vreinterpret_s8_u8(bytes)) : vreinterpretq_s16_u16(vmovl_u8(bytes));
}

template <bool Signed, uint32_t Pixels>
void run_pixels(const DepthwiseArgs* args) {
  int32x4_t acc[Pixels][2 * kHalves];
  for (uint32_t m = 0; m < Pixels; ++m) {
    for (uint32_t i = 0; i < 2 * kHalves; ++i) acc[m][i] = vdupq_n_s32(0);
  }
  const int16_t* w = args->w;
  for (uint32_t t = 0; t < args->n_taps; t += kTaps, w += kTaps * kPanel) {
    int16x8_t weights[kTaps][kHalves];
    for (uint32_t h = 0; h < kHalves; ++h) {
      const int16x8_t low = vld1q_s16(w + h * kPanel);
      const int16x8_t high = vld1q_s16(w + h * kPanel + kPanel / 2);
      weights[0][h] = vuzp1q_s16(low, high);
      weights[1][h] = vuzp2q_s16(low, high);
    }
    for (uint32_t tap = 0; tap < kTaps; ++tap) {
      const uint8_t* x = args->x + args->taps[t + tap];
      int16x8_t wide[Pixels][kHalves];  // all pixels, then their products: no one waits in order
      for (uint32_t m = 0; m < Pixels; ++m, x += args->x_stride) {
        const uint8x16_t bytes = vld1q_u8(x);
        wide[m][0] = widen<Signed>(vget_low_u8(bytes));
        wide[m][1] = widen<Signed>(vget_high_u8(bytes));
      }
      for (uint32_t m = 0; m < Pixels; ++m) {
        for (uint32_t h = 0; h < kHalves; ++h) {
          const int16x8_t by = weights[tap][h];
          acc[m][2 * h] = vmlal_s16(acc[m][2 * h], vget_low_s16(wide[m][h]), vget_low_s16(by));
          acc[m][2 * h + 1] = vmlal_high_s16(acc[m][2 * h + 1], wide[m][h], by);
        }
      }
    }
  }
  for (uint32_t m = 0; m < Pixels; ++m) {
    for (uint32_t i = 0; i < 2 * kHalves; ++i) vst1q_s32(args->acc + m * kPanel + 4 * i, acc[m][i]);
  }
}

template <bool Signed>
void run_signed(const DepthwiseArgs* args) {
  static void (*const by_pixels[kMr])(const DepthwiseArgs*) = {
      run_pixels<Signed, 1>, run_pixels<Signed, 2>, run_pixels<Signed, 3>, run_pixels<Signed, 4>};
  by_pixels[args->m - 1](args);
}

void run(const DepthwiseArgs* args) {
  args->x_signed ? run_signed<true>(args) : run_signed<false>(args);
}

}  // namespace

extern const DepthwiseKernel depthwise_kernels[] = {
    {"dwconv_x8s16_4x16x2_neon", LayoutId::k_t2c16s16, kMr, kPanel, kTaps, run},
};

}  // namespace qk::QK_TIER
