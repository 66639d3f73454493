// SPDX-License-Identifier: Apache-2.0
//
//   k4n16: byte (n, k) of a panel lies at k / 4 * 64 + n * 4 + k % 4
//
// Four k of a column are a 32-bit word, so a panel is a matrix of words, [k / 4][16].
//
//   k contiguous (N, K)    words are transposed, 4 columns x 4 words at a time:
//
//        column 0  w0 w1 w2 w3               w0 of columns 0..3
//        ...                       ------>   ...
//        column 3  w0 w1 w2 w3               w3 of columns 0..3
//
//      A block is 64 k, a cache line a column.
//   n contiguous (K, N)    four rows of 16 bytes are interleaved by the store itself (st4).
//   neither                gathered into a block, then as k contiguous.
//
// Sums and sign flips take the bytes on their way. Stores are not streamed: the hint is unused.
#include <arm_neon.h>
#include <string.h>

#include "kernels/simd/tail.h"
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr size_t kGroup = 4 * kPanel;  // bytes of four k of a panel
constexpr size_t kDepth = 64;          // k of a block
constexpr size_t kBlock = kDepth * kPanel;
constexpr uint32_t kQuads = 4;  // of columns: a vector of words

// Bytes of four columns, four k each: added to their sums.
inline int32x4_t add_quads(int32x4_t sums, uint8x16_t bytes) {
  const int16x8_t pairs = vpaddlq_s8(vreinterpretq_s8_u8(bytes));
  return vpadalq_s16(sums, pairs);
}

// Four rows of four words to four rows of the transposed matrix.
inline void transpose(const uint8_t* src, ptrdiff_t stride, uint8x16_t (&out)[4]) {
  uint32x4_t rows[4];
  for (int r = 0; r < 4; ++r) rows[r] = vreinterpretq_u32_u8(vld1q_u8(src + r * stride));
  const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(rows[0], rows[1]));
  const uint64x2_t odd01 = vreinterpretq_u64_u32(vtrn2q_u32(rows[0], rows[1]));
  const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(rows[2], rows[3]));
  const uint64x2_t odd23 = vreinterpretq_u64_u32(vtrn2q_u32(rows[2], rows[3]));
  out[0] = vreinterpretq_u8_u64(vtrn1q_u64(even01, even23));
  out[1] = vreinterpretq_u8_u64(vtrn1q_u64(odd01, odd23));
  out[2] = vreinterpretq_u8_u64(vtrn2q_u64(even01, even23));
  out[3] = vreinterpretq_u8_u64(vtrn2q_u64(odd01, odd23));
}

// Sixteen columns of kDepth bytes to a block of a panel.
inline void pack_block(const uint8_t* src, ptrdiff_t stride, uint8x16_t flip, uint8_t* dst,
                       int32x4_t (&sums)[kQuads]) {
  for (uint32_t quad = 0; quad < kQuads; ++quad) {
    for (uint32_t part = 0; part < kDepth / 16; ++part) {
      uint8x16_t words[4];
      transpose(src + static_cast<ptrdiff_t>(4 * quad) * stride + 16 * part, stride, words);
      for (uint32_t i = 0; i < 4; ++i) {
        const uint8x16_t bytes = veorq_u8(words[i], flip);
        vst1q_u8(dst + (4 * part + i) * kGroup + 16 * quad, bytes);
        sums[quad] = add_quads(sums[quad], bytes);
      }
    }
  }
}

// A block of up to kDepth k of up to kPanel columns, the rest filled with what packs to 0.
inline void gather(const PackRhsArgs& a, size_t n, size_t columns, size_t k, size_t depth,
                   uint8_t* block) {
  memset(block, a.flip ? 0x80 : 0, kBlock);
  for (size_t c = 0; c < columns; ++c) {
    const uint8_t* from =
        a.src + static_cast<ptrdiff_t>(n + c) * a.n_stride + static_cast<ptrdiff_t>(k) * a.k_stride;
    uint8_t* to = block + c * kDepth;
    if (a.k_stride == 1) {
      memcpy(to, from, depth);
    } else {
      for (size_t i = 0; i < depth; ++i) to[i] = from[static_cast<ptrdiff_t>(i) * a.k_stride];
    }
  }
}

