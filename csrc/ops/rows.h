// SPDX-License-Identifier: Apache-2.0
//
// Dynamic symmetric quantization: scale = amax / 127, q = rint(x * (127 / amax)).
#ifndef QKERNELS_OPS_ROWS_H
#define QKERNELS_OPS_ROWS_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/contract.h"

namespace qk {

// The scale of a range, and its inverse; a range too small for a finite inverse counts as zero:
// scale 1, inverse 0.
inline float symmetric_scale(float amax, float* inverse) {
  const float inv = 127.0f / amax;
  const bool usable = std::isfinite(inv);
  *inverse = usable ? inv : 0.0f;
  return usable ? amax / 127.0f : 1.0f;
}

// Reals that a core quantizes in a microsecond, about: whether threads pay.
constexpr double kElementsPerMicrosecond = 4000;

struct RealRows {
  const uint8_t* data;
  ptrdiff_t stride;  // bytes
  Real type;
  int64_t rows;
  size_t k;
};

// Where the codes of rows go, in the form that a kernel reads, and their scales.
struct CodeRows {
  uint8_t* data;
  ptrdiff_t stride;  // bytes
  size_t k_pad;      // elements k..k_pad are set to 0
  Lhs form;
  float* scale;
};

// Each row by its own range. False when x holds an infinity or NaN; the codes are then unspecified.
inline bool quantize_rows(const Tier& tier, const RealRows& x, const CodeRows& q) {
  constexpr int64_t kMost = 64;
  constexpr size_t kBytes = 16384;  // of x: in L1 when the second step reads it again
  const size_t row_bytes = std::max<size_t>(1, x.k * (x.type == Real::kFloat32 ? 4 : 2));
  const auto fitting = static_cast<int64_t>(std::max<size_t>(1, kBytes / row_bytes));
  const int64_t piece = std::min(kMost, fitting);
  float amax[kMost];
  float inverse[kMost];
  for (int64_t row = 0; row < x.rows; row += piece) {
    const auto rows = static_cast<uint32_t>(std::min(piece, x.rows - row));
    const uint8_t* const src = x.data + row * x.stride;
    const AmaxArgs measure{src, x.stride, x.type, rows, x.k, amax};
    tier.amax(&measure);
    for (uint32_t m = 0; m < rows; ++m) {
      if (!std::isfinite(amax[m])) return false;
      q.scale[row + m] = symmetric_scale(amax[m], &inverse[m]);
    }
    const ScaleRoundArgs round{src,      x.stride, x.type, q.data + row * q.stride,
                               q.stride, rows,     x.k,    q.k_pad,
                               q.form,   inverse};
    tier.scale_round(&round);
  }
  return true;
}

}  // namespace qk

#endif  // QKERNELS_OPS_ROWS_H
