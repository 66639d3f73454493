// SPDX-License-Identifier: Apache-2.0
//
// Depthwise convolution: each channel by itself, 16 channels a panel. A channel multiplier is
// brought to this form by repeating the input's channels when the band is filled.
#include <algorithm>
#include <atomic>
#include <new>
#include <vector>

#include "core/status.h"
#include "core/thread_pool.h"
#include "ops/conv2d.h"

namespace qk {
namespace {

constexpr uint32_t kMaxPixels = 32;  // mr of any tier's depthwise kernel

class DepthwiseConv {
 public:
  DepthwiseConv(const ConvCall& call, const ResolvedTier& tier, const DepthwiseKernel& kernel)
      : call_(call), tier_(tier), kernel_(kernel) {
    const PackedHeader& header = call.packed->header;
    const qk_conv_geometry& g = call.geometry;
    c_pad_ = round_up<int64_t>(header.n, kPanel);
    row_stride_ = (call.w + g.pad_left + g.pad_right) * c_pad_;
    for (int64_t i = 0; i < header.kh; ++i) {
      for (int64_t j = 0; j < header.kw; ++j) {
        taps_.push_back(i * g.dilation_h * row_stride_ + j * g.dilation_w * c_pad_);
      }
    }
    if (taps_.size() % 2 != 0) taps_.push_back(taps_.back());  // its weights are 0
    constexpr double kMacsPerMicrosecond = 10e3;               // of a core, on a vector tier
    split_ = split_bands(call, static_cast<size_t>(row_stride_ * g.stride_h), 1,
                         call.macs() / kMacsPerMicrosecond);
  }

  qk_status run() {
    const auto body = [this](size_t index) {
      try {
        run_band(static_cast<int64_t>(index) / split_.bands,
                 static_cast<int64_t>(index) % split_.bands * split_.rows);
      } catch (const std::bad_alloc&) {
        out_of_memory_.store(true, std::memory_order_relaxed);
      }
    };
    parallel_for(static_cast<size_t>(call_.batch * split_.bands), body);
    if (out_of_memory_.load()) return fail(QK_OUT_OF_MEMORY, "out of memory");
    return QK_OK;
  }

 private:
  void run_band(int64_t b, int64_t first) const {
    const PackedHeader& header = call_.packed->header;
    const int64_t rows = std::min(split_.rows, call_.oh - first);
    const Band band = band_of(call_.geometry, header.kh, call_.w, c_pad_, header.n / header.groups,
                              first, rows, call_.fill());
    uint8_t* const data = scratch(Scratch::kBand, static_cast<size_t>(band.rows * row_stride_));
    for (int64_t y = 0; y < band.rows; ++y) {
      fill_band_row(band, call_.image(b), y, data + y * row_stride_);
    }
    for (int64_t y = 0; y < rows; ++y) {
      run_row(data + y * call_.geometry.stride_h * row_stride_, b, first + y);
    }
  }

  void run_row(const uint8_t* x, int64_t b, int64_t y) const {
    alignas(kAlignment) int32_t acc[kMaxPixels * kPanel];
    const Output& output = *call_.output;
    const size_t out_element = dtype_size(output.spec().out_dtype);
    float row_scale[kMaxPixels];
    std::fill_n(row_scale, kMaxPixels,
                call_.image_scale == nullptr ? output.spec().x_scale : call_.image_scale[b]);
    DepthwiseArgs args{};
    args.x_stride = call_.geometry.stride_w * c_pad_;
    args.taps = taps_.data();
    args.n_taps = static_cast<uint32_t>(taps_.size());
    args.acc = acc;
    args.x_signed = output.x_signed();
    for (int64_t panel = 0; panel < call_.packed->sizes.panels; ++panel) {
      const int64_t column = panel * kPanel;
      args.w = reinterpret_cast<const int16_t*>(
          call_.packed->panels() + static_cast<size_t>(panel) * call_.packed->sizes.panel_bytes);
      EpilogueArgs finish = output.arguments(column, false);
      finish.acc = acc;
      finish.acc_stride = kPanel * sizeof(int32_t);
      finish.out_stride = call_.out_strides[2];
      finish.row_scale = row_scale;
      finish.n = static_cast<uint32_t>(std::min<int64_t>(kPanel, call_.packed->header.n - column));
      uint8_t* const out = call_.out_row(b, y) + static_cast<size_t>(column) * out_element;
      for (int64_t pixel = 0; pixel < call_.ow; pixel += kernel_.mr) {
        args.m = static_cast<uint32_t>(std::min<int64_t>(kernel_.mr, call_.ow - pixel));
        args.x = x + pixel * args.x_stride + column;
        kernel_.run(&args);
        finish.m = args.m;
        finish.out = out + pixel * call_.out_strides[2];
        finish_tile(tier_.table, output, &finish);
      }
    }
  }

  const ConvCall& call_;
  const ResolvedTier& tier_;
  const DepthwiseKernel& kernel_;
  int64_t c_pad_;
  int64_t row_stride_;
  std::vector<ptrdiff_t> taps_;
  BandSplit split_{};
  std::atomic<bool> out_of_memory_{false};
};

}  // namespace

qk_status run_depthwise(const ConvCall& call) {
  const ResolvedTier& tier = active_tier();
  const DepthwiseKernel* kernel = select_depthwise(tier, call.packed->layout());
  if (kernel == nullptr) {
    return fail(QK_OTHER_LAYOUT, "tier '%s' has no kernel for these packed weights", qk_isa());
  }
  return DepthwiseConv(call, tier, *kernel).run();
}

}  // namespace qk