void pack_columns(const PackRhsArgs& a) {
  const uint8x16_t flip = vdupq_n_u8(a.flip ? 0x80 : 0);
  for (size_t n = 0; n < a.n; n += kPanel) {
    const size_t columns = a.n - n < kPanel ? a.n - n : kPanel;
    uint8_t* panel = bytes_at(a.dst, static_cast<ptrdiff_t>(n / kPanel) * a.dst_stride);
    int32x4_t sums[kQuads];
    for (int32x4_t& sum : sums) sum = vdupq_n_s32(0);
    for (size_t k = 0; k < a.k; k += kDepth) {
      const size_t depth = a.k - k < kDepth ? a.k - k : kDepth;
      uint8_t* dst = panel + k * kPanel;
      if (a.k_stride == 1 && columns == kPanel && depth == kDepth) {
        pack_block(a.src + static_cast<ptrdiff_t>(n) * a.n_stride + k, a.n_stride, flip, dst, sums);
        continue;
      }
      uint8_t block[kBlock];
      uint8_t packed[kBlock];
      gather(a, n, columns, k, depth, block);
      pack_block(block, kDepth, flip, packed, sums);
      memcpy(dst, packed, (depth + 3) / 4 * kGroup);
    }
    for (uint32_t quad = 0; quad < kQuads; ++quad) vst1q_s32(a.sums + n + 4 * quad, sums[quad]);
  }
}

// Four rows of 16 columns to a group of a panel, and to the sums in memory.
inline void pack_group(const uint8_t* const (&rows)[4], uint8x16_t flip, uint8_t* dst,
                       int32_t* sums) {
  uint8x16x4_t bytes;
  for (int i = 0; i < 4; ++i) bytes.val[i] = veorq_u8(vld1q_u8(rows[i]), flip);
  vst4q_u8(dst, bytes);
  for (uint32_t quad = 0; quad < kQuads; ++quad) {
    int32_t* const to = sums + 4 * quad;
    vst1q_s32(to, add_quads(vld1q_s32(to), vld1q_u8(dst + 16 * quad)));
  }
}

void pack_rows(const PackRhsArgs& a) {
  const uint8x16_t flip = vdupq_n_u8(a.flip ? 0x80 : 0);
  const size_t padded = (a.n + kPanel - 1) / kPanel * kPanel;
  memset(a.sums, 0, padded * sizeof(int32_t));
  uint8_t neutral[kPanel];  // stands for rows and columns beyond the last
  memset(neutral, a.flip ? 0x80 : 0, sizeof(neutral));
  for (size_t k = 0; k < a.k; k += 4) {
    for (size_t n = 0; n < a.n; n += kPanel) {
      const size_t columns = a.n - n < kPanel ? a.n - n : kPanel;
      const uint8_t* rows[4];
      uint8_t tails[4][kPanel];
      for (size_t i = 0; i < 4; ++i) {
        const uint8_t* from =
            k + i < a.k ? a.src + static_cast<ptrdiff_t>(k + i) * a.k_stride + n : neutral;
        rows[i] = from;
        if (columns < kPanel && from != neutral) {
          memcpy(tails[i], neutral, kPanel);
          copy_tail<kPanel>(tails[i], from, columns);
          rows[i] = tails[i];
        }
      }
      pack_group(rows, flip,
                 a.dst + static_cast<ptrdiff_t>(n / kPanel) * a.dst_stride + k / 4 * kGroup,
                 a.sums + n);
    }
  }
}

