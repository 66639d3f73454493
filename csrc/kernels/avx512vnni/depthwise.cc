// SPDX-License-Identifier: Apache-2.0
//
// acc[m, c] = sum over taps of x[m, tap, c] * w[tap, c] for 16 channels and up to 8 pixels.
//
//     bytes of tap 0:  c0 ... c15     interleaved  c0t0 c0t1 ... c15t0 c15t1  (32 bytes), widened to
//     bytes of tap 1:  c0 ... c15     32 int16 in one vector; vpdpwssd adds a channel's two products
//
// Registers (32): 8 acc, 1 w, 4 for x. A step of 2 taps, 16 channels and 8 pixels: 16 vpunpck,
// 8 vinserti128, 8 vpmovsx/zx, 8 vpdpwssd for 256 products. Wrapping form, never vpdpwssds.
#include <immintrin.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 8;
constexpr uint32_t kTaps = 2;

template <bool Signed>
__m512i widen(__m256i bytes) {
  return Signed ? _mm512_cvtepi8_epi16(bytes) : _mm512_cvtepu8_epi16(bytes);
}

template <bool Signed, uint32_t Pixels>
void run_pixels(const DepthwiseArgs* args) {
  __m512i acc[Pixels];
  for (uint32_t m = 0; m < Pixels; ++m) acc[m] = _mm512_setzero_si512();
  const int16_t* w = args->w;
  for (uint32_t t = 0; t < args->n_taps; t += kTaps, w += kTaps * kPanel) {
    const __m512i weights = _mm512_loadu_si512(w);
    const uint8_t* x0 = args->x + args->taps[t];
    const uint8_t* x1 = args->x + args->taps[t + 1];
    for (uint32_t m = 0; m < Pixels; ++m, x0 += args->x_stride, x1 += args->x_stride) {
      const __m128i tap0 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x0));
      const __m128i tap1 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x1));
      const __m256i pairs = _mm256_inserti128_si256(
          _mm256_castsi128_si256(_mm_unpacklo_epi8(tap0, tap1)), _mm_unpackhi_epi8(tap0, tap1), 1);
      acc[m] = _mm512_dpwssd_epi32(acc[m], widen<Signed>(pairs), weights);
    }
  }
  for (uint32_t m = 0; m < Pixels; ++m) _mm512_storeu_si512(args->acc + m * kPanel, acc[m]);
}

template <bool Signed>
void run_signed(const DepthwiseArgs* args) {
  static void (*const by_pixels[kMr])(const DepthwiseArgs*) = {
      run_pixels<Signed, 1>, run_pixels<Signed, 2>, run_pixels<Signed, 3>, run_pixels<Signed, 4>,
      run_pixels<Signed, 5>, run_pixels<Signed, 6>, run_pixels<Signed, 7>, run_pixels<Signed, 8>};
  by_pixels[args->m - 1](args);
}

void run(const DepthwiseArgs* args) {
  args->x_signed ? run_signed<true>(args) : run_signed<false>(args);
}

}  // namespace

extern const DepthwiseKernel depthwise_kernels[] = {
    {"dwconv_x8s16_8x16x2_avx512vnni", LayoutId::k_t2c16s16, kMr, kPanel, kTaps, run},
};

}  // namespace qk::QK_TIER
