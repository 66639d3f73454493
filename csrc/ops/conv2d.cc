// SPDX-License-Identifier: Apache-2.0
//
// Convolution: entry points, dynamic quantization of float images, and the choice of a path.
#include "ops/conv2d.h"

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <memory>
#include <vector>

#include "core/cpu.h"
#include "core/status.h"
#include "core/thread_pool.h"
#include "ops/linear.h"
#include "ops/rows.h"

struct qk_conv2d {
  const qk_packed* packed;
  qk_conv_geometry geometry;
  qk::Output output;
};

namespace qk {

BandSplit split_bands(const ConvCall& call, size_t row_bytes, int64_t panel_steps,
                      double microseconds) {
  const int threads = threads_for(microseconds);
  const auto fitting = static_cast<int64_t>(cache_sizes().l2 / 2 / std::max<size_t>(row_bytes, 1));
  BandSplit split{};
  split.rows = std::clamp<int64_t>(fitting, 1, call.oh);
  if (threads > 1) {
    const int64_t wanted = ceil_div<int64_t>(2 * threads, call.batch);  // bands an image
    split.rows = std::min(split.rows, std::max<int64_t>(1, ceil_div(call.oh, wanted)));
    // Bands of a few rows read their neighbours' rows again: cut panels instead.
    const int64_t kh = call.packed->header.kh;
    split.rows = std::max(split.rows, std::min(call.oh, kh));
  }
  split.bands = ceil_div(call.oh, split.rows);
  const int64_t tasks = call.batch * split.bands;
  split.panel_ranges = 1;
  if (threads > 1 && tasks < threads) {
    split.panel_ranges = std::min(panel_steps, ceil_div<int64_t>(2 * threads, tasks));
  }
  return split;
}

namespace {

int64_t out_extent(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t stride,
                   int64_t dilation) {
  const int64_t reach = dilation * (kernel - 1) + 1;
  const int64_t padded = in + before + after;
  return padded < reach ? 0 : (padded - reach) / stride + 1;
}

// A 1x1 convolution without stride or padding whose pixels lie at one distance is a GEMM.
bool is_gemm(const ConvCall& call) {
  const qk_conv_geometry& g = call.geometry;
  const PackedHeader& header = call.packed->header;
  const bool plain = header.kind == QK_CONV && header.kh == 1 && header.kw == 1 &&
                     header.groups == 1 && g.stride_h == 1 && g.stride_w == 1 &&
                     call.oh == call.h && call.ow == call.w;
  const auto collapses = [&](const ptrdiff_t strides[3]) {
    return (call.h == 1 || strides[1] == call.w * strides[2]) &&
           (call.batch == 1 || strides[0] == call.h * call.w * strides[2]);
  };
  return plain && call.image_scale == nullptr && collapses(call.x_strides) &&
         collapses(call.out_strides);
}

qk_status run_integer(const ConvCall& call) {
  if (call.packed->is_depthwise()) return run_depthwise(call);
  if (is_gemm(call)) {
    return run_linear(*call.packed, *call.output,
                      {call.batch * call.h * call.w, call.x, call.x_strides[2], call.out,
                       call.out_strides[2], nullptr});
  }
  return run_dense(call);
}

// Float images: one symmetric scale each, int8 codes in a buffer of this call, then as integers.
qk_status run_float(ConvCall call, Real type, size_t element) {
  const Tier& tier = active_tier().table;
  const int64_t rows = call.batch * call.h;
  std::vector<float> amax(static_cast<size_t>(rows));
  std::vector<float> scale(static_cast<size_t>(call.batch), 1.0f);
  std::vector<float> inverse(static_cast<size_t>(call.batch), 0.0f);
  const Buffer codes(static_cast<size_t>(std::max<int64_t>(1, rows * call.w * call.c)));
  std::atomic<bool> finite{true};
  const bool contiguous = call.x_strides[2] == static_cast<ptrdiff_t>(element) * call.c;
  // A row of the image is one run where its pixels touch, and a run a pixel otherwise.
  const int64_t runs = contiguous ? 1 : call.w;
  const auto length = static_cast<size_t>(contiguous ? call.w * call.c : call.c);
  const auto row_at = [&](size_t row) {
    const auto r = static_cast<int64_t>(row);
    return call.x + r / call.h * call.x_strides[0] + r % call.h * call.x_strides[1];
  };
  const auto measure = [&](size_t row) {
    float largest = 0;
    for (int64_t i = 0; i < runs; ++i) {
      float of_run = 0;
      const AmaxArgs args{row_at(row) + i * call.x_strides[2], 0, type, 1, length, &of_run};
      tier.amax(&args);
      if (!std::isfinite(of_run)) finite.store(false, std::memory_order_relaxed);
      largest = std::max(largest, of_run);
    }
    amax[row] = largest;
  };
  const double microseconds = static_cast<double>(rows * call.w * call.c) / kElementsPerMicrosecond;
  parallel_for(static_cast<size_t>(rows), microseconds, measure);
  if (!finite.load()) return fail(QK_NOT_FINITE, "x must be finite, got an infinity or NaN");
  for (int64_t b = 0; b < call.batch; ++b) {
    float largest = 0;
    for (int64_t y = 0; y < call.h; ++y) {
      largest = std::max(largest, amax[static_cast<size_t>(b * call.h + y)]);
    }
    scale[static_cast<size_t>(b)] = symmetric_scale(largest, &inverse[static_cast<size_t>(b)]);
    if (!call.output->finite_with(scale[static_cast<size_t>(b)])) {
      return fail(QK_INVALID_ARGUMENT,
                  "the scale of an image of x times weight_scale must be finite in float32");
    }
  }
  const auto quantize = [&](size_t row) {
    uint8_t* q = codes.data() + static_cast<int64_t>(row) * call.w * call.c;
    for (int64_t i = 0; i < runs; ++i, q += length) {
      const ScaleRoundArgs args{
          row_at(row) + i * call.x_strides[2],        0, type, q, 0, 1, length, length, Lhs::kS8,
          &inverse[row / static_cast<size_t>(call.h)]};
      tier.scale_round(&args);
    }
  };
  parallel_for(static_cast<size_t>(rows), microseconds, quantize);
  call.x = codes.data();
  call.x_strides[2] = call.c;
  call.x_strides[1] = call.c * call.w;
  call.x_strides[0] = call.c * call.w * call.h;
  call.image_scale = scale.data();
  return run_integer(call);
}

// Sizes that the paths compute in int64 stay far from its end, and no band is larger than memory
// can be.
qk_status check_sizes(const ConvCall& call) {
  const PackedHeader& header = call.packed->header;
  const qk_conv_geometry& g = call.geometry;
  constexpr double kMost = 4.6e18 / 16;  // 2^58
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  const double columns = real(call.w) + real(g.pad_left) + real(g.pad_right);
  const double pixel = 2 * (std::max(real(call.c), real(header.n)) + kPanel);
  const double rows = real(call.oh) * real(g.stride_h) + real(header.kh) * real(g.dilation_h);
  const double beyond = 64 * real(g.stride_w);
  const double images = real(call.batch) * real(call.h) * real(call.w) * real(call.c);
  if ((columns + beyond) * pixel * rows < kMost && images < kMost) return QK_OK;
  return fail(QK_OUT_OF_MEMORY, "out of memory: the padded rows of an image are too large");
}

qk_status check_geometry(const qk_conv_geometry& g) {
  constexpr int64_t kMost = int64_t{1} << 30;  // products with extents stay in 63 bits
  const auto good = [](int64_t value, int64_t least) { return value >= least && value <= kMost; };
  if (!good(g.stride_h, 1) || !good(g.stride_w, 1)) {
    return fail(QK_INVALID_ARGUMENT, "stride must be at least 1, got (%" PRId64 ", %" PRId64 ")",
                g.stride_h, g.stride_w);
  }
  if (!good(g.dilation_h, 1) || !good(g.dilation_w, 1)) {
    return fail(QK_INVALID_ARGUMENT, "dilation must be at least 1, got (%" PRId64 ", %" PRId64 ")",
                g.dilation_h, g.dilation_w);
  }
  if (!good(g.pad_top, 0) || !good(g.pad_bottom, 0) || !good(g.pad_left, 0) ||
      !good(g.pad_right, 0)) {
    return fail(QK_INVALID_ARGUMENT,
                "padding must not be negative, got ((%" PRId64 ", %" PRId64 "), (%" PRId64
                ", %" PRId64 "))",
                g.pad_top, g.pad_bottom, g.pad_left, g.pad_right);
  }
  return QK_OK;
}

}  // namespace
}  // namespace qk

