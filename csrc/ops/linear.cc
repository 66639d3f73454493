// SPDX-License-Identifier: Apache-2.0
#include "ops/linear.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "core/status.h"
#include "core/thread_pool.h"
#include "ops/driver.h"
#include "ops/rows.h"

struct qk_linear {
  const qk_packed* packed;
  qk::Output output;
};

namespace qk {
namespace {

// One call of a linear op: what each task needs to turn its rows and panels into output.
class LinearCall {
 public:
  LinearCall(const qk_packed& packed, const Output& output, const GemmPlan& plan,
             const LinearArgs& args)
      : packed_(packed), output_(output), plan_(plan), args_(args) {
    const int64_t k = packed.header.k;
    row_bytes_ = lhs_row_bytes(plan, k);
    k_pad_ = static_cast<uint32_t>(round_up<int64_t>(k, plan.kernel().kr));
    const double macs =
        static_cast<double>(args.m) * static_cast<double>(packed.header.n) * static_cast<double>(k);
    split_ = split_rows(plan, args.m, packed.sizes.panels, static_cast<size_t>(row_bytes_), macs);
  }

  qk_status run() {
    const auto tasks = static_cast<size_t>(split_.blocks * split_.panel_ranges);
    const auto body = [this](size_t index) { run_task(static_cast<int64_t>(index)); };
    parallel_for(tasks, body);
    return failed_.load(std::memory_order_relaxed) == QK_OK
               ? QK_OK
               : explain(failed_.load(std::memory_order_relaxed));
  }

 private:
  static qk_status explain(qk_status status) {
    if (status == QK_OUT_OF_MEMORY) return fail(status, "out of memory");
    if (status == QK_NOT_FINITE) return fail(status, "x must be finite, got an infinity or NaN");
    return fail(status, "the scale of a row of x times weight_scale must be finite in float32");
  }

  void run_task(int64_t index) {
    try {
      const int64_t row = index / split_.panel_ranges * split_.block_rows;
      const int64_t rows = std::min(split_.block_rows, args_.m - row);
      const int64_t step = plan_.kernel().nr / kPanel;
      const int64_t steps = ceil_div(packed_.sizes.panels, step);
      const int64_t range = index % split_.panel_ranges;
      const int64_t first = steps * range / split_.panel_ranges * step;
      const int64_t last =
          std::min(packed_.sizes.panels, steps * (range + 1) / split_.panel_ranges * step);
      run_block(row, rows, first, last);
    } catch (const std::bad_alloc&) {
      failed_.store(QK_OUT_OF_MEMORY, std::memory_order_relaxed);
    }
  }

  void run_block(int64_t row, int64_t rows, int64_t first_panel, int64_t last_panel) {
    static constexpr ptrdiff_t kOneTap = 0;
    const int64_t k = packed_.header.k;
    LhsBlock lhs{};
    lhs.taps = &kOneTap;
    lhs.n_taps = 1;
    lhs.k = k_pad_;
    lhs.rows = rows;
    lhs.zero_points = args_.zero_points == nullptr ? nullptr : args_.zero_points + row;

    // Everything a task holds, in one piece of scratch: row scales, row sums, packed rows.
    const int64_t unit = plan_.kernel().row_unit;
    const auto vector_bytes =
        static_cast<ptrdiff_t>(round_up(static_cast<size_t>(rows) * sizeof(float), kAlignment));
    uint8_t* const memory = scratch(
        Scratch::kLhs, static_cast<size_t>(2 * vector_bytes + round_up(rows, unit) * row_bytes_));
    auto* const row_scale = reinterpret_cast<float*>(memory);
    auto* const row_sums = reinterpret_cast<int32_t*>(memory + vector_bytes);
    uint8_t* const packed_rows = memory + 2 * vector_bytes;

    const uint8_t* bytes = static_cast<const uint8_t*>(args_.x) + row * args_.x_stride;
    ptrdiff_t bytes_stride = args_.x_stride;
    if (output_.dynamic()) {
      bytes_stride = static_cast<ptrdiff_t>(round_up(static_cast<size_t>(k), kAlignment));
      uint8_t* const codes = scratch(Scratch::kQuantized, static_cast<size_t>(rows * bytes_stride));
      for (int64_t m = 0; m < rows; ++m) {
        const bool finite =
            quantize_row(plan_.tier->table, bytes + m * args_.x_stride,
                         real_of(output_.spec().x_dtype), static_cast<size_t>(k),
                         reinterpret_cast<int8_t*>(codes + m * bytes_stride), &row_scale[m]);
        if (!finite || !output_.finite_with(row_scale[m])) {
          failed_.store(finite ? QK_INVALID_ARGUMENT : QK_NOT_FINITE, std::memory_order_relaxed);
          return;
        }
      }
      bytes = codes;
      lhs.row_scale = row_scale;
    } else if (output_.kind() == Epilogue::kFloat) {
      std::fill_n(row_scale, rows, output_.spec().x_scale);
      lhs.row_scale = row_scale;
    }

    if (reads_in_place(k, rows)) {
      lhs.data = bytes;
      lhs.stride = bytes_stride;
    } else {
      PackLhsArgs pack{};
      pack.src = bytes;
      pack.src_stride = bytes_stride;
      pack.dst = packed_rows;
      pack.dst_stride = row_bytes_;
      pack.rows = static_cast<uint32_t>(rows);
      pack.k = static_cast<uint32_t>(k);
      pack.k_pad = k_pad_;
      pack.src_signed = plan_.x_signed;
      pack.to = plan_.kernel().lhs;
      pack.row_sums = output_.asymmetric_weights() ? row_sums : nullptr;
      plan_.tier->table.pack_lhs(&pack);
      lhs.data = packed_rows;
      lhs.stride = row_bytes_;
      lhs.row_sums = row_sums;
    }
    const TierSession session(*plan_.entry);
    const Destination out{static_cast<uint8_t*>(args_.out) + row * args_.out_stride,
                          args_.out_stride};
    run_tiles(plan_, output_, packed_, 0, first_panel, last_panel, lhs, out);
  }

