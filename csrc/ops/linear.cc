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

// Rows of activations in the form that the kernel reads, and what goes with them.
struct PreparedRows {
  uint8_t* data;
  float* scale;   // of a row, float output alone
  int32_t* sums;  // of a row, where weights have zero points
};

// One call of a linear op: what each task needs to turn its rows and panels into output.
class LinearCall {
 public:
  LinearCall(const qk_packed& packed, const Output& output, const GemmPlan& plan,
             const LinearArgs& args)
      : packed_(packed), output_(output), plan_(plan), args_(args) {
    const int64_t k = packed.header.k;
    row_bytes_ = lhs_row_bytes(plan, k);
    k_pad_ = static_cast<uint32_t>(round_up<int64_t>(k, plan.kernel().kr));
    in_place_ = reads_in_place();
    const double macs =
        static_cast<double>(args.m) * static_cast<double>(packed.header.n) * static_cast<double>(k);
    split_ = split_rows(plan, args.m, packed.sizes.panels, static_cast<size_t>(row_bytes_),
                        microseconds_of(plan, packed, macs));
  }

  qk_status run() {
    // Where several tasks share rows, these are prepared first, once, by all threads.
    if (!in_place_ && split_.panel_ranges > 1) {
      shared_ = lay_out(args_.m);
      const int64_t piece = plan_.kernel().mr;
      const auto prepare = [this, piece](size_t index) {
        const int64_t row = static_cast<int64_t>(index) * piece;
        guard([&] { prepare_rows(row, std::min(piece, args_.m - row), at_row(shared_, row)); });
      };
      parallel_for(static_cast<size_t>(ceil_div(args_.m, piece)), prepare);
    }
    if (failed_.load(std::memory_order_relaxed) == QK_OK) {
      const auto tasks = static_cast<size_t>(split_.blocks * split_.panel_ranges);
      const auto body = [this](size_t index) { run_task(static_cast<int64_t>(index)); };
      parallel_for(tasks, body);
    }
    return explain(failed_.load(std::memory_order_relaxed));
  }

 private:
  static qk_status explain(qk_status status) {
    switch (status) {
      case QK_OK:
        return QK_OK;
      case QK_OUT_OF_MEMORY:
        return fail(status, "out of memory");
      case QK_NOT_FINITE:
        return fail(status, "x must be finite, got an infinity or NaN");
      default:
        return fail(status, "the scale of a row of x times weight_scale must be finite in float32");
    }
  }

  // The kernel can take the rows where they are, and loses nothing by it.
  bool reads_in_place() const {
    const GemmKernel& kernel = plan_.kernel();
    if (output_.dynamic() || !plan_.reads_bytes() || plan_.flips() ||
        output_.asymmetric_weights() || packed_.header.k % kernel.kr != 0 ||
        args_.m % kernel.row_unit != 0) {
      return false;
    }
    // Rows that pass under few columns are not worth a copy.
    constexpr int64_t kFewTiles = 4;
    if (packed_.sizes.panels <= kFewTiles * kernel.nr / kPanel) return true;
    // Rows this far apart fall into one or two sets of L1 and push each other out.
    constexpr ptrdiff_t kOneSet = 2048;
    const bool aligned = reinterpret_cast<uintptr_t>(args_.x) % kernel.row_align == 0 &&
                         args_.x_stride % static_cast<ptrdiff_t>(kernel.row_align) == 0;
    return aligned && (args_.x_stride % kOneSet != 0 || args_.m == 1);
  }

  // Scratch of this thread for so many rows: scales, sums, rows.
  PreparedRows lay_out(int64_t rows) const {
    const auto vector_bytes =
        static_cast<ptrdiff_t>(round_up(static_cast<size_t>(rows) * sizeof(float), kAlignment));
    const int64_t row_space =
        in_place_ ? 0 : round_up<int64_t>(rows, plan_.kernel().row_unit) * row_bytes_;
    uint8_t* const memory =
        scratch(Scratch::kLhs, static_cast<size_t>(2 * vector_bytes + row_space));
    return {memory + 2 * vector_bytes, reinterpret_cast<float*>(memory),
            reinterpret_cast<int32_t*>(memory + vector_bytes)};
  }

  PreparedRows at_row(const PreparedRows& prepared, int64_t row) const {
    return {prepared.data + row * row_bytes_, prepared.scale + row, prepared.sums + row};
  }

