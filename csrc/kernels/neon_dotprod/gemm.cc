// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n] with sdot by element (int8 x int8 ->
// int32, four products a lane, wrapping).
//
//                w, a panel: 16 columns x 4 k
//                +---------+---------+---------+---------+
//    a row r     | c0..c3  | c4..c7  | c8..c11 | c12..15 |    a step of 16 k loads a vector of each
//    16 k, a     +---------+---------+---------+---------+    row and 16 of w, one at a time; 96 sdot
//    lane 4 k    |acc[r][0]|acc[r][1]|acc[r][2]|acc[r][3]|    for 6 rows, 1,536 products.
//                +---------+---------+---------+---------+
//
// Registers (32): 24 acc (6 rows x 4), 6 rows of a, 2 w. sdot issues on two pipes (Cortex-A76) or
// four (Apple M1) with 3 cycles of latency: 24 independent sums cover 12. Activations are int8; uint8
// ones come with the sign bit flipped (x - 128), as udot would want unsigned weights too.
//
// Why not 8 rows x 12 columns, with fewer loads: a panel has 16, and 22 loads for 96 sdot leave both
// load ports half idle.
#include <arm_neon.h>
#include <string.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 6;
constexpr uint32_t kKr = 4;
constexpr uint32_t kLane = 4;     // steps of 4 k in a vector of a row
constexpr uint32_t kVectors = 4;  // of 4 columns, a panel
constexpr ptrdiff_t kBlock = kKr * kPanel;

// Chains of sums, by step modulo Chains: few rows have too few sums to cover the latency.
template <uint32_t Rows, uint32_t Chains>
struct Tile {
  int32x4_t acc[Chains][Rows][kVectors];

  // 4 k: lane Lane of the rows times a block of w.
  template <int Lane>
  void step(const int8x16_t (&x)[Rows], const int8_t* w) {
    QK_UNROLL
    for (uint32_t v = 0; v < kVectors; ++v) {
      const int8x16_t columns = vld1q_s8(w + v * sizeof(int8x16_t));
      for (uint32_t m = 0; m < Rows; ++m) {
        int32x4_t& sum = acc[Lane % Chains][m][v];
        sum = vdotq_laneq_s32(sum, columns, x[m], Lane);
      }
    }
  }
};

template <uint32_t Rows, uint32_t Chains>
void run_panel(const TileArgs* args, const int8_t* panel, int32_t* acc_out) {
  Tile<Rows, Chains> tile;
  QK_UNROLL
  for (uint32_t c = 0; c < Chains; ++c) {
    for (uint32_t m = 0; m < Rows; ++m) {
      for (uint32_t v = 0; v < kVectors; ++v) tile.acc[c][m][v] = vdupq_n_s32(0);
    }
  }
  for (uint32_t t = 0; t < args->n_taps; ++t) {
    const int8_t* rows[Rows];
    for (uint32_t m = 0; m < Rows; ++m) {
      rows[m] = static_cast<const int8_t*>(args->a) + static_cast<ptrdiff_t>(m) * args->a_stride +
                args->taps[t];
    }
    const int8_t* w = panel + static_cast<ptrdiff_t>(t) * args->w_tap_stride;
    uint32_t k = 0;
    for (; args->k - k >= kLane * kKr; k += kLane * kKr, w += kLane * kBlock) {
      int8x16_t x[Rows];
      for (uint32_t m = 0; m < Rows; ++m) x[m] = vld1q_s8(rows[m] + k);
      tile.template step<0>(x, w);
      tile.template step<1>(x, w + kBlock);
      tile.template step<2>(x, w + 2 * kBlock);
      tile.template step<3>(x, w + 3 * kBlock);
    }
    for (; k < args->k; k += kKr, w += kBlock) {
      int8x16_t x[Rows];
      for (uint32_t m = 0; m < Rows; ++m) {
        int32_t four = 0;
        memcpy(&four, rows[m] + k, sizeof(four));
        x[m] = vreinterpretq_s8_s32(vdupq_n_s32(four));
      }
      tile.template step<0>(x, w);
    }
  }
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    int32_t* const out = reinterpret_cast<int32_t*>(reinterpret_cast<char*>(acc_out) +
                                                    static_cast<ptrdiff_t>(m) * args->acc_stride);
    for (uint32_t v = 0; v < kVectors; ++v) {
      int32x4_t sum = tile.acc[0][m][v];
      for (uint32_t c = 1; c < Chains; ++c) sum = vaddq_s32(sum, tile.acc[c][m][v]);
      if (args->accumulate) sum = vaddq_s32(sum, vld1q_s32(out + 4 * v));
      vst1q_s32(out + 4 * v, sum);
    }
  }
}

template <uint32_t Rows>
void run_rows(const TileArgs* args) {
  constexpr uint32_t kChains = Rows == 1 ? 4 : Rows <= 3 ? 2 : 1;
  for (uint32_t p = 0; p < args->n / kPanel; ++p) {
    run_panel<Rows, kChains>(
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
  kernel.name = "gemm_s8s8_6x16x4_neon_dotprod";
  kernel.layout = LayoutId::k_k4n16;
  kernel.lhs = Lhs::kS8;
  kernel.mr = kMr;
  kernel.nr = kPanel;
  kernel.kr = kKr;
  kernel.nr_row = 16 * kPanel;
  kernel.gmacs = 70;
  kernel.run = run;
  return kernel;
}

}  // namespace

extern const GemmKernel gemm_kernels[] = {make_kernel()};

}  // namespace qk::QK_TIER