  // The kernel can take the rows where they are: its form, whole steps of k, whole units of rows.
  bool reads_in_place(int64_t k, int64_t rows) const {
    return plan_.reads_bytes() && !plan_.flips() && !output_.asymmetric_weights() &&
           k % plan_.kernel().kr == 0 && rows % plan_.kernel().row_unit == 0;
  }

  const qk_packed& packed_;
  const Output& output_;
  const GemmPlan plan_;
  const LinearArgs args_;
  ptrdiff_t row_bytes_;
  uint32_t k_pad_;
  Split split_{};
  std::atomic<qk_status> failed_{QK_OK};
};

}  // namespace

qk_status run_linear(const qk_packed& packed, const Output& output, const LinearArgs& args) {
  if (args.m == 0 || packed.header.n == 0) return QK_OK;
  for (int64_t m = 0; args.zero_points != nullptr && m < args.m; ++m) {
    const qk_dtype dtype = output.spec().x_dtype;
    if (args.zero_points[m] < lowest(dtype) || args.zero_points[m] > highest(dtype)) {
      return fail(QK_INVALID_ARGUMENT, "row zero points must lie in [%d, %d], got %d",
                  lowest(dtype), highest(dtype), args.zero_points[m]);
    }
    QK_RETURN_IF_ERROR(output.check_depth(args.zero_points[m]));
  }
  GemmPlan plan{};
  QK_RETURN_IF_ERROR(plan_gemm(packed, output.x_signed(), args.m, &plan));
  return LinearCall(packed, output, plan, args).run();
}

}  // namespace qk

qk_status qk_linear_prepare(const qk_packed* packed, const qk_output* output, qk_linear** op) {
  return qk::guarded([&] {
    if (packed->header.kind != QK_MATRIX) {
      return qk::fail(QK_INVALID_ARGUMENT, "linear needs weights packed as a matrix");
    }
    auto prepared = std::make_unique<qk_linear>();
    prepared->packed = packed;
    QK_RETURN_IF_ERROR(prepared->output.prepare(*packed, *output));
    *op = prepared.release();
    return QK_OK;
  });
}

qk_status qk_linear_run(const qk_linear* op, int64_t m, const void* x, ptrdiff_t x_stride,
                        void* out, ptrdiff_t out_stride, const int32_t* row_zero_points) {
  return qk::guarded([&] {
    if (m < 0) return qk::fail(QK_INVALID_ARGUMENT, "the number of rows must not be negative");
    if (row_zero_points != nullptr &&
        (op->output.kind() != qk::Epilogue::kInt32 || op->output.spec().x_zero_point != 0)) {
      return qk::fail(QK_INVALID_ARGUMENT,
                      "row zero points need int32 output and an x_zero_point of 0");
    }
    return qk::run_linear(*op->packed, op->output,
                          {m, x, x_stride, out, out_stride, row_zero_points});
  });
}

void qk_linear_free(qk_linear* op) { delete op; }
