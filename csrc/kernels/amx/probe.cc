// SPDX-License-Identifier: Apache-2.0
//
// tdpbssd on resident tiles: the GEMM kernel's 2 x 2 tiles of sums without its loads. A product
// occupies the unit for 16 cycles and takes 52: four independent ones cover it.
#include <immintrin.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void probe_dots(ProbeArgs* args) {
  constexpr uint32_t kRows = 16;
  constexpr uint32_t kBytes = 64;
  constexpr uint32_t kProducts = 4;
  alignas(64) int8_t ones[kRows * kBytes];
  for (int8_t& value : ones) value = 1;
  enter();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, ones, kBytes);
  _tile_loadd(5, ones, kBytes);
  _tile_loadd(6, ones, kBytes);
  _tile_loadd(7, ones, kBytes);
  for (size_t round = 0; round < args->n; ++round) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  alignas(64) uint32_t acc[kProducts][kRows * kBytes / sizeof(uint32_t)];
  _tile_stored(0, acc[0], kBytes);
  _tile_stored(1, acc[1], kBytes);
  _tile_stored(2, acc[2], kBytes);
  _tile_stored(3, acc[3], kBytes);
  leave();
  args->sum = 0;
  for (const auto& tile : acc) {
    for (const uint32_t sum : tile) args->sum += sum;
  }
  args->work = uint64_t{args->n} * kProducts * kRows * kBytes * (kBytes / sizeof(uint32_t));
}

}  // namespace qk::QK_TIER
