// SPDX-License-Identifier: Apache-2.0
//
// Dense and grouped convolution on GEMM tiles. A task fills the band of padded input rows that its
// output rows read, then multiplies in one of two ways:
//
//   direct   a tile's rows are neighbouring output pixels, stride_w * c apart in the band; its taps
//            are offsets into the band. Nothing is copied. Where dilation is 1 a row of the kernel
//            is one tap of kw * c values.
//   gathered patches of a block of pixels are copied side by side (a strip of im2col that stays in
//            L2), for few channels, narrow images and weights with zero points.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <vector>

#include "core/cpu.h"
#include "core/status.h"
#include "core/thread_pool.h"
#include "ops/conv2d.h"

namespace qk {
namespace {

class DenseConv {
 public:
  DenseConv(const ConvCall& call, const GemmPlan& plan) : call_(call), plan_(plan) {
    const PackedHeader& header = call.packed->header;
    const qk_conv_geometry& g = call.geometry;
    const uint32_t kr = plan.kernel().kr;
    columns_ = call.w + g.pad_left + g.pad_right;
    const bool merges = g.dilation_w == 1 && header.groups == 1;
    tap_k_ = merges ? header.kw * header.c : header.c;
    direct_ = tap_k_ % kr == 0 && header.c > 0 && !call.output->asymmetric_weights() &&
              fills_tiles(call.ow, plan.kernel().mr);
    const int64_t element = direct_ ? static_cast<int64_t>(plan.element()) : 1;
    row_stride_ = columns_ * call.c * element;
    if (direct_) {
      for (int64_t i = 0; i < header.kh; ++i) {
        for (int64_t j = 0; j < (merges ? 1 : header.kw); ++j) {
          taps_.push_back(i * g.dilation_h * row_stride_ + j * g.dilation_w * call.c * element);
        }
      }
    }
    const int64_t step = plan.kernel().nr / kPanel;
    split_ = split_bands(call, static_cast<size_t>(row_stride_ * g.stride_h),
                         ceil_div(call.packed->sizes.panels, step),
                         microseconds_of(plan, *call.packed, call.macs()));
  }

  qk_status run() {
    const auto tasks = static_cast<size_t>(call_.batch * split_.bands * split_.panel_ranges);
    const auto body = [this](size_t index) {
      try {
        run_task(static_cast<int64_t>(index));
      } catch (const std::bad_alloc&) {
        out_of_memory_.store(true, std::memory_order_relaxed);
      }
    };
    parallel_for(tasks, body);
    if (out_of_memory_.load()) return fail(QK_OUT_OF_MEMORY, "out of memory");
    return QK_OK;
  }

 private:
  // Tiles do not cross output rows on the direct path: worth it when few of their rows stay empty.
  static bool fills_tiles(int64_t ow, int64_t mr) { return ow * 8 >= round_up(ow, mr) * 7; }

  void run_task(int64_t index) {
    const int64_t range = index % split_.panel_ranges;
    const int64_t band_index = index / split_.panel_ranges % split_.bands;
    const int64_t b = index / split_.panel_ranges / split_.bands;
    const int64_t first = band_index * split_.rows;
    const int64_t rows = std::min(split_.rows, call_.oh - first);
    const int64_t step = plan_.kernel().nr / kPanel;
    const int64_t steps = ceil_div(call_.packed->sizes.panels, step);
    const int64_t first_panel = steps * range / split_.panel_ranges * step;
    const int64_t last_panel =
        std::min(call_.packed->sizes.panels, steps * (range + 1) / split_.panel_ranges * step);
    const Band band = band_of(call_.geometry, call_.packed->header.kh, call_.w, call_.c, 1, first,
                              rows, call_.fill());
    const uint8_t* const data = direct_ ? converted_band(band, b) : byte_band(band, b);
    const TierSession session(*plan_.entry);
    for (int64_t group = 0; group < call_.packed->header.groups; ++group) {
      if (direct_) {
        run_direct(data, b, first, rows, group, first_panel, last_panel);
      } else {
        run_gathered(data, b, first, rows, group, first_panel, last_panel);
      }
    }
  }

