// SPDX-License-Identifier: Apache-2.0
//
//   k4n16: byte (n, k) of a panel lies at k / 4 * 64 + n * 4 + k % 4
//
// Column by column: the definition. Four k of a column are one word where the source has them so.
#include <string.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr size_t kGroup = 4 * kPanel;  // bytes of four k of a panel

// Where column n begins, from the first panel on.
ptrdiff_t column_offset(size_t n, ptrdiff_t panel_stride) {
  return static_cast<ptrdiff_t>(n / kPanel) * panel_stride + static_cast<ptrdiff_t>(n % kPanel * 4);
}

void pack_column(const uint8_t* src, ptrdiff_t stride, size_t k, uint8_t flip, uint8_t* dst,
                 int32_t* sum) {
  uint32_t total = 0;
  for (; k > 0; dst += kGroup) {
    const size_t count = k < 4 ? k : 4;
    uint8_t quad[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < count; ++i, src += stride) {
      quad[i] = *src ^ flip;
      total += static_cast<uint32_t>(int32_t{static_cast<int8_t>(quad[i])});
    }
    memcpy(dst, quad, 4);
    k -= count;
  }
  *sum = static_cast<int32_t>(total);
}

}  // namespace

void pack_rhs(const PackRhsArgs* args) {
  const PackRhsArgs& a = *args;
  const size_t padded = (a.n + kPanel - 1) / kPanel * kPanel;
  for (size_t n = 0; n < padded; ++n) {
    uint8_t* dst = a.dst + column_offset(n, a.dst_stride);
    if (n < a.n) {
      pack_column(a.src + static_cast<ptrdiff_t>(n) * a.n_stride, a.k_stride, a.k,
                  a.flip ? 0x80 : 0, dst, &a.sums[n]);
      continue;
    }
    for (size_t k = 0; k < a.k; k += 4, dst += kGroup) memset(dst, 0, 4);
    a.sums[n] = 0;
  }
}

void unpack_rhs(const UnpackRhsArgs* args) {
  const UnpackRhsArgs& a = *args;
  const uint8_t flip = a.flip ? 0x80 : 0;
  for (size_t n = 0; n < a.n; ++n) {
    const uint8_t* src = a.src + column_offset(n, a.src_stride);
    uint8_t* dst = a.dst + static_cast<ptrdiff_t>(n) * a.n_stride;
    for (size_t k = 0; k < a.k; ++k, dst += a.k_stride) {
      *dst = src[k / 4 * kGroup + k % 4] ^ flip;
    }
  }
}

}  // namespace qk::QK_TIER
