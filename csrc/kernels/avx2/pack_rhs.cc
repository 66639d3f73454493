// SPDX-License-Identifier: Apache-2.0
//
//   k4n16: byte (n, k) of a panel lies at k / 4 * 64 + n * 4 + k % 4
//
// Four k of a column are a 32-bit word, so a panel is a matrix of words, [k / 4][16].
//
//   k contiguous (N, K)    words are transposed, 8 columns x 8 words at a time:
//
//        column 0  w0 w1 ... w7              w0 of columns 0..7
//        ...                       ------>   ...
//        column 7  w0 w1 ... w7              w7 of columns 0..7
//
//      A block is 64 k, a cache line a column, read whole before the next column's: sixteen rows a
//      power of two apart share the eight ways of one L1 set.
//   n contiguous (K, N)    four rows of bytes are interleaved, 32 columns (two panels) at a time:
//      every row's piece of the source is used before the next four rows are touched, as each row
//      may lie on a page of its own.
//   neither                gathered into a block, then as k contiguous.
//
// Sums and sign flips take the bytes on their way. Bound by memory and by the shuffle port: 10 to
// 20 bytes a cycle from L1. Panels too large for the caches are streamed past them, in whole cache
// lines: reading a line only to overwrite it would be a third of the traffic.
#include <immintrin.h>
#include <string.h>

#include "kernels/simd/tail.h"
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

constexpr size_t kGroup = 4 * kPanel;  // bytes of four k of a panel
constexpr size_t kDepth = 64;          // k of a block
constexpr size_t kBlock = kDepth * kPanel;

