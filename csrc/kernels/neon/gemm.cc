// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n] on ARMv8.0, which multiplies bytes to
// 16 bits (smull) and adds neighbours to 32 (sadalp): exact, as no sum is ever held in 16 bits.
//
//                w, a panel: 16 columns x 4 k, 8 bytes 2 columns
//                +------------------+- - -+--------------------+
//    a row r     | c0k0..3 c1k0..3  |     | c14k0..3 c15k0..3  |    each 32-bit lane of acc holds
//    k0..k3 x2   +------------------+- - -+--------------------+    half a column's sum (k0 + k1 or
//    broadcast   |    acc[r][0]     |     |     acc[r][7]      |    k2 + k3); addp joins them at the
//                +------------------+- - -+--------------------+    end.
//
// Registers (32): 16 acc (2 rows x 8), 2 rows of 16 k and 2 broadcasts of 4, 2 w, 6 products. A step
// of 4 k: 8 loads of w, 2 broadcasts, 16 smull, 16 sadalp for 128 products. On Cortex-A72 smull has
// one pipe and sadalp the other: 8 MAC a cycle, less the broadcasts. Cortex-A53 issues one of them a
// cycle, in order: a product is added kLag products after it was asked for. A tile is four such
// pairs of rows, so that a call and an epilogue serve more than one.
//
// Why not 3 rows: their 24 acc leave no registers for what is on its way, which costs Cortex-A53 a
// tenth and Cortex-A72 nothing (llvm-mca).
// Why not smlal over pairs of k, which would halve the sadalp: (-128)(-128) twice is 2^15, one more
// than int16 holds. In panels without a -128 it is exact, and worth 6 % of Cortex-A72 and 2 to 18 %
// of Cortex-A53 (llvm-mca; gcc, clang), of which the search for a -128 takes half.
// Why not widened rows and smlal by lane: 4 products an instruction, half as many.
#include <arm_neon.h>
#include <string.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 8;
constexpr uint32_t kTogether = 2;  // rows
constexpr uint32_t kKr = 4;
constexpr uint32_t kLag = 6;
constexpr uint32_t kPairs = kPanel / 2;  // of columns: 8 bytes of w, a vector of half sums
constexpr ptrdiff_t kBlock = kKr * kPanel;

template <uint32_t Rows>
struct Tile {
  static constexpr uint32_t kProducts = Rows * kPairs;
  int32x4_t acc[kProducts];  // [pair][row]

  // 4 k of each row, twice side by side, times a block of w.
  void step(const int8x8_t (&x)[Rows], const int8_t* w) {
    int8x8_t columns[2] = {vld1_s8(w), vdup_n_s8(0)};  // this pair's and the next one's
    int16x8_t products[kLag];
    QK_UNROLL
    for (uint32_t i = 0; i < kProducts + kLag; ++i) {
      const uint32_t pair = i / Rows;
      if (i >= kLag) acc[i - kLag] = vpadalq_s16(acc[i - kLag], products[i % kLag]);
      if (i >= kProducts) continue;
      if (i % Rows == 0 && pair + 1 < kPairs) {
        columns[(pair + 1) % 2] = vld1_s8(w + (pair + 1) * sizeof(int8x8_t));
      }
      products[i % kLag] = vmull_s8(columns[pair % 2], x[i % Rows]);
    }
  }

  template <int Lane>
  void step_of_lane(const int8x16_t (&x)[Rows], const int8_t* w) {
    int8x8_t four[Rows];
    for (uint32_t m = 0; m < Rows; ++m) {
      four[m] = vreinterpret_s8_s32(vdup_laneq_s32(vreinterpretq_s32_s8(x[m]), Lane));
    }
    step(four, w + Lane * kBlock);
  }
};

template <uint32_t Rows>
void run_panel(const TileArgs* args, const int8_t* panel, uint32_t first_row, uint32_t p) {
  const char* const a =
      static_cast<const char*>(args->a) + static_cast<ptrdiff_t>(first_row) * args->a_stride;
  char* const acc = reinterpret_cast<char*>(args->acc + p * kPanel) +
                    static_cast<ptrdiff_t>(first_row) * args->acc_stride;
  Tile<Rows> tile;
  QK_UNROLL
  for (uint32_t i = 0; i < tile.kProducts; ++i) tile.acc[i] = vdupq_n_s32(0);
  for (uint32_t t = 0; t < args->n_taps; ++t) {
    const int8_t* rows[Rows];
    for (uint32_t m = 0; m < Rows; ++m) {
      rows[m] = reinterpret_cast<const int8_t*>(a + static_cast<ptrdiff_t>(m) * args->a_stride +
                                                args->taps[t]);
    }
    const int8_t* w = panel + static_cast<ptrdiff_t>(t) * args->w_tap_stride;
    uint32_t k = 0;
    for (; args->k - k >= 4 * kKr; k += 4 * kKr, w += 4 * kBlock) {
      int8x16_t x[Rows];
      for (uint32_t m = 0; m < Rows; ++m) x[m] = vld1q_s8(rows[m] + k);
      tile.template step_of_lane<0>(x, w);
      tile.template step_of_lane<1>(x, w);
      tile.template step_of_lane<2>(x, w);
      tile.template step_of_lane<3>(x, w);
    }
    for (; k < args->k; k += kKr, w += kBlock) {
      int8x8_t x[Rows];
      for (uint32_t m = 0; m < Rows; ++m) {
        int32_t four = 0;
        memcpy(&four, rows[m] + k, sizeof(four));
        x[m] = vreinterpret_s8_s32(vdup_n_s32(four));
      }
      tile.step(x, w);
    }
  }
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    int32_t* const out =
        reinterpret_cast<int32_t*>(acc + static_cast<ptrdiff_t>(m) * args->acc_stride);
    for (uint32_t v = 0; v < kPairs / 2; ++v) {
      int32x4_t sum = vpaddq_s32(tile.acc[2 * v * Rows + m], tile.acc[(2 * v + 1) * Rows + m]);
      if (args->accumulate) sum = vaddq_s32(sum, vld1q_s32(out + 4 * v));
      vst1q_s32(out + 4 * v, sum);
    }
  }
}

void run(const TileArgs* args) {
  for (uint32_t p = 0; p < args->n / kPanel; ++p) {
    const int8_t* panel =
        static_cast<const int8_t*>(args->w) + static_cast<ptrdiff_t>(p) * args->w_stride;
    uint32_t m = 0;
    for (; args->m - m >= kTogether; m += kTogether) run_panel<kTogether>(args, panel, m, p);
    if (m < args->m) run_panel<1>(args, panel, m, p);
  }
}

constexpr GemmKernel make_kernel() {
  GemmKernel kernel{};
  kernel.name = "gemm_s8s8_8x16x4_neon";
  kernel.layout = LayoutId::k_k4n16;
  kernel.lhs = Lhs::kS8;
  kernel.mr = kMr;
  kernel.nr = kPanel;
  kernel.kr = kKr;
  kernel.nr_row = 16 * kPanel;
  kernel.gmacs = 10;
  kernel.run = run;
  return kernel;
}

}  // namespace

extern const GemmKernel gemm_kernels[] = {make_kernel()};

}  // namespace qk::QK_TIER
