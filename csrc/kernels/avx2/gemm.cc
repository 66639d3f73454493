// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n], exact on AVX2.
//
// AVX2 multiplies bytes only with vpmaddubsw, which saturates at 16 bits (255*127 + 255*127 does not
// fit), so both sides are widened to int16 and multiplied with vpmaddwd, which cannot overflow:
//
//                 w, half a panel: 8 columns x 4 k, widened      ymm0: c0..c3, ymm1: c4..c7
//                 +-----------------------+------------------------+
//    a row r      | c0k01 c0k23 ... c3k23 | c4k01 c4k23 ... c7k23  |   each 32-bit lane of acc holds
//    k0k1k2k3 x4  +-----------------------+------------------------+   half a column's sum (k01 or
//    broadcast    |      acc[r][0]        |       acc[r][1]        |   k23); one vphaddd per pair at
//                 +-----------------------+------------------------+   the end joins them.
//
// Registers (16): 12 acc (6 rows x 2), 2 w, 1 broadcast. A step of 4 k over 8 columns and 6 rows:
// 2 vpmovsxbw, 6 broadcasts from memory, 12 vpmaddwd, 12 vpaddd for 192 products; the 26 vector
// operations on four pipes bound it at 29.5 MAC a cycle (Zen 3), on three at 22 (Haswell..Skylake).
// Up to 2 rows take the whole panel at once (8 acc, 4 w), so that w streams through memory in order;
// 3 rows that way need 17 registers and lose speed to spills.
//
// Why widened rows and not bytes: widening a after its broadcast costs one shuffle a row and step
// (32 operations instead of 26); ops/ widens each row once for all panels instead.
#include <immintrin.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kMr = 6;
constexpr uint32_t kKr = 4;           // values of k in a 32-bit lane of the layout
constexpr uint32_t kLaneColumns = 4;  // columns in a vector of widened weights
constexpr uint32_t kVectors = kPanel / kLaneColumns;
constexpr ptrdiff_t kAhead = 2048;          // bytes of w, see docs/performance.md
constexpr ptrdiff_t kBlock = kKr * kPanel;  // bytes of w a step

const char* row_of(const TileArgs* args, uint32_t m, uint32_t t) {
  return static_cast<const char*>(args->a) + static_cast<ptrdiff_t>(m) * args->a_stride +
         args->taps[t];
}

// [c0a c0b c1a c1b | c2a c2b c3a c3b], [c4.. | c6..] -> [c0 .. c7].
__m256i join_halves(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
}

// Rows x Vectors accumulators: Vectors = 4 is a panel, 2 its left or right half (first_vector 0, 2).
template <uint32_t Rows, uint32_t Vectors>
void run_part(const TileArgs* args, const int8_t* panel, uint32_t first_vector, int32_t* acc_out) {
  __m256i acc[Rows][Vectors];
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    for (uint32_t v = 0; v < Vectors; ++v) acc[m][v] = _mm256_setzero_si256();
  }
  for (uint32_t t = 0; t < args->n_taps; ++t) {
    const char* rows[Rows];
    for (uint32_t m = 0; m < Rows; ++m) rows[m] = row_of(args, m, t);
    const int8_t* w =
        panel + static_cast<ptrdiff_t>(t) * args->w_tap_stride + first_vector * kLaneColumns * kKr;
    for (uint32_t k = 0; k < args->k; k += kKr, w += kBlock) {
      // A few rows consume w faster than the hardware fetches ahead.
      if constexpr (Rows <= 4) _mm_prefetch(reinterpret_cast<const char*>(w) + kAhead, _MM_HINT_T0);
      __m256i wide[Vectors];
      for (uint32_t v = 0; v < Vectors; ++v) {
        wide[v] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w) + v));
      }
      for (uint32_t m = 0; m < Rows; ++m) {
        const __m256i x = _mm256_broadcastq_epi64(
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(rows[m] + k * sizeof(int16_t))));
        for (uint32_t v = 0; v < Vectors; ++v) {
          acc[m][v] = _mm256_add_epi32(acc[m][v], _mm256_madd_epi16(wide[v], x));
        }
      }
    }
  }
  char* const out = reinterpret_cast<char*>(acc_out + first_vector * kLaneColumns);
  const auto at = [&](uint32_t m, uint32_t v) {
    return reinterpret_cast<__m256i*>(out + static_cast<ptrdiff_t>(m) * args->acc_stride) + v / 2;
  };
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    for (uint32_t v = 0; v < Vectors; v += 2) acc[m][v] = join_halves(acc[m][v], acc[m][v + 1]);
  }
  if (args->accumulate) {
    QK_UNROLL
    for (uint32_t m = 0; m < Rows; ++m) {
      for (uint32_t v = 0; v < Vectors; v += 2) {
        acc[m][v] = _mm256_add_epi32(acc[m][v], _mm256_loadu_si256(at(m, v)));
      }
    }
  }
  QK_UNROLL
  for (uint32_t m = 0; m < Rows; ++m) {
    for (uint32_t v = 0; v < Vectors; v += 2) _mm256_storeu_si256(at(m, v), acc[m][v]);
  }
}

template <uint32_t Rows>
void run_rows(const TileArgs* args) {
  for (uint32_t p = 0; p < args->n / kPanel; ++p) {
    const int8_t* panel =
        static_cast<const int8_t*>(args->w) + static_cast<ptrdiff_t>(p) * args->w_stride;
    int32_t* acc = args->acc + p * kPanel;
    if constexpr (Rows <= 2) {
      run_part<Rows, kVectors>(args, panel, 0, acc);
    } else {
      run_part<Rows, kVectors / 2>(args, panel, 0, acc);
      run_part<Rows, kVectors / 2>(args, panel, kVectors / 2, acc);
    }
  }
}

void run(const TileArgs* args) {
  static void (*const by_rows[kMr])(const TileArgs*) = {run_rows<1>, run_rows<2>, run_rows<3>,
                                                        run_rows<4>, run_rows<5>, run_rows<6>};
  by_rows[args->m - 1](args);
}

constexpr GemmKernel make_kernel() {
  GemmKernel kernel{};
  kernel.name = "gemm_s16s8_6x16x4_avx2";
  kernel.layout = LayoutId::k_k4n16;
  kernel.lhs = Lhs::kS16;
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
