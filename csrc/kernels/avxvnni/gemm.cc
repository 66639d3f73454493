// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n] with 256-bit vpdpbusd (uint8 x int8 ->
// int32, four products a lane, wrapping; the saturating form vpdpbusds is not used).
//
//                w, one panel: 16 columns x 4 k
//                +---------------+---------------+
//    a row r     |  w0: c0..c7   |  w1: c8..c15  |    a step of 4 k loads two vectors of w and
//    k0..k3 x8   +---------------+---------------+    broadcasts four bytes a row; 12 vpdpbusd for
//    broadcast   |   acc[r][0]   |   acc[r][1]   |    6 rows, 384 products.
//                +---------------+---------------+
//
// Registers (16): 12 acc (6 rows x 2), 2 w, 1 broadcast. vpdpbusd issues on two ports with 5 cycles
// of latency: 12 independent sums cover 10. int8 activations come with the sign bit flipped
// (x + 128); ops/ corrects with the sums of w.
#include <immintrin.h>
#include <string.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 6;
constexpr uint32_t kKr = 4;
constexpr uint32_t kVectors = 2;  // of 8 columns, a panel
constexpr ptrdiff_t kBlock = kKr * kPanel;
// The next panel's weights are fetched ahead, where loads do not bind anyway: from this many rows.
constexpr uint32_t kRowsToPrefetch = 3;

// Chains of sums a row, over every Chains-th step of k: a few rows have too few sums to cover the
// latency.
template <uint32_t Rows, uint32_t Chains>
void run_panel(const TileArgs* args, const int8_t* panel, int32_t* acc_out) {
  __m256i acc[Chains][Rows][kVectors];
  QK_UNROLL
  for (uint32_t c = 0; c < Chains; ++c) {
    for (uint32_t m = 0; m < Rows; ++m) {
      for (uint32_t v = 0; v < kVectors; ++v) acc[c][m][v] = _mm256_setzero_si256();
    }
  }
  for (uint32_t t = 0; t < args->n_taps; ++t) {
    const char* rows[Rows];
    for (uint32_t m = 0; m < Rows; ++m) {
      rows[m] = static_cast<const char*>(args->a) + static_cast<ptrdiff_t>(m) * args->a_stride +
                args->taps[t];
    }
    const int8_t* w = panel + static_cast<ptrdiff_t>(t) * args->w_tap_stride;
    const auto step = [&](uint32_t c, uint32_t k) {
      if constexpr (Rows >= kRowsToPrefetch) {
        _mm_prefetch(reinterpret_cast<const char*>(w) + args->w_stride, _MM_HINT_T1);
      }
      __m256i half[kVectors];
      for (uint32_t v = 0; v < kVectors; ++v) {
        half[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w) + v);
      }
      for (uint32_t m = 0; m < Rows; ++m) {
        int32_t four = 0;
        memcpy(&four, rows[m] + k, sizeof(four));
        const __m256i x = _mm256_set1_epi32(four);
        for (uint32_t v = 0; v < kVectors; ++v) {
          acc[c][m][v] = _mm256_dpbusd_avx_epi32(acc[c][m][v], x, half[v]);
        }
      }
      w += kBlock;
    };
    uint32_t k = 0;
    for (; args->k - k >= Chains * kKr; k += Chains * kKr) {
      QK_UNROLL
      for (uint32_t c = 0; c < Chains; ++c) step(c, k + c * kKr);
    }
    if constexpr (Chains > 1) {
      for (; k < args->k; k += kKr) step(0, k);
    }
  }
  char* const out = reinterpret_cast<char*>(acc_out);
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    for (uint32_t v = 0; v < kVectors; ++v) {
      __m256i sum = acc[0][m][v];
      for (uint32_t c = 1; c < Chains; ++c) sum = _mm256_add_epi32(sum, acc[c][m][v]);
      __m256i* const to =
          reinterpret_cast<__m256i*>(out + static_cast<ptrdiff_t>(m) * args->acc_stride) + v;
      if (args->accumulate) sum = _mm256_add_epi32(sum, _mm256_loadu_si256(to));
      _mm256_storeu_si256(to, sum);
    }
  }
}

template <uint32_t Rows>
void run_rows(const TileArgs* args) {
  for (uint32_t p = 0; p < args->n / kPanel; ++p) {
    run_panel<Rows, Rows == 1   ? 4
                    : Rows <= 3 ? 2
                                : 1>(
        args, static_cast<const int8_t*>(args->w) + static_cast<ptrdiff_t>(p) * args->w_stride,
        args->acc + p * kPanel);
  }
}

void run(const TileArgs* args) {
  static void (*const by_rows[kMr])(const TileArgs*) = {run_rows<1>, run_rows<2>, run_rows<3>,
                                                        run_rows<4>, run_rows<5>, run_rows<6>};
  by_rows[args->m - 1](args);
}

constexpr GemmKernel make_kernel() {
  GemmKernel kernel{};
  kernel.name = "gemm_u8s8_6x16x4_avxvnni";
  kernel.layout = LayoutId::k_k4n16;
  kernel.lhs = Lhs::kU8;
  kernel.mr = kMr;
  kernel.nr = kPanel;
  kernel.kr = kKr;
  kernel.nr_row = 16 * kPanel;
  kernel.gmacs = 160;
  kernel.run = run;
  return kernel;
}

}  // namespace

extern const GemmKernel gemm_kernels[] = {make_kernel()};

}  // namespace qk::QK_TIER
