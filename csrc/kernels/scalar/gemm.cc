// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n]: the definition, in plain C++.
//
//            w: [k / 4] blocks of 16 columns x 4        One step of k4 consumes 4 values of each of
//            +----------------------------------+       up to 4 rows of a (int16) and one 64-byte
//     a  4   |c0k0 c0k1 c0k2 c0k3 c1k0 ... c15k3|       block of w. The compiler vectorises the
//   rows     +----------------------------------+       column loop for the baseline of the ABI.
//
// Domain: a in [-255, 255], w int8; sums exact modulo 2^32. Activations are widened to int16 before
// they come here, so that int8 and uint8 share one kernel, as in avx2/.
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 4;
constexpr uint32_t kKr = 4;  // int8 values in a 32-bit lane of the packed layout

void run(const TileArgs* args) {
  for (uint32_t panel = 0; panel < args->n / kPanel; ++panel) {
    for (uint32_t m = 0; m < args->m; ++m) {
      uint32_t sum[kPanel] = {0};  // unsigned: raw sums may wrap, the corrected ones never do
      for (uint32_t t = 0; t < args->n_taps; ++t) {
        const int16_t* a = reinterpret_cast<const int16_t*>(
            static_cast<const char*>(args->a) + static_cast<ptrdiff_t>(m) * args->a_stride +
            args->taps[t]);
        const int8_t* w = static_cast<const int8_t*>(args->w) +
                          static_cast<ptrdiff_t>(panel) * args->w_stride +
                          static_cast<ptrdiff_t>(t) * args->w_tap_stride;
        for (uint32_t k = 0; k < args->k; k += kKr, a += kKr, w += kKr * kPanel) {
          for (uint32_t n = 0; n < kPanel; ++n) {
            sum[n] += static_cast<uint32_t>(a[0] * w[n * kKr] + a[1] * w[n * kKr + 1] +
                                            a[2] * w[n * kKr + 2] + a[3] * w[n * kKr + 3]);
          }
        }
      }
      int32_t* acc = reinterpret_cast<int32_t*>(reinterpret_cast<char*>(args->acc) +
                                                static_cast<ptrdiff_t>(m) * args->acc_stride) +
                     panel * kPanel;
      for (uint32_t n = 0; n < kPanel; ++n) {
        acc[n] =
            static_cast<int32_t>((args->accumulate ? static_cast<uint32_t>(acc[n]) : 0u) + sum[n]);
      }
    }
  }
}

constexpr GemmKernel make_kernel() {
  GemmKernel kernel{};
  kernel.name = "gemm_s16s8_4x16x4_scalar";
  kernel.layout = LayoutId::k_k4n16;
  kernel.lhs = Lhs::kS16;
  kernel.mr = kMr;
  kernel.nr = kPanel;
  kernel.kr = kKr;
  kernel.gmacs = 4;
  kernel.run = run;
  return kernel;
}

}  // namespace

extern const GemmKernel gemm_kernels[] = {make_kernel()};

}  // namespace qk::QK_TIER