inline __m256i load(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
template <bool kStream = false>
inline void store(uint8_t* p, __m256i v) {
  if constexpr (kStream) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), v);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
}
inline __m128i load_half(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline void store_half(uint8_t* p, __m128i v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
}

// Stored bytes of eight columns, four k each: added to their sums. Pairs of products with 1 stay
// within int16.
inline __m256i add_quads(__m256i sums, __m256i bytes) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// Eight rows of eight words to eight rows of the transposed matrix. Row r shares a vector with row
// r + 4, so that no step crosses the halves.
inline void transpose(const uint8_t* src, ptrdiff_t stride, __m256i (&out)[8]) {
  for (int half = 0; half < 2; ++half) {
    __m256i rows[4];
    for (int r = 0; r < 4; ++r) {
      const uint8_t* from = src + r * stride + 16 * half;
      rows[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(load_half(from)),
                                        load_half(from + 4 * stride), 1);
    }
    const __m256i low01 = _mm256_unpacklo_epi32(rows[0], rows[1]);
    const __m256i low23 = _mm256_unpacklo_epi32(rows[2], rows[3]);
    const __m256i high01 = _mm256_unpackhi_epi32(rows[0], rows[1]);
    const __m256i high23 = _mm256_unpackhi_epi32(rows[2], rows[3]);
    out[4 * half] = _mm256_unpacklo_epi64(low01, low23);
    out[4 * half + 1] = _mm256_unpackhi_epi64(low01, low23);
    out[4 * half + 2] = _mm256_unpacklo_epi64(high01, high23);
    out[4 * half + 3] = _mm256_unpackhi_epi64(high01, high23);
  }
}

// Sixteen columns of kDepth bytes to a block of a panel.
inline void pack_block(const uint8_t* src, ptrdiff_t stride, __m256i flip, uint8_t* dst,
                       __m256i (&sums)[2]) {
  for (int side = 0; side < 2; ++side) {
    for (int part = 0; part < 2; ++part) {
      __m256i words[8];
      transpose(src + 8 * side * stride + 32 * part, stride, words);
      for (int i = 0; i < 8; ++i) {
        const __m256i bytes = _mm256_xor_si256(words[i], flip);
        store(dst + (8 * part + i) * kGroup + 32 * side, bytes);
        sums[side] = add_quads(sums[side], bytes);
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

inline void stream_block(uint8_t* dst, const uint8_t* block) {
  for (size_t i = 0; i < kBlock; i += 32) store<true>(dst + i, load(block + i));
}

template <bool kStream>
void pack_columns(const PackRhsArgs& a) {
  const __m256i flip = _mm256_set1_epi8(a.flip ? -128 : 0);
  for (size_t n = 0; n < a.n; n += kPanel) {
    const size_t columns = a.n - n < kPanel ? a.n - n : kPanel;
    uint8_t* panel = bytes_at(a.dst, static_cast<ptrdiff_t>(n / kPanel) * a.dst_stride);
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t k = 0; k < a.k; k += kDepth) {
      const size_t depth = a.k - k < kDepth ? a.k - k : kDepth;
      uint8_t* dst = panel + k * kPanel;
      alignas(64) uint8_t block[kBlock];
      alignas(64) uint8_t packed[kBlock];
      uint8_t* const to = kStream || depth < kDepth ? packed : dst;
      if (a.k_stride == 1 && columns == kPanel && depth == kDepth) {
        pack_block(a.src + static_cast<ptrdiff_t>(n) * a.n_stride + k, a.n_stride, flip, to, sums);
      } else {
        gather(a, n, columns, k, depth, block);
        pack_block(block, kDepth, flip, to, sums);
      }
      if (depth < kDepth) {
        memcpy(dst, packed, (depth + 3) / 4 * kGroup);
      } else if (kStream) {
        stream_block(dst, packed);
      }
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(a.sums + n), sums[0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(a.sums + n + 8), sums[1]);
  }
}

// Half a group: stored, and added to the sums in memory.
template <bool kStream>
inline void put_group_half(uint8_t* dst, __m256i bytes, int32_t* sums) {
  store<kStream>(dst, bytes);
  __m256i* const to = reinterpret_cast<__m256i*>(sums);
  _mm256_storeu_si256(to, add_quads(_mm256_loadu_si256(to), bytes));
}

// Four rows of 32 columns to a group of each of two panels.
template <bool kStream>
inline void pack_two_groups(const uint8_t* const (&rows)[4], __m256i flip, uint8_t* first,
                            uint8_t* second, int32_t* sums) {
  const __m256i low01 = _mm256_unpacklo_epi8(load(rows[0]), load(rows[1]));
  const __m256i high01 = _mm256_unpackhi_epi8(load(rows[0]), load(rows[1]));
  const __m256i low23 = _mm256_unpacklo_epi8(load(rows[2]), load(rows[3]));
  const __m256i high23 = _mm256_unpackhi_epi8(load(rows[2]), load(rows[3]));
  // Columns 4 i to 4 i + 3 of the first panel, and of the second one.
  const __m256i quads[4] = {_mm256_xor_si256(_mm256_unpacklo_epi16(low01, low23), flip),
                            _mm256_xor_si256(_mm256_unpackhi_epi16(low01, low23), flip),
                            _mm256_xor_si256(_mm256_unpacklo_epi16(high01, high23), flip),
                            _mm256_xor_si256(_mm256_unpackhi_epi16(high01, high23), flip)};
  for (int i = 0; i < 2; ++i) {
    put_group_half<kStream>(first + 32 * i,
                            _mm256_permute2x128_si256(quads[2 * i], quads[2 * i + 1], 0x20),
                            sums + 8 * i);
    put_group_half<kStream>(second + 32 * i,
                            _mm256_permute2x128_si256(quads[2 * i], quads[2 * i + 1], 0x31),
                            sums + kPanel + 8 * i);
  }
}

// Four rows of 16 columns to a group of one panel.
template <bool kStream>
inline void pack_group(const uint8_t* const (&rows)[4], __m256i flip, uint8_t* dst, int32_t* sums) {
  const __m128i low01 = _mm_unpacklo_epi8(load_half(rows[0]), load_half(rows[1]));
  const __m128i high01 = _mm_unpackhi_epi8(load_half(rows[0]), load_half(rows[1]));
  const __m128i low23 = _mm_unpacklo_epi8(load_half(rows[2]), load_half(rows[3]));
  const __m128i high23 = _mm_unpackhi_epi8(load_half(rows[2]), load_half(rows[3]));
  const __m256i left =
      _mm256_set_m128i(_mm_unpackhi_epi16(low01, low23), _mm_unpacklo_epi16(low01, low23));
  const __m256i right =
      _mm256_set_m128i(_mm_unpackhi_epi16(high01, high23), _mm_unpacklo_epi16(high01, high23));
  put_group_half<kStream>(dst, _mm256_xor_si256(left, flip), sums);
  put_group_half<kStream>(dst + 32, _mm256_xor_si256(right, flip), sums + 8);
}

template <bool kStream>
void pack_rows(const PackRhsArgs& a) {
  const __m256i flip = _mm256_set1_epi8(a.flip ? -128 : 0);
  alignas(64) uint8_t neutral[2 * kPanel];  // stands for rows beyond the last
  memset(neutral, a.flip ? 0x80 : 0, sizeof(neutral));
  memset(a.sums, 0, (a.n + kPanel - 1) / kPanel * kPanel * sizeof(int32_t));
  for (size_t k = 0; k < a.k; k += 4) {
    const uint8_t* rows[4];
    size_t step[4];
    for (size_t i = 0; i < 4; ++i) {
      step[i] = k + i < a.k ? 1 : 0;
      rows[i] = step[i] == 0 ? neutral : a.src + static_cast<ptrdiff_t>(k + i) * a.k_stride;
    }
    uint8_t* dst = a.dst + k * kPanel;
    size_t n = 0;
    for (; a.n - n >= 2 * kPanel; n += 2 * kPanel, dst += 2 * a.dst_stride) {
      pack_two_groups<kStream>(rows, flip, dst, dst + a.dst_stride, a.sums + n);
      for (size_t i = 0; i < 4; ++i) rows[i] += 2 * kPanel * step[i];
    }
    for (; n < a.n; n += kPanel, dst += a.dst_stride) {
      alignas(64) uint8_t whole[4][kPanel];
      for (size_t i = 0; i < 4 && a.n - n < kPanel; ++i) {
        memcpy(whole[i], neutral, kPanel);
        if (step[i] != 0) copy_tail<kPanel>(whole[i], rows[i], a.n - n);
        rows[i] = whole[i];
      }
      pack_group<kStream>(rows, flip, dst, a.sums + n);
      for (size_t i = 0; i < 4; ++i) rows[i] += kPanel * step[i];
    }
  }
}

// A block of a panel to sixteen columns of kDepth bytes.
inline void unpack_block(const uint8_t* src, __m256i flip, uint8_t* dst, ptrdiff_t stride) {
  for (int side = 0; side < 2; ++side) {
    for (int part = 0; part < 2; ++part) {
      __m256i columns[8];
      transpose(src + 8 * part * kGroup + 32 * side, kGroup, columns);
      for (int i = 0; i < 8; ++i) {
        store(dst + (8 * side + i) * stride + 32 * part, _mm256_xor_si256(columns[i], flip));
      }
    }
  }
}

void unpack_columns(const UnpackRhsArgs& a) {
  const __m256i flip = _mm256_set1_epi8(a.flip ? -128 : 0);
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
      alignas(64) uint8_t packed[kBlock];
      alignas(64) uint8_t block[kBlock];
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

// A group of a panel to four rows of 16 columns.
inline void unpack_group(const uint8_t* src, __m128i flip, __m128i (&rows)[4]) {
  const __m128i by_k = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m128i quads[4];  // of four columns: their first k, their second, ...
  for (int i = 0; i < 4; ++i) {
    quads[i] = _mm_xor_si128(_mm_shuffle_epi8(load_half(src + 16 * i), by_k), flip);
  }
  const __m128i low01 = _mm_unpacklo_epi32(quads[0], quads[1]);
  const __m128i low23 = _mm_unpacklo_epi32(quads[2], quads[3]);
  const __m128i high01 = _mm_unpackhi_epi32(quads[0], quads[1]);
  const __m128i high23 = _mm_unpackhi_epi32(quads[2], quads[3]);
  rows[0] = _mm_unpacklo_epi64(low01, low23);
  rows[1] = _mm_unpackhi_epi64(low01, low23);
  rows[2] = _mm_unpacklo_epi64(high01, high23);
  rows[3] = _mm_unpackhi_epi64(high01, high23);
}

void unpack_rows(const UnpackRhsArgs& a) {
  const __m128i flip = _mm_set1_epi8(a.flip ? -128 : 0);
  for (size_t k = 0; k < a.k; k += 4) {
    const size_t count = a.k - k < 4 ? a.k - k : 4;
    for (size_t n = 0; n < a.n; n += kPanel) {
      const size_t columns = a.n - n < kPanel ? a.n - n : kPanel;
      __m128i rows[4];
      unpack_group(a.src + static_cast<ptrdiff_t>(n / kPanel) * a.src_stride + k / 4 * kGroup, flip,
                   rows);
      uint8_t* to = a.dst + static_cast<ptrdiff_t>(k) * a.k_stride + n;
      for (size_t i = 0; i < count; ++i, to += a.k_stride) {
        if (columns == kPanel) {
          store_half(to, rows[i]);
          continue;
        }
        alignas(16) uint8_t whole[kPanel];
        store_half(whole, rows[i]);
        copy_tail<kPanel>(to, whole, columns);
      }
    }
  }
}

template <bool kStream>
void pack(const PackRhsArgs& a) {
  if (a.n_stride == 1 && a.k_stride != 1) {
    pack_rows<kStream>(a);
  } else {
    pack_columns<kStream>(a);
  }
}

}  // namespace

void pack_rhs(const PackRhsArgs* args) {
  if (args->stream) {
    pack<true>(*args);
    _mm_sfence();  // before another thread hears that the panels are there
  } else {
    pack<false>(*args);
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
