// SPDX-License-Identifier: Apache-2.0
//
// Dynamic symmetric quantization of one row: scale = amax / 127, q = rint(x * (127 / amax)).
#ifndef QKERNELS_OPS_ROWS_H
#define QKERNELS_OPS_ROWS_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

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

// n elements of x to q with a given inverse scale; 0 gives zeros.
inline void quantize_by(const Tier& tier, const void* x, Real type, size_t n, float inverse,
                        int8_t* q) {
  if (inverse == 0) {
    std::memset(q, 0, n);
    return;
  }
  const ScaleRoundArgs args{x, type, q, n, inverse};
  tier.scale_round(&args);
}

// False when x holds an infinity or NaN; q is then unspecified.
inline bool quantize_row(const Tier& tier, const void* x, Real type, size_t n, int8_t* q,
                         float* scale) {
  RangeArgs range{};
  range.src = x;
  range.type = type;
  range.n = n;
  tier.range(&range);
  if (!range.finite) return false;
  float inverse = 0;
  *scale = symmetric_scale(range.amax, &inverse);
  quantize_by(tier, x, type, n, inverse, q);
  return true;
}

}  // namespace qk

#endif  // QKERNELS_OPS_ROWS_H
