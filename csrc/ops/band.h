// SPDX-License-Identifier: Apache-2.0
//
// A band: the padded input rows that a few output rows of an image read. Each task fills its own
// from the image, so convolution never builds a whole padded image nor a full im2col.
#ifndef QKERNELS_OPS_BAND_H
#define QKERNELS_OPS_BAND_H

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/memory.h"
#include "qkernels/qkernels.h"

namespace qk {

struct Image {
  const uint8_t* data;  // int8 or uint8
  int64_t h, w, c;
  ptrdiff_t stride_h, stride_w;  // bytes; c contiguous
};

// Bytes of x laid out [row][column][channel], the padding filled with `fill`. `repeat` copies of
// each channel (depthwise with a channel multiplier), channels padded to `c_pad`.
struct Band {
  int64_t rows;     // padded input rows
  int64_t columns;  // padded input columns
  int64_t c_pad;    // bytes a pixel
  int64_t first;    // input row of the image that row 0 stands for (negative: padding)
  int64_t left;     // padding columns before the image
  int64_t repeat;
  uint8_t fill;

  int64_t row_bytes() const { return columns * c_pad; }
};

// Output rows [first, first + count) of a convolution as a band of its input.
inline Band band_of(const qk_conv_geometry& g, int64_t kh, int64_t w, int64_t c_pad, int64_t repeat,
                    int64_t first, int64_t count, uint8_t fill) {
  Band band{};
  band.rows = (count - 1) * g.stride_h + (kh - 1) * g.dilation_h + 1;
  band.columns = w + g.pad_left + g.pad_right;
  band.c_pad = c_pad;
  band.first = first * g.stride_h - g.pad_top;
  band.left = g.pad_left;
  band.repeat = repeat;
  band.fill = fill;
  return band;
}

// Row `row` of the band to dst.
inline void fill_band_row(const Band& band, const Image& image, int64_t row, uint8_t* dst) {
  const int64_t y = band.first + row;
  if (y < 0 || y >= image.h) {
    std::memset(dst, band.fill, static_cast<size_t>(band.row_bytes()));
    return;
  }
  const int64_t channels = image.c * band.repeat;
  std::memset(dst, band.fill, static_cast<size_t>(band.left * band.c_pad));
  uint8_t* pixel = dst + band.left * band.c_pad;
  const uint8_t* src = image.data + y * image.stride_h;
  if (band.repeat == 1 && band.c_pad == image.c && image.stride_w == image.c) {
    std::memcpy(pixel, src, static_cast<size_t>(image.w * image.c));
    pixel += image.w * image.c;
  } else {
    for (int64_t x = 0; x < image.w; ++x, pixel += band.c_pad, src += image.stride_w) {
      if (band.repeat == 1) {
        std::memcpy(pixel, src, static_cast<size_t>(image.c));
      } else {
        for (int64_t c = 0; c < image.c; ++c) {
          std::memset(pixel + c * band.repeat, src[c], static_cast<size_t>(band.repeat));
        }
      }
      std::memset(pixel + channels, 0, static_cast<size_t>(band.c_pad - channels));
    }
  }
  std::memset(pixel, band.fill, static_cast<size_t>(dst + band.row_bytes() - pixel));
}

}  // namespace qk

#endif  // QKERNELS_OPS_BAND_H
