// SPDX-License-Identifier: Apache-2.0
//
// Packed weights: a 64-byte header that says what follows, the panels, and what ops/ needs to
// correct for zero points. Position independent, so the bytes can be written, mapped and shared.
//
//   k4n16 (matrix, conv)               t2c16s16 (depthwise)
//   header                             header
//   panels  int8 [group][panel]        panels  int16 [panel][taps / 2][16][2]
//           [k / 4][16][4]             sums    int32 [panel][16]
//   sums    int32 [group][panel][16]   zero    int32 [panel][16]: zero points removed from panels
//   slack   1 KiB of zeros: a kernel that steps by 64 k may read past its panel
//
// uint8 weights are stored as int8 with the sign bit flipped (w - 128) in k4n16, and the op moves
// their zero point by 128. `sums` are over the stored values, k or taps beyond the weights are 0.
#ifndef QKERNELS_PACK_LAYOUT_H
#define QKERNELS_PACK_LAYOUT_H

#include <cstddef>
#include <cstdint>

#include "core/memory.h"
#include "kernels/contract.h"
#include "qkernels/qkernels.h"

namespace qk {

struct PackedHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t layout;  // LayoutId
  uint8_t kind;     // qk_packed_kind
  uint8_t dtype;    // qk_dtype of the weights given
  uint16_t reserved;
  uint32_t groups;
  int64_t n;  // all columns or output channels
  int64_t k;  // depth: kh * kw * c
  uint32_t kh, kw;
  int64_t c;  // input channels a group
  uint64_t body_checksum;
  uint64_t header_checksum;  // of the 56 bytes before
};
static_assert(sizeof(PackedHeader) == 64, "the header is one cache line");

constexpr uint32_t kPackedMagic = 0x4b50'4b51;  // "QKPK", little-endian
constexpr uint16_t kPackedVersion = 1;
constexpr int64_t kLayoutKr = 4;
constexpr size_t kPackedSlack = 1024;

// Where things are, computed from the header alone.
struct PackedSizes {
  int64_t n_group;  // columns a group
  int64_t panels;   // a group's (k4n16), all (t2c16s16)
  int64_t k_pad;    // k rounded up to the layout's step
  size_t panel_bytes;
  size_t group_bytes;
  size_t sums_offset;  // from the start of the header
  size_t zero_offset;  // t2c16s16
  size_t total;
  int64_t columns_pad;  // groups * panels * kPanel: length of per-column arrays
};

}  // namespace qk

struct qk_packed {
  // A copy, checked once: shared bytes may change under us, what bounds every access may not.
  qk::PackedHeader header;
  qk::PackedSizes sizes;
  qk::Buffer owned;     // empty when the caller owns the bytes
  const uint8_t* data;  // header, panels, sums

  const uint8_t* bytes() const { return data; }
  const uint8_t* panels() const { return bytes() + sizeof(qk::PackedHeader); }
  const int32_t* sums() const {
    return reinterpret_cast<const int32_t*>(bytes() + sizes.sums_offset);
  }
  const int32_t* zero_points() const {
    return reinterpret_cast<const int32_t*>(bytes() + sizes.zero_offset);
  }
  qk::LayoutId layout() const { return static_cast<qk::LayoutId>(header.layout); }
  bool is_depthwise() const { return header.kind == QK_DEPTHWISE; }
  // Index of output column n in the padded per-column arrays.
  int64_t column(int64_t n) const {
    return n / sizes.n_group * sizes.panels * qk::kPanel + n % sizes.n_group;
  }
};

#endif  // QKERNELS_PACK_LAYOUT_H
