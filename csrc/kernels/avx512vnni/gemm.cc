// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n] with vpdpbusd (uint8 x int8 -> int32,
// four products a lane, wrapping; the saturating form vpdpbusds is not used).
//
//                w, two panels: 32 columns x 4 k
//                +----------------+----------------+
//    a row r     |  w0: c0..c15   |  w1: c16..c31  |    a step of 4 k loads two vectors of w and
//    k0..k3 x16  +----------------+----------------+    broadcasts four bytes a row; 24 vpdpbusd
//    broadcast   |   acc[r][0]    |   acc[r][1]    |    for 12 rows, 1,536 products.
//                +----------------+----------------+
//
// Registers (32): 24 acc (12 rows x 2), 2 w, the rest for broadcasts. vpdpbusd issues on two ports
// (one where 512-bit port 1 is fused away) with 5 cycles of latency: 24 independent sums cover 10.
// int8 activations come with the sign bit flipped (x + 128); ops/ corrects with the sums of w.
#include <immintrin.h>
#include <string.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 12;
constexpr uint32_t kNr = 2 * kPanel;
constexpr uint32_t kKr = 4;
constexpr ptrdiff_t kBlock = kKr * kPanel;
// The next tile's weights are fetched ahead, where loads do not bind anyway: from this many rows on.
constexpr uint32_t kRowsToPrefetch = 3;

constexpr uint32_t kTrio = 3;  // rows of one base register: base, base + stride, base + 2 * stride

template <uint32_t Rows, uint32_t Panels>
void run_tile(const TileArgs* args) {
  constexpr uint32_t kTrios = (Rows + kTrio - 1) / kTrio;
  const ptrdiff_t stride = args->a_stride;
  __m512i acc[Rows][Panels];
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    for (uint32_t p = 0; p < Panels; ++p) acc[m][p] = _mm512_setzero_si512();
  }
  for (uint32_t t = 0; t < args->n_taps; ++t) {
    // Twelve pointers would not fit into the general registers beside the rest: four bases do.
    const char* base[kTrios];
    for (uint32_t i = 0; i < kTrios; ++i) {
      base[i] = static_cast<const char*>(args->a) + args->taps[t] +
                static_cast<ptrdiff_t>(i * kTrio) * stride;
    }
    const char* w =
        static_cast<const char*>(args->w) + static_cast<ptrdiff_t>(t) * args->w_tap_stride;
    for (uint32_t k = 0; k < args->k; k += kKr) {
      __m512i panel[Panels];
      for (uint32_t p = 0; p < Panels; ++p) {
        panel[p] = _mm512_loadu_si512(w + static_cast<ptrdiff_t>(p) * args->w_stride);
      }
      if constexpr (Rows >= kRowsToPrefetch) {
        for (uint32_t p = 0; p < Panels; ++p) {
          _mm_prefetch(w + static_cast<ptrdiff_t>(p + Panels) * args->w_stride, _MM_HINT_T1);
        }
      }
      w += kBlock;
      for (uint32_t m = 0; m < Rows; ++m) {
        int32_t four = 0;
        memcpy(&four, base[m / kTrio] + static_cast<ptrdiff_t>(m % kTrio) * stride, sizeof(four));
        const __m512i x = _mm512_set1_epi32(four);
        for (uint32_t p = 0; p < Panels; ++p) {
          acc[m][p] = _mm512_dpbusd_epi32(acc[m][p], x, panel[p]);
        }
      }
      for (uint32_t i = 0; i < kTrios; ++i) base[i] += kKr;
    }
  }
  char* const out = reinterpret_cast<char*>(args->acc);
  const auto at = [&](uint32_t m, uint32_t p) {
    return out + static_cast<ptrdiff_t>(m) * args->acc_stride + p * sizeof(__m512i);
  };
  if (args->accumulate) {
    QK_UNROLL
    for (uint32_t m = 0; m < Rows; ++m) {
      for (uint32_t p = 0; p < Panels; ++p) {
        acc[m][p] = _mm512_add_epi32(acc[m][p], _mm512_loadu_si512(at(m, p)));
      }
    }
  }
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    for (uint32_t p = 0; p < Panels; ++p) _mm512_storeu_si512(at(m, p), acc[m][p]);
  }
}

// One row is bound by the bytes of w: they pass in one sequential stream, panel after panel, and
// four chains of sums stand in for the second panel.
void run_row(const TileArgs* args) {
  constexpr uint32_t kChains = 4;
  for (uint32_t p = 0; p < args->n / kPanel; ++p) {
    __m512i acc[kChains];
    QK_UNROLL
    for (uint32_t c = 0; c < kChains; ++c) acc[c] = _mm512_setzero_si512();
    for (uint32_t t = 0; t < args->n_taps; ++t) {
      const char* a = static_cast<const char*>(args->a) + args->taps[t];
      const char* w = static_cast<const char*>(args->w) +
                      static_cast<ptrdiff_t>(p) * args->w_stride +
                      static_cast<ptrdiff_t>(t) * args->w_tap_stride;
      const auto step = [&](uint32_t c) {
        int32_t four = 0;
        memcpy(&four, a + c * kKr, sizeof(four));
        const __m512i panel = _mm512_loadu_si512(w + static_cast<ptrdiff_t>(c) * kBlock);
        acc[c] = _mm512_dpbusd_epi32(acc[c], _mm512_set1_epi32(four), panel);
      };
      uint32_t k = args->k;
      for (; k >= kChains * kKr; k -= kChains * kKr) {
        QK_UNROLL
        for (uint32_t c = 0; c < kChains; ++c) step(c);
        a += kChains * kKr;
        w += kChains * kBlock;
      }
      for (; k > 0; k -= kKr, a += kKr, w += kBlock) step(0);
    }
    __m512i sum =
        _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3]));
    char* const out = reinterpret_cast<char*>(args->acc) + p * sizeof(sum);
    if (args->accumulate) sum = _mm512_add_epi32(sum, _mm512_loadu_si512(out));
    _mm512_storeu_si512(out, sum);
  }
}

template <uint32_t Rows>
void run_rows(const TileArgs* args) {
  if (args->n == kNr) {
    run_tile<Rows, 2>(args);
  } else {
    run_tile<Rows, 1>(args);
  }
}

void run(const TileArgs* args) {
  static void (*const by_rows[kMr])(const TileArgs*) = {
      run_row,     run_rows<2>, run_rows<3>, run_rows<4>,  run_rows<5>,  run_rows<6>,
      run_rows<7>, run_rows<8>, run_rows<9>, run_rows<10>, run_rows<11>, run_rows<12>};
  by_rows[args->m - 1](args);
}

constexpr GemmKernel make_kernel() {
  GemmKernel kernel{};
  kernel.name = "gemm_u8s8_12x32x4_avx512vnni";
  kernel.layout = LayoutId::k_k4n16;
  kernel.lhs = Lhs::kU8;
  kernel.mr = kMr;
  kernel.nr = kNr;
  kernel.kr = kKr;
  kernel.nr_row = 16 * kPanel;
  kernel.gmacs = 220;
  kernel.run = run;
  return kernel;
}

}  // namespace

extern const GemmKernel gemm_kernels[] = {make_kernel()};

}  // namespace qk::QK_TIER