  // The band as bytes of x.
  const uint8_t* byte_band(const Band& band, int64_t b) const {
    uint8_t* const data = scratch(Scratch::kBand, static_cast<size_t>(band.rows * row_stride_));
    for (int64_t y = 0; y < band.rows; ++y) {
      fill_band_row(band, call_.image(b), y, data + y * row_stride_);
    }
    return data;
  }

  // The band in the kernel's form. The last tile of a row may read (and not use) pixels beyond it:
  // there is room for them after the last row.
  const uint8_t* converted_band(const Band& band, int64_t b) const {
    const int64_t beyond = plan_.kernel().row_unit * call_.geometry.stride_w * call_.c;
    uint8_t* const data = scratch(
        Scratch::kBand, static_cast<size_t>(band.rows * row_stride_ +
                                            beyond * static_cast<int64_t>(plan_.element())));
    const bool as_it_is = plan_.reads_bytes() && !plan_.flips();
    uint8_t* const bytes =
        as_it_is ? nullptr : scratch(Scratch::kRow, static_cast<size_t>(band.row_bytes()));
    for (int64_t y = 0; y < band.rows; ++y) {
      uint8_t* const row = data + y * row_stride_;
      fill_band_row(band, call_.image(b), y, as_it_is ? row : bytes);
      constexpr int64_t kChunk = int64_t{1} << 30;  // sizes of the kernel are 32-bit
      for (int64_t at = 0; !as_it_is && at < band.row_bytes(); at += kChunk) {
        const int64_t count = std::min(kChunk, band.row_bytes() - at);
        convert(bytes + at, 0, row + at * static_cast<int64_t>(plan_.element()), 0, 1, count, count,
                nullptr);
      }
    }
    return data;
  }

  void convert(const uint8_t* src, ptrdiff_t src_stride, uint8_t* dst, ptrdiff_t dst_stride,
               int64_t rows, int64_t k, int64_t k_pad, int32_t* row_sums) const {
    PackLhsArgs pack{};
    pack.src = src;
    pack.src_stride = src_stride;
    pack.dst = dst;
    pack.dst_stride = dst_stride;
    pack.rows = static_cast<uint32_t>(rows);
    pack.k = static_cast<uint32_t>(k);
    pack.k_pad = static_cast<uint32_t>(k_pad);
    pack.src_signed = plan_.x_signed;
    pack.to = plan_.kernel().lhs;
    pack.row_sums = row_sums;
    plan_.tier->table.pack_lhs(&pack);
  }

  // One scale a pixel, as the epilogue of float output wants it; null for other outputs.
  const float* row_scales(float* memory, int64_t rows, int64_t b) const {
    if (call_.output->kind() != Epilogue::kFloat) return nullptr;
    std::fill_n(memory, rows,
                call_.image_scale == nullptr ? call_.output->spec().x_scale : call_.image_scale[b]);
    return memory;
  }

  void run_direct(const uint8_t* band, int64_t b, int64_t first, int64_t rows, int64_t group,
                  int64_t first_panel, int64_t last_panel) const {
    const PackedHeader& header = call_.packed->header;
    const auto element = static_cast<int64_t>(plan_.element());
    LhsBlock lhs{};
    lhs.stride = call_.geometry.stride_w * call_.c * element;
    lhs.taps = taps_.data();
    lhs.n_taps = static_cast<uint32_t>(taps_.size());
    lhs.k = static_cast<uint32_t>(tap_k_);
    lhs.w_tap_stride = tap_k_ * kPanel;
    lhs.rows = call_.ow;
    lhs.row_scale = row_scales(reinterpret_cast<float*>(scratch(
                                   Scratch::kLhs, static_cast<size_t>(call_.ow) * sizeof(float))),
                               call_.ow, b);
    for (int64_t y = 0; y < rows; ++y) {
      lhs.data = band + y * call_.geometry.stride_h * row_stride_ + group * header.c * element;
      run_tiles(plan_, *call_.output, *call_.packed, group, first_panel, last_panel, lhs,
                {call_.out_row(b, first + y), call_.out_strides[2]});
    }
  }

