// SPDX-License-Identifier: Apache-2.0
//
// acc[m, c] = sum over taps of x[m, tap, c] * w[tap, c] for 16 channels and up to 4 pixels.
//
//     bytes of tap 0:  c0  c1 ... c15      interleaved:  c0t0 c0t1 c1t0 c1t1 ... c7t1 | c8t0 ...
//     bytes of tap 1:  c0  c1 ... c15      widened to int16 and multiplied with w of the same order
//                                          by vpmaddwd: a lane is a channel's sum over two taps
//
// Registers (16): 8 acc (4 pixels x 2), 2 w, 4 for x. A step of 2 taps, 16 channels and 4 pixels:
// 8 vpunpck, 8 vpmovsx/zx, 8 vpmaddwd, 8 vpaddd for 128 products: the shuffles bind it, at 8 cycles
// on two shuffle ports. int16 weights carry w - zero_point, see scalar/depthwise.cc.
#include <immintrin.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 4;
constexpr uint32_t kTaps = 2;
constexpr uint32_t kHalves = 2;  // 8 channels a vector

template <bool Signed>
__m256i widen(__m128i bytes) {
  return Signed ? _mm256_cvtepi8_epi16(bytes) : _mm256_cvtepu8_epi16(bytes);
}

template <bool Signed, uint32_t Pixels>
void run_pixels(const DepthwiseArgs* args) {
  __m256i acc[Pixels][kHalves];
  for (uint32_t m = 0; m < Pixels; ++m) {
    for (uint32_t h = 0; h < kHalves; ++h) acc[m][h] = _mm256_setzero_si256();
  }
  const int16_t* w = args->w;
  for (uint32_t t = 0; t < args->n_taps; t += kTaps, w += kTaps * kPanel) {
    const __m256i w0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
    const __m256i w1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w) + 1);
    const uint8_t* x0 = args->x + args->taps[t];
    const uint8_t* x1 = args->x + args->taps[t + 1];
    for (uint32_t m = 0; m < Pixels; ++m, x0 += args->x_stride, x1 += args->x_stride) {
      const __m128i tap0 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x0));
      const __m128i tap1 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x1));
      const __m256i low = widen<Signed>(_mm_unpacklo_epi8(tap0, tap1));
      const __m256i high = widen<Signed>(_mm_unpackhi_epi8(tap0, tap1));
      acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(low, w0));
      acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(high, w1));
    }
  }
  for (uint32_t m = 0; m < Pixels; ++m) {
    __m256i* out = reinterpret_cast<__m256i*>(args->acc + m * kPanel);
    _mm256_storeu_si256(out, acc[m][0]);
    _mm256_storeu_si256(out + 1, acc[m][1]);
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
    {"dwconv_x8s16_4x16x2_avx2", LayoutId::k_t2c16s16, kMr, kPanel, kTaps, run},
};

}  // namespace qk::QK_TIER
