// SPDX-License-Identifier: Apache-2.0
#ifndef QKERNELS_OPS_LINEAR_H
#define QKERNELS_OPS_LINEAR_H

#include "ops/output.h"
#include "pack/layout.h"

namespace qk {

struct LinearArgs {
  int64_t m;
  const void* x;  // rows of k contiguous elements of the output's x_dtype
  ptrdiff_t x_stride;
  void* out;
  ptrdiff_t out_stride;
  const int32_t* zero_points;  // null or one a row
};

// out = x w^T through the output's epilogue. packed is a matrix, or a convolution whose patches are
// the rows of x.
qk_status run_linear(const qk_packed& packed, const Output& output, const LinearArgs& args);

}  // namespace qk

#endif  // QKERNELS_OPS_LINEAR_H