  // Brings rows into the kernel's form; what fails is kept in failed_.
  void prepare_rows(int64_t row, int64_t rows, const PreparedRows& prepared) {
    const uint8_t* bytes = static_cast<const uint8_t*>(args_.x) + row * args_.x_stride;
    ptrdiff_t stride = args_.x_stride;
    if (output_.dynamic()) {
      // Straight into the kernel's form, unless the sums of the codes are needed as well.
      const bool direct = !output_.asymmetric_weights();
      const auto k = static_cast<size_t>(packed_.header.k);
      const auto code_bytes = static_cast<ptrdiff_t>(round_up(k, kAlignment));
      CodeRows codes{prepared.data, row_bytes_, k_pad_, plan_.kernel().lhs, prepared.scale};
      if (!direct) {
        codes.data = scratch(Scratch::kQuantized, static_cast<size_t>(rows * code_bytes));
        codes.stride = code_bytes;
        codes.k_pad = k;
        codes.form = Lhs::kS8;
      }
      const RealRows reals{bytes, stride, real_of(output_.spec().x_dtype), rows, k};
      if (!quantize_rows(plan_.tier->table, reals, codes)) return set_failed(QK_NOT_FINITE);
      for (int64_t m = 0; m < rows; ++m) {
        if (!output_.finite_with(prepared.scale[m])) return set_failed(QK_INVALID_ARGUMENT);
      }
      if (direct) return;
      bytes = codes.data;
      stride = code_bytes;
    } else if (output_.kind() == Epilogue::kFloat) {
      std::fill_n(prepared.scale, rows, output_.spec().x_scale);
    }
    PackLhsArgs pack{};
    pack.src = bytes;
    pack.src_stride = stride;
    pack.dst = prepared.data;
    pack.dst_stride = row_bytes_;
    pack.rows = static_cast<uint32_t>(rows);
    pack.k = static_cast<uint32_t>(packed_.header.k);
    pack.k_pad = k_pad_;
    pack.src_signed = plan_.x_signed;
    pack.to = plan_.kernel().lhs;
    pack.row_sums = output_.asymmetric_weights() ? prepared.sums : nullptr;
    plan_.tier->table.pack_lhs(&pack);
  }

  void set_failed(qk_status status) { failed_.store(status, std::memory_order_relaxed); }

  // Tasks run on threads where nobody catches.
  template <typename Body>
  void guard(Body body) {
    try {
      body();
    } catch (const std::bad_alloc&) {
      set_failed(QK_OUT_OF_MEMORY);
    }
  }

  void run_task(int64_t index) {
    const int64_t row = index / split_.panel_ranges * split_.block_rows;
    const int64_t rows = std::min(split_.block_rows, args_.m - row);
    const int64_t step = plan_.kernel().nr / kPanel;
    const int64_t steps = ceil_div(packed_.sizes.panels, step);
    const int64_t range = index % split_.panel_ranges;
    const int64_t first = steps * range / split_.panel_ranges * step;
    const int64_t last =
        std::min(packed_.sizes.panels, steps * (range + 1) / split_.panel_ranges * step);
    guard([&] { run_block(row, rows, first, last); });
  }

  void run_block(int64_t row, int64_t rows, int64_t first_panel, int64_t last_panel) {
    static constexpr ptrdiff_t kOneTap = 0;
    const bool shared = shared_.data != nullptr;
    const bool needs_scale = output_.kind() == Epilogue::kFloat;
    PreparedRows prepared{};
    if (shared) {
      prepared = at_row(shared_, row);
    } else if (!in_place_ || needs_scale) {
      prepared = lay_out(rows);
      if (!in_place_) prepare_rows(row, rows, prepared);
      if (failed_.load(std::memory_order_relaxed) != QK_OK) return;
    }
    LhsBlock lhs{};
    lhs.data =
        in_place_ ? static_cast<const uint8_t*>(args_.x) + row * args_.x_stride : prepared.data;
    lhs.stride = in_place_ ? args_.x_stride : row_bytes_;
    lhs.taps = &kOneTap;
    lhs.n_taps = 1;
    lhs.k = k_pad_;
    lhs.rows = rows;
    lhs.row_sums = prepared.sums;
    lhs.zero_points = args_.zero_points == nullptr ? nullptr : args_.zero_points + row;
    if (needs_scale) {
      if (in_place_) std::fill_n(prepared.scale, rows, output_.spec().x_scale);
      lhs.row_scale = prepared.scale;
    }
    const TierSession session(*plan_.entry);
    const Destination out{static_cast<uint8_t*>(args_.out) + row * args_.out_stride,
                          args_.out_stride};
    run_tiles(plan_, output_, packed_, 0, first_panel, last_panel, lhs, out);
  }

  const qk_packed& packed_;
  const Output& output_;
  const GemmPlan plan_;
  const LinearArgs args_;
  ptrdiff_t row_bytes_;
  uint32_t k_pad_;
  bool in_place_;
  Split split_{};
  PreparedRows shared_{};
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