qk_status qk_conv2d_prepare(const qk_packed* packed, const qk_conv_geometry* geometry,
                            const qk_output* output, qk_conv2d** op) {
  return qk::guarded([&] {
    if (packed->header.kind == QK_MATRIX) {
      return qk::fail(QK_INVALID_ARGUMENT, "conv2d needs weights packed for a convolution");
    }
    QK_RETURN_IF_ERROR(qk::check_geometry(*geometry));
    auto prepared = std::make_unique<qk_conv2d>();
    prepared->packed = packed;
    prepared->geometry = *geometry;
    QK_RETURN_IF_ERROR(prepared->output.prepare(*packed, *output));
    *op = prepared.release();
    return QK_OK;
  });
}

qk_status qk_conv2d_run(const qk_conv2d* op, int64_t batch, int64_t h, int64_t w, const void* x,
                        const ptrdiff_t x_strides[3], void* out, const ptrdiff_t out_strides[3]) {
  return qk::guarded([&] {
    const qk::PackedHeader& header = op->packed->header;
    const qk_conv_geometry& g = op->geometry;
    constexpr int64_t kMostExtent = int64_t{1} << 48;
    if (batch < 0 || h < 0 || w < 0 || batch > kMostExtent || h > kMostExtent || w > kMostExtent) {
      return qk::fail(QK_INVALID_ARGUMENT, "the extents of x must be 0 to 2^48");
    }
    qk::ConvCall call{};
    call.packed = op->packed;
    call.output = &op->output;
    call.geometry = g;
    call.batch = batch;
    call.h = h;
    call.w = w;
    call.c = header.c * header.groups;
    call.oh = qk::out_extent(h, g.pad_top, g.pad_bottom, header.kh, g.stride_h, g.dilation_h);
    call.ow = qk::out_extent(w, g.pad_left, g.pad_right, header.kw, g.stride_w, g.dilation_w);
    if (call.oh < 1 || call.ow < 1) {
      return qk::fail(QK_INVALID_ARGUMENT,
                      "the output has no rows or columns: input %" PRId64 " x %" PRId64
                      ", kernel %u x %u",
                      h, w, header.kh, header.kw);
    }
    if (batch == 0 || header.n == 0) return QK_OK;
    QK_RETURN_IF_ERROR(qk::check_sizes(call));
    call.x = static_cast<const uint8_t*>(x);
    call.out = static_cast<uint8_t*>(out);
    std::copy_n(x_strides, 3, call.x_strides);
    std::copy_n(out_strides, 3, call.out_strides);
    if (op->output.dynamic()) {
      const qk_dtype dtype = op->output.spec().x_dtype;
      return qk::run_float(call, qk::real_of(dtype), qk::dtype_size(dtype));
    }
    return qk::run_integer(call);
  });
}

void qk_conv2d_free(qk_conv2d* op) { delete op; }
