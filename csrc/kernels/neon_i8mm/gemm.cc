// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n] with smmla and usmmla, which multiply
// 2 rows x 8 k with 8 k x 2 columns (int8 or uint8 x int8 -> int32, wrapping). k4n16 has 4 k of a
// column side by side: `arrange` brings together 8, once a panel for all of its tiles.
//
//    k0..3:  c0 | c1 | c2 | c3 | ...  zip1, zip2    w, a panel: 16 columns x 8 k
//    k4..7:  c0 | c1 | c2 | c3 | ...  ---------->   +--------+--------+- - -+---------+
//                                                   | c0 c1  | c2 c3  |     | c14 c15 |
//    rows r and r + 1, 8 k each, a vector           +--------+--------+- - -+---------+
//                                                   |acc[r/2]|acc[r/2]|     |acc[r/2] |
//                                                   |   [0]  |   [1]  |     |   [7]   |
//                                                   +--------+--------+- - -+---------+
//    a lane of acc: r c, r c+1, r+1 c, r+1 c+1; uzp1 and uzp2 make rows of them at the end.
//
// Registers (32): 24 acc (3 pairs of rows x 8), 3 a, the rest for w. A step of 8 k: 8 loads of w, 6
// loads of half vectors of a, 24 smmla for 6 rows, 768 products. smmla has as many pipes as every
// other vector operation on Neoverse V1 and N2: zips within the loop would be a quarter of it.
//
// Why not a packed layout of 8 k: packed bytes serve every tier, and fewer than kRowsMin rows go to
// sdot, which wants 4.
#include <arm_neon.h>
#include <string.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 6;
constexpr uint32_t kKr = 8;
constexpr uint32_t kPairs = kPanel / 2;     // of columns, a panel
constexpr ptrdiff_t kVector = 16;           // bytes
constexpr ptrdiff_t kBlock = kKr * kPanel;  // bytes of w a step
constexpr uint32_t kRowsMin = 8;            // arranging costs as much as a tile of few rows saves

void arrange(const ArrangeArgs* args) {
  const int8_t* from = static_cast<const int8_t*>(args->w);
  int8_t* to = static_cast<int8_t*>(args->dst);
  for (uint32_t k = 0; k < args->k; k += kKr, from += kBlock) {
    const bool whole = args->k - k >= kKr;
    for (uint32_t v = 0; v < kPairs / 2; ++v, to += 2 * kVector) {
      const int8_t* const low = from + v * kVector;
      const int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(low));
      const int32x4_t second =
          whole ? vreinterpretq_s32_s8(vld1q_s8(low + kBlock / 2)) : vdupq_n_s32(0);
      vst1q_s8(to, vreinterpretq_s8_s32(vzip1q_s32(first, second)));
      vst1q_s8(to + kVector, vreinterpretq_s8_s32(vzip2q_s32(first, second)));
    }
  }
}

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
    for (uint32_t k = 0; k < args->k; k += kKr, w += kBlock) {
      uint8x16_t x[kRowPairs];
      for (uint32_t m = 0; m < kRowPairs; ++m) {
        x[m] = vcombine_u8(vld1_u8(rows[2 * m] + k), vld1_u8(rows[2 * m + 1] + k));
      }
      QK_UNROLL
      for (uint32_t c = 0; c < kPairs; ++c) {
        const int8x16_t columns = vld1q_s8(w + c * kVector);
        for (uint32_t m = 0; m < kRowPairs; ++m) {
          acc[m][c] = multiply<Signed>(acc[m][c], x[m], columns);
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

template <bool Signed>
constexpr GemmKernel make_kernel(const char* name) {
  GemmKernel kernel{};
  kernel.name = name;
  kernel.layout = LayoutId::k_k4n16;
  kernel.lhs = Signed ? Lhs::kS8 : Lhs::kU8;
  kernel.mr = kMr;
  kernel.nr = kPanel;
  kernel.kr = kKr;
  kernel.m_min = kRowsMin;
  kernel.gmacs = 250;
  kernel.run = run<Signed>;
  kernel.arrange = arrange;
  return kernel;
}

}  // namespace

extern const GemmKernel gemm_kernels[] = {make_kernel<true>("gemm_s8s8_6x16x8_neon_i8mm"),
                                          make_kernel<false>("gemm_u8s8_6x16x8_neon_i8mm")};

}  // namespace qk::QK_TIER
