// SPDX-License-Identifier: Apache-2.0
//
// acc[m, n] (+)= sum over taps t, k of a[m, t, k] * w[t, k, n] with AMX tiles of 16 rows x 64 bytes.
//
//                   w, two panels: 32 columns x 64 k (each 1 KiB, contiguous)
//                   +-----------+-----------+
//                   |   tmm6    |   tmm7    |
//       +-----------+-----------+-----------+
//       | a 0..15   |   tmm0    |   tmm1    |    a step of 64 k: 4 tile loads, 4 products of
//       |   tmm4    |           |           |    16 x 16 x 64, 65,536 multiplications; a product
//       +-----------+-----------+-----------+    occupies the unit for 16 cycles, a load from L1
//       | a 16..31  |   tmm2    |   tmm3    |    8, so that loads hide behind products.
//       |   tmm5    |           |           |
//       +-----------+-----------+-----------+    All eight tiles are in use.
//
// The packed layout k4n16 is tile order: 16 blocks of 64 bytes make one tile of w. A last block of k
// below 64 finds zeros in a (ops/ pads the rows), so whatever follows in w does no harm; the
// packed bytes end with room for it. Rows beyond m are read (row_unit) and their sums never used.
//
// Tiles are configured in enter() and released in leave(), around a thread's task: no other
// library finds our configuration, and we never rely on one left by another.
#include <immintrin.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr uint32_t kTileRows = 16;
constexpr uint32_t kTileBytes = 64;
constexpr uint32_t kMr = 2 * kTileRows;
constexpr uint32_t kNr = 2 * kPanel;
constexpr uint32_t kKr = kTileBytes;
constexpr uint16_t kMinRows = 5;  // fewer fill less than a third of a tile: the parent's kernel

struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64, "Intel SDM, LDTILECFG");

// tmm0..3 += tmm4,5 x tmm6,7 (tile numbers are literals: they are part of the instruction).
template <bool Signed, bool Lower, bool Right>
void dot() {
  if constexpr (Signed) {
    _tile_dpbssd(0, 4, 6);
    if constexpr (Right) _tile_dpbssd(1, 4, 7);
    if constexpr (Lower) _tile_dpbssd(2, 5, 6);
    if constexpr (Lower && Right) _tile_dpbssd(3, 5, 7);
  } else {
    _tile_dpbusd(0, 4, 6);
    if constexpr (Right) _tile_dpbusd(1, 4, 7);
    if constexpr (Lower) _tile_dpbusd(2, 5, 6);
    if constexpr (Lower && Right) _tile_dpbusd(3, 5, 7);
  }
}

template <bool Signed, bool Lower, bool Right>
void run_tile(const TileArgs* args) {
  const ptrdiff_t acc_stride = args->acc_stride;
  char* const acc = reinterpret_cast<char*>(args->acc);
  char* const acc_lower = acc + static_cast<ptrdiff_t>(kTileRows) * acc_stride;
  if (args->accumulate) {
    _tile_loadd(0, acc, acc_stride);
    if constexpr (Right) _tile_loadd(1, acc + kTileBytes, acc_stride);
    if constexpr (Lower) _tile_loadd(2, acc_lower, acc_stride);
    if constexpr (Lower && Right) _tile_loadd(3, acc_lower + kTileBytes, acc_stride);
  } else {
    _tile_zero(0);
    if constexpr (Right) _tile_zero(1);
    if constexpr (Lower) _tile_zero(2);
    if constexpr (Lower && Right) _tile_zero(3);
  }
  for (uint32_t t = 0; t < args->n_taps; ++t) {
    const char* a = static_cast<const char*>(args->a) + args->taps[t];
    const char* w =
        static_cast<const char*>(args->w) + static_cast<ptrdiff_t>(t) * args->w_tap_stride;
    for (uint32_t k = 0; k < args->k; k += kKr, a += kKr, w += kKr * kPanel) {
      _tile_loadd(4, a, args->a_stride);
      _tile_loadd(6, w, kTileBytes);
      if constexpr (Right) _tile_loadd(7, w + args->w_stride, kTileBytes);
      if constexpr (Lower) {
        _tile_loadd(5, a + static_cast<ptrdiff_t>(kTileRows) * args->a_stride, args->a_stride);
      }
      dot<Signed, Lower, Right>();
      if (args->between != nullptr) args->between(args->between_context);
    }
  }
  _tile_stored(0, acc, acc_stride);
  if constexpr (Right) _tile_stored(1, acc + kTileBytes, acc_stride);
  if constexpr (Lower) _tile_stored(2, acc_lower, acc_stride);
  if constexpr (Lower && Right) _tile_stored(3, acc_lower + kTileBytes, acc_stride);
}

template <bool Signed>
void run(const TileArgs* args) {
  const bool lower = args->m > kTileRows;
  const bool right = args->n > kPanel;
  if (lower) {
    right ? run_tile<Signed, true, true>(args) : run_tile<Signed, true, false>(args);
  } else {
    right ? run_tile<Signed, false, true>(args) : run_tile<Signed, false, false>(args);
  }
}

}  // namespace

void enter() {
  TileConfig config = {};
  config.palette = 1;
  for (int tile = 0; tile < 8; ++tile) {
    config.bytes[tile] = kTileBytes;
    config.rows[tile] = kTileRows;
  }
#if defined(__GNUC__)
  // gcc 12 believes that LDTILECFG reads 8 bytes and drops the stores to the rest: pin them.
  __asm__ volatile("" : : "r"(&config) : "memory");
#endif
  _tile_loadconfig(&config);
}

void leave() { _tile_release(); }

namespace {

constexpr GemmKernel make_kernel(const char* name, Lhs lhs, void (*run)(const TileArgs*)) {
  GemmKernel kernel{};
  kernel.name = name;
  kernel.layout = LayoutId::k_k4n16;
  kernel.lhs = lhs;
  kernel.mr = kMr;
  kernel.nr = kNr;
  kernel.kr = kKr;
  kernel.row_unit = kTileRows;
  kernel.m_min = kMinRows;
  kernel.row_align = kTileBytes;
  kernel.gmacs = 2000;
  kernel.overlaps = true;
  kernel.run = run;
  return kernel;
}

}  // namespace

extern const GemmKernel gemm_kernels[] = {
    make_kernel("gemm_s8s8_32x32x64_amx", Lhs::kS8, run<true>),
    make_kernel("gemm_u8s8_32x32x64_amx", Lhs::kU8, run<false>),
};

}  // namespace qk::QK_TIER
