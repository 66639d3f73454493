// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n] with smmla and usmmla, which multiply
// 2 rows x 8 k with 8 k x 2 columns (int8 or uint8 x int8 -> int32, wrapping):
//
//    block k0..3:  c0 k0..3 | c1 k0..3 | ...     zip1, zip2     w, a panel: 16 columns x 8 k
//    block k4..7:  c0 k4..7 | c1 k4..7 | ...    ----------->   +--------+--------+- - -+---------+
//                                                              | c0 c1  | c2 c3  |     | c14 c15 |
//    rows r, r+1:  r k0..7 | r+1 k0..7                         +--------+--------+- - -+---------+
//    (trn1 or trn2 of 16 k of both)                            |p [0]   |p [1]   |     |p [7]    |
//                                                              +--------+--------+- - -+---------+
//    a lane of acc[p][c]: r c, r c+1, r+1 c, r+1 c+1; uzp1 and uzp2 make rows of them at the end.
//
// Registers (32): 24 acc (3 pairs of rows x 8), 3 a, the rest for w on its way. A step of 8 k: 8
// loads of w and 8 zips, 24 smmla for 6 rows, 768 products. smmla has two of Neoverse V1's four
// pipes, so the zips are free there.
//
// Why k4n16 and not a layout of 8 k: packed bytes serve every tier, and a row alone goes to sdot.
// Fewer than 4 rows are served as well by sdot, whose operands need no zip.
#include <arm_neon.h>
#include <string.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 6;
constexpr uint32_t kKr = 8;
constexpr uint32_t kPairs = kPanel / 2;   // of columns, a panel
constexpr ptrdiff_t kBlock = 4 * kPanel;  // bytes of w for 4 k
constexpr uint32_t kRowsMin = 4;

template <bool Signed>
int32x4_t multiply(int32x4_t acc, uint8x16_t x, int8x16_t w) {
  return Signed ? vmmlaq_s32(acc, vreinterpretq_s8_u8(x), w) : vusmmlaq_s32(acc, x, w);
}

// An odd last row is paired with itself.
template <bool Signed, uint32_t Rows>
void run_panel(const TileArgs* args, const int8_t* panel, int32_t* acc_out) {
  constexpr uint32_t kRowPairs = (Rows + 1) / 2;
  const auto row_of = [](uint32_t m) { return m < Rows ? m : Rows - 1; };
  int32x4_t acc[kRowPairs][kPairs];
  QK_UNROLL
  for (uint32_t m = 0; m < kRowPairs; ++m) {
    for (uint32_t c = 0; c < kPairs; ++c) acc[m][c] = vdupq_n_s32(0);
  }
  for (uint32_t t = 0; t < args->n_taps; ++t) {
    const uint8_t* rows[2 * kRowPairs];
    for (uint32_t m = 0; m < 2 * kRowPairs; ++m) {
      rows[m] = static_cast<const uint8_t*>(args->a) +
                static_cast<ptrdiff_t>(row_of(m)) * args->a_stride + args->taps[t];
    }
    const int8_t* w = panel + static_cast<ptrdiff_t>(t) * args->w_tap_stride;
    for (uint32_t k = 0; k < args->k; k += kKr, w += 2 * kBlock) {
      uint8x16_t x[kRowPairs];
      for (uint32_t m = 0; m < kRowPairs; ++m) {
        x[m] = vcombine_u8(vld1_u8(rows[2 * m] + k), vld1_u8(rows[2 * m + 1] + k));
      }
      QK_UNROLL
      for (uint32_t v = 0; v < kPairs / 2; ++v) {
        const int32x4_t low = vreinterpretq_s32_s8(vld1q_s8(w + v * sizeof(int8x16_t)));
        const int32x4_t high = vreinterpretq_s32_s8(vld1q_s8(w + kBlock + v * sizeof(int8x16_t)));
        const int8x16_t first = vreinterpretq_s8_s32(vzip1q_s32(low, high));
        const int8x16_t second = vreinterpretq_s8_s32(vzip2q_s32(low, high));
        for (uint32_t m = 0; m < kRowPairs; ++m) {
          acc[m][2 * v] = multiply<Signed>(acc[m][2 * v], x[m], first);
          acc[m][2 * v + 1] = multiply<Signed>(acc[m][2 * v + 1], x[m], second);
        }
      }
    }
  }
  const auto store = [&](uint32_t m, uint32_t v, int64x2_t pairs) {
    int32_t* const out = reinterpret_cast<int32_t*>(reinterpret_cast<char*>(acc_out) +
                                                    static_cast<ptrdiff_t>(m) * args->acc_stride) +
                         4 * v;
    int32x4_t sum = vreinterpretq_s32_s64(pairs);
    if (args->accumulate) sum = vaddq_s32(sum, vld1q_s32(out));
    vst1q_s32(out, sum);
  };
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    for (uint32_t v = 0; v < kPairs / 2; ++v) {
      const int64x2_t left = vreinterpretq_s64_s32(acc[m / 2][2 * v]);
      const int64x2_t right = vreinterpretq_s64_s32(acc[m / 2][2 * v + 1]);
      store(m, v, m % 2 == 0 ? vuzp1q_s64(left, right) : vuzp2q_s64(left, right));
    }
  }
}

template <bool Signed, uint32_t Rows>
void run_rows(const TileArgs* args) {
  for (uint32_t p = 0; p < args->n / kPanel; ++p) {
    run_panel<Signed, Rows>(
        args, static_cast<const int8_t*>(args->w) + static_cast<ptrdiff_t>(p) * args->w_stride,
        args->acc + p * kPanel);
  }
}

template <bool Signed>
void run(const TileArgs* args) {
  static void (*const by_rows[kMr])(const TileArgs*) = {run_rows<Signed, 1>, run_rows<Signed, 2>,
                                                        run_rows<Signed, 3>, run_rows<Signed, 4>,
                                                        run_rows<Signed, 5>, run_rows<Signed, 6>};
  by_rows[args->m - 1](args);
}

}  // namespace

extern const GemmKernel gemm_kernels[] = {
    {"gemm_s8s8_6x16x8_neon_i8mm", LayoutId::k_k4n16, Lhs::kS8, kMr, kPanel, kKr, 1, kRowsMin, 1,
     false, run<true>},
    {"gemm_u8s8_6x16x8_neon_i8mm", LayoutId::k_k4n16, Lhs::kU8, kMr, kPanel, kKr, 1, kRowsMin, 1,
     false, run<false>},
};

}  // namespace qk::QK_TIER
