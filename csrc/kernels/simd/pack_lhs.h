// SPDX-License-Identifier: Apache-2.0
//
// Left rows into the form a kernel reads, once for all tiers:
//
//   same signedness  copied          int8 <-> uint8  x ^ 0x80 (x + 128 or x - 128 by value)
//   to int16         widened         k..k_pad        0
//
// A sum a row, when asked for, is taken from the bytes on their way: as unsigned ones (that is what
// the sum-of-absolute-differences instruction adds), with 128 a byte taken off again for int8.
// Include after a vec_*.h.
#ifndef QKERNELS_KERNELS_SIMD_PACK_LHS_H
#define QKERNELS_KERNELS_SIMD_PACK_LHS_H

#include <string.h>

#include "kernels/contract.h"
#include "kernels/simd/tail.h"

namespace qk::QK_TIER {

enum class Move { kCopy, kFlip, kWiden };

// One vector of bytes.
template <Move kMove, bool kSigned, bool kSum>
inline void pack_vector(const void* src, void* dst, VI* sum) {
  const VB v = load_b(src);
  if constexpr (kMove == Move::kWiden) {
    widen_b<kSigned>(dst, src);
  } else {
    store_b(dst, kMove == Move::kFlip ? flip_sign(v) : v);
  }
  if constexpr (kSum) *sum = add_bytes(*sum, kSigned ? flip_sign(v) : v);
}

template <Move kMove, bool kSigned, bool kSum>
void pack_rows(const PackLhsArgs& a) {
  constexpr uint32_t kSize = kMove == Move::kWiden ? 2 : 1;
  constexpr uint8_t kNeutral = kSigned ? 0x80 : 0;  // adds nothing to the sum
  for (uint32_t row = 0; row < a.rows; ++row) {
    const uint8_t* src = bytes_at(a.src, static_cast<ptrdiff_t>(row) * a.src_stride);
    uint8_t* dst = bytes_at(a.dst, static_cast<ptrdiff_t>(row) * a.dst_stride);
    VI sum = splat_i(0);
    uint32_t i = 0;
    for (; a.k - i >= kByteLanes; i += kByteLanes) {
      pack_vector<kMove, kSigned, kSum>(src + i, dst + size_t{i} * kSize, &sum);
    }
    if (i < a.k) {
      const uint32_t count = a.k - i;
      alignas(64) uint8_t whole[kByteLanes];
      alignas(64) uint8_t moved[kByteLanes * kSize];
      memset(whole, kNeutral, kByteLanes);
      copy_tail<kByteLanes>(whole, src + i, count);
      pack_vector<kMove, kSigned, kSum>(whole, moved, &sum);
      copy_tail<kByteLanes * kSize>(dst + size_t{i} * kSize, moved, count * kSize);
    }
    if (a.k_pad > a.k) memset(dst + size_t{a.k} * kSize, 0, size_t{a.k_pad - a.k} * kSize);
    if constexpr (kSum) {
      const uint32_t bias = kSigned ? 128u * a.k : 0u;
      a.row_sums[row] = static_cast<int32_t>(static_cast<uint32_t>(sum_lanes(sum)) - bias);
    }
  }
}

template <Move kMove, bool kSigned>
void pack_summed(const PackLhsArgs& a) {
  if (a.row_sums != nullptr) {
    pack_rows<kMove, kSigned, true>(a);
  } else {
    pack_rows<kMove, kSigned, false>(a);
  }
}

template <bool kSigned>
void pack_signed(const PackLhsArgs& a) {
  if (a.to == Lhs::kS16) {
    pack_summed<Move::kWiden, kSigned>(a);
  } else if (a.to == (kSigned ? Lhs::kS8 : Lhs::kU8)) {
    pack_summed<Move::kCopy, kSigned>(a);
  } else {
    pack_summed<Move::kFlip, kSigned>(a);
  }
}

inline void run_pack_lhs(const PackLhsArgs& a) {
  if (a.src_signed) {
    pack_signed<true>(a);
  } else {
    pack_signed<false>(a);
  }
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_PACK_LHS_H
