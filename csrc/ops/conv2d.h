// SPDX-License-Identifier: Apache-2.0
//
// What the convolution paths share: one call's geometry and how it is cut into tasks.
#ifndef QKERNELS_OPS_CONV2D_H
#define QKERNELS_OPS_CONV2D_H

#include "ops/band.h"
#include "ops/driver.h"
#include "ops/output.h"
#include "pack/layout.h"

namespace qk {

struct ConvCall {
  const qk_packed* packed;
  const Output* output;
  qk_conv_geometry geometry;
  int64_t batch, h, w, c;  // input; c channels in all groups
  int64_t oh, ow;
  const uint8_t* x;  // int8 or uint8
  ptrdiff_t x_strides[3];
  uint8_t* out;
  ptrdiff_t out_strides[3];
  const float* image_scale;  // float output: one a batch entry

  Image image(int64_t b) const {
    return {x + b * x_strides[0], h, w, c, x_strides[1], x_strides[2]};
  }
  uint8_t* out_row(int64_t b, int64_t y) const {
    return out + b * out_strides[0] + y * out_strides[1];
  }
  uint8_t fill() const { return static_cast<uint8_t>(output->spec().x_zero_point); }
  double macs() const {
    return static_cast<double>(batch) * static_cast<double>(oh) * static_cast<double>(ow) *
           static_cast<double>(packed->header.n) * static_cast<double>(packed->header.k);
  }
};

// Output rows of all images, cut into bands of `rows` (the last of an image may be shorter) and,
// where bands are too few for the threads, into ranges of panels.
struct BandSplit {
  int64_t rows;
  int64_t bands;  // an image
  int64_t panel_ranges;
};

// `row_bytes`: scratch that one more output row of a band takes; `microseconds`: of the whole call.
BandSplit split_bands(const ConvCall& call, size_t row_bytes, int64_t panel_steps,
                      double microseconds);

// Dense and grouped convolution by GEMM tiles; depthwise by its own kernels. Throw std::bad_alloc.
qk_status run_dense(const ConvCall& call);
qk_status run_depthwise(const ConvCall& call);

}  // namespace qk

#endif  // QKERNELS_OPS_CONV2D_H