  void run_gathered(const uint8_t* band, int64_t b, int64_t first, int64_t rows, int64_t group,
                    int64_t first_panel, int64_t last_panel) const {
    static constexpr ptrdiff_t kOneTap = 0;
    const PackedHeader& header = call_.packed->header;
    const GemmKernel& kernel = plan_.kernel();
    const ptrdiff_t row_bytes = lhs_row_bytes(plan_, header.k);
    const int64_t k_pad = round_up<int64_t>(header.k, kernel.kr);
    // Output pixels of the band in one sequence where their addresses are; else a row at a time.
    const bool flat = call_.out_strides[1] == call_.ow * call_.out_strides[2];
    const int64_t pixels = flat ? rows * call_.ow : call_.ow;
    const auto fitting = static_cast<int64_t>(cache_sizes().l2 / 4) / row_bytes;
    const int64_t block =
        std::min(pixels, std::max<int64_t>(kernel.mr, fitting / kernel.mr * kernel.mr));
    const auto vector_bytes =
        static_cast<int64_t>(round_up(static_cast<size_t>(block) * sizeof(float), kAlignment));
    const int64_t patch_stride = round_up<int64_t>(header.k, 16);
    uint8_t* const memory = scratch(
        Scratch::kLhs, static_cast<size_t>(2 * vector_bytes +
                                           round_up<int64_t>(block, kernel.row_unit) * row_bytes));
    uint8_t* const patches = scratch(Scratch::kRow, static_cast<size_t>(block * patch_stride));
    auto* const row_sums = reinterpret_cast<int32_t*>(memory + vector_bytes);

    LhsBlock lhs{};
    lhs.data = memory + 2 * vector_bytes;
    lhs.stride = row_bytes;
    lhs.taps = &kOneTap;
    lhs.n_taps = 1;
    lhs.k = static_cast<uint32_t>(k_pad);
    lhs.row_sums = row_sums;
    lhs.row_scale = row_scales(reinterpret_cast<float*>(memory), block, b);
    for (int64_t y = 0; y < (flat ? 1 : rows); ++y) {
      uint8_t* const out = call_.out_row(b, first + y);
      for (int64_t pixel = 0; pixel < pixels; pixel += block) {
        lhs.rows = std::min(block, pixels - pixel);
        for (int64_t i = 0; i < lhs.rows; ++i) {
          gather(band, y * call_.ow + pixel + i, group, patches + i * patch_stride);
        }
        convert(patches, patch_stride, memory + 2 * vector_bytes, row_bytes, lhs.rows, header.k,
                k_pad, call_.output->asymmetric_weights() ? row_sums : nullptr);
        run_tiles(plan_, *call_.output, *call_.packed, group, first_panel, last_panel, lhs,
                  {out + pixel * call_.out_strides[2], call_.out_strides[2]});
      }
    }
  }

  // The patch of one output pixel of the band, in the order of the weights.
  void gather(const uint8_t* band, int64_t pixel, int64_t group, uint8_t* dst) const {
    const PackedHeader& header = call_.packed->header;
    const qk_conv_geometry& g = call_.geometry;
    const uint8_t* src = band + pixel / call_.ow * g.stride_h * row_stride_ +
                         pixel % call_.ow * g.stride_w * call_.c + group * header.c;
    const bool one_run = g.dilation_w == 1 && header.groups == 1;
    const auto run = static_cast<size_t>(one_run ? header.kw * header.c : header.c);
    const int64_t runs = one_run ? 1 : header.kw;
    for (int64_t i = 0; i < header.kh; ++i) {
      const uint8_t* from = src + i * g.dilation_h * row_stride_;
      for (int64_t j = 0; j < runs; ++j, dst += run) {
        std::memcpy(dst, from + j * g.dilation_w * call_.c, run);
      }
    }
  }

  const ConvCall& call_;
  const GemmPlan plan_;
  int64_t columns_ = 0;
  int64_t tap_k_ = 0;
  int64_t row_stride_ = 0;  // bytes of a band row
  bool direct_ = false;
  std::vector<ptrdiff_t> taps_;
  BandSplit split_{};
  std::atomic<bool> out_of_memory_{false};
};

}  // namespace

qk_status run_dense(const ConvCall& call) {
  GemmPlan plan{};
  QK_RETURN_IF_ERROR(plan_gemm(*call.packed, call.output->x_signed(), call.oh * call.ow, &plan));
  return DenseConv(call, plan).run();
}

}  // namespace qk