// A block of a panel to sixteen columns of kDepth bytes.
inline void unpack_block(const uint8_t* src, uint8x16_t flip, uint8_t* dst, ptrdiff_t stride) {
  for (uint32_t quad = 0; quad < kQuads; ++quad) {
    for (uint32_t part = 0; part < kDepth / 16; ++part) {
      uint8x16_t columns[4];
      transpose(src + 4 * part * kGroup + 16 * quad, kGroup, columns);
      for (uint32_t i = 0; i < 4; ++i) {
        vst1q_u8(dst + static_cast<ptrdiff_t>(4 * quad + i) * stride + 16 * part,
                 veorq_u8(columns[i], flip));
      }
    }
  }
}

void unpack_columns(const UnpackRhsArgs& a) {
  const uint8x16_t flip = vdupq_n_u8(a.flip ? 0x80 : 0);
  for (size_t n = 0; n < a.n; n += kPanel) {
    const size_t columns = a.n - n < kPanel ? a.n - n : kPanel;
    const uint8_t* panel = a.src + static_cast<ptrdiff_t>(n / kPanel) * a.src_stride;
    for (size_t k = 0; k < a.k; k += kDepth) {
      const size_t depth = a.k - k < kDepth ? a.k - k : kDepth;
      const uint8_t* src = panel + k * kPanel;
      uint8_t* dst =
          a.dst + static_cast<ptrdiff_t>(n) * a.n_stride + static_cast<ptrdiff_t>(k) * a.k_stride;
      if (a.k_stride == 1 && columns == kPanel && depth == kDepth) {
        unpack_block(src, flip, dst, a.n_stride);
        continue;
      }
      uint8_t packed[kBlock];
      uint8_t block[kBlock];
      memset(packed, 0, kBlock);
      memcpy(packed, src, (depth + 3) / 4 * kGroup);
      unpack_block(packed, flip, block, kDepth);
      for (size_t c = 0; c < columns; ++c) {
        uint8_t* to = dst + static_cast<ptrdiff_t>(c) * a.n_stride;
        const uint8_t* from = block + c * kDepth;
        if (a.k_stride == 1) {
          memcpy(to, from, depth);
        } else {
          for (size_t i = 0; i < depth; ++i) to[static_cast<ptrdiff_t>(i) * a.k_stride] = from[i];
        }
      }
    }
  }
}

void unpack_rows(const UnpackRhsArgs& a) {
  const uint8x16_t flip = vdupq_n_u8(a.flip ? 0x80 : 0);
  for (size_t k = 0; k < a.k; k += 4) {
    const size_t count = a.k - k < 4 ? a.k - k : 4;
    for (size_t n = 0; n < a.n; n += kPanel) {
      const size_t columns = a.n - n < kPanel ? a.n - n : kPanel;
      const uint8x16x4_t rows =
          vld4q_u8(a.src + static_cast<ptrdiff_t>(n / kPanel) * a.src_stride + k / 4 * kGroup);
      uint8_t* to = a.dst + static_cast<ptrdiff_t>(k) * a.k_stride + n;
      for (size_t i = 0; i < count; ++i, to += a.k_stride) {
        const uint8x16_t row = veorq_u8(rows.val[i], flip);
        if (columns == kPanel) {
          vst1q_u8(to, row);
          continue;
        }
        uint8_t whole[kPanel];
        vst1q_u8(whole, row);
        copy_tail<kPanel>(to, whole, columns);
      }
    }
  }
}

}  // namespace

void pack_rhs(const PackRhsArgs* args) {
  if (args->n_stride == 1 && args->k_stride != 1) {
    pack_rows(*args);
  } else {
    pack_columns(*args);
  }
}

void unpack_rhs(const UnpackRhsArgs* args) {
  if (args->n_stride == 1 && args->k_stride != 1) {
    unpack_rows(*args);
  } else {
    unpack_columns(*args);
  }
}

}  // namespace qk::QK_TIER
