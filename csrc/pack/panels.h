// SPDX-License-Identifier: Apache-2.0
//
// Weights to the panels of a layout and back, by the kernels of the active tier, on the threads.
#ifndef QKERNELS_PACK_PANELS_H
#define QKERNELS_PACK_PANELS_H

#include "pack/layout.h"

namespace qk {

// Element (o, row, col, i) of weights lies at data + o * strides[0] + row * strides[1] + ...
template <typename Byte>
struct Weights {
  Byte* data;
  ptrdiff_t strides[4];

  Byte* at(int64_t o, int64_t row, int64_t col, int64_t i) const {
    return data + o * strides[0] + row * strides[1] + col * strides[2] + i * strides[3];
  }
};

// Fills all that follows the header in packed->owned and returns its checksum. zero_point
// (n_zero_point values, 0, 1 or n) is taken off depthwise weights. Throws std::bad_alloc.
uint64_t pack_body(const Weights<const uint8_t>& src, qk_packed* packed, const int32_t* zero_point,
                   size_t n_zero_point);

// The weights given, exactly. Throws std::bad_alloc.
void unpack_body(const qk_packed& packed, const Weights<uint8_t>& dst);

}  // namespace qk

#endif  // QKERNELS_PACK_PANELS_H
