// SPDX-License-Identifier: Apache-2.0
//
// The last, partial panel of a run: moved through a buffer on the stack, so that the same code
// serves it and nothing outside the run is read or written. Include after a vec_*.h.
#ifndef QKERNELS_KERNELS_SIMD_TAIL_H
#define QKERNELS_KERNELS_SIMD_TAIL_H

#include <string.h>

#include "kernels/contract.h"

namespace qk::QK_TIER {

inline const uint8_t* bytes_at(const void* p, ptrdiff_t offset) {
  return static_cast<const uint8_t*>(p) + offset;
}
inline uint8_t* bytes_at(void* p, ptrdiff_t offset) { return static_cast<uint8_t*>(p) + offset; }

// Fewer than kMax bytes, by powers of two: a run-time memcpy costs more than the tail it moves.
template <size_t kMax>
inline void copy_tail(void* dst, const void* src, size_t bytes) {
  constexpr size_t kHalf = kMax / 2;
  static_assert((kMax & (kMax - 1)) == 0, "a power of two");
  if constexpr (kHalf > 0) {
    const size_t moved = bytes & kHalf;
    if (moved != 0) memcpy(dst, src, kHalf);
    copy_tail<kHalf>(bytes_at(dst, moved), bytes_at(src, moved), bytes - moved);
  }
}

// 1..15 elements of kSize bytes as a whole panel, the rest repeating the first one: a value of the
// run itself adds no NaN, no new extreme and no division by zero.
template <size_t kSize>
struct PanelTail {
  alignas(64) uint8_t data[kPanel * kSize];

  PanelTail(const void* src, size_t count) {
    for (size_t i = 0; i < kPanel; ++i) memcpy(data + i * kSize, src, kSize);
    copy_tail<kPanel * kSize>(data, src, count * kSize);
  }
};

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_TAIL_H
