// SPDX-License-Identifier: Apache-2.0
//
// requantize on arrays: the epilogue of the GEMM over [outer][channels][inner] sums.
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "core/thread_pool.h"
#include "core/tiers.h"
#include "ops/output.h"

namespace qk {
namespace {

// The epilogue takes parameters a column. Channels innermost are its columns; otherwise a run has
// one channel, whose parameters are repeated over kRun columns.
constexpr int64_t kRun = 512;
constexpr int64_t kTask = 32768;  // sums a task: 128 KiB

struct Parameters {
  std::vector<int32_t> offset, bias, mantissa, shift;
  std::vector<float> scale;

  explicit Parameters(size_t size)
      : offset(size, 0), bias(size, 0), mantissa(size, 0), shift(size, 0), scale(size, 1.0f) {}

  void set(size_t first, size_t count, float multiplier, int32_t bias_value) {
    int32_t m = 0;
    int32_t s = 0;
    quantize_multiplier(static_cast<double>(multiplier), &m, &s);
    std::fill_n(scale.begin() + static_cast<ptrdiff_t>(first), count, multiplier);
    std::fill_n(bias.begin() + static_cast<ptrdiff_t>(first), count, bias_value);
    std::fill_n(mantissa.begin() + static_cast<ptrdiff_t>(first), count, m);
    std::fill_n(shift.begin() + static_cast<ptrdiff_t>(first), count, s);
  }

  void attach(EpilogueArgs* args, size_t column) const {
    args->offset = offset.data() + column;
    args->bias = bias.data() + column;
    args->scale = scale.data() + column;
    args->mantissa = mantissa.data() + column;
    args->shift = shift.data() + column;
  }
};

}  // namespace
}  // namespace qk

qk_status qk_requantize(const int32_t* acc, qk_shape3 shape, const float* multiplier,
                        int32_t zero_point, const int32_t* bias, qk_rounding rounding, int32_t lo,
                        int32_t hi, void* out) {
  using namespace qk;
  return guarded([&] {
    for (int64_t c = 0; c < shape.channels; ++c) {
      if (std::isfinite(multiplier[c]) && multiplier[c] > 0) continue;
      return fail(QK_INVALID_ARGUMENT,
                  "scale must be finite and positive, got %g at index %" PRId64,
                  static_cast<double>(multiplier[c]), c);
    }
    if (shape.outer <= 0 || shape.channels <= 0 || shape.inner <= 0) return QK_OK;
    const Tier& tier = active_tier().table;
    const auto kind = rounding == QK_NEAREST_EVEN  ? Epilogue::kNearest
                      : rounding == QK_FIXED_POINT ? Epilogue::kFixed
                                                   : Epilogue::kFixedSingle;
    EpilogueArgs base{};
    base.lo = lo - zero_point;
    base.hi = hi - zero_point;
    base.lo_f = static_cast<float>(base.lo);
    base.hi_f = static_cast<float>(base.hi);
    base.zero_point = zero_point;
    const auto epilogue = tier.epilogue[static_cast<int>(kind)];
    const int64_t total = shape.outer * shape.channels * shape.inner;
    const auto run_rows = [&](const Parameters& parameters, size_t column, const int32_t* sums,
                              int64_t first, int64_t rows, int64_t columns, int64_t stride) {
      EpilogueArgs args = base;
      parameters.attach(&args, column);
      args.acc = sums;
      args.acc_stride = stride * static_cast<ptrdiff_t>(sizeof(int32_t));
      args.out = static_cast<uint8_t*>(out) + first;
      args.out_stride = stride;
      args.m = static_cast<uint32_t>(rows);
      args.n = static_cast<uint32_t>(columns);
      epilogue(&args);
    };
    // The epilogue reads sums in whole panels: where that would pass the end of the array, the
    // columns of the last, partial panel go through a copy.
    const auto run = [&](const Parameters& parameters, size_t column, int64_t first, int64_t rows,
                         int64_t columns) {
      const int64_t inside = total - first - round_up<int64_t>(columns, kPanel);
      const int64_t safe = inside < 0 ? 0 : std::min(rows, inside / columns + 1);
      if (safe > 0) run_rows(parameters, column, acc + first, first, safe, columns, columns);
      const int64_t whole = columns / kPanel * kPanel;
      for (int64_t row = safe; row < rows; ++row) {
        const int64_t at = first + row * columns;
        if (whole > 0) run_rows(parameters, column, acc + at, at, 1, whole, columns);
        int32_t rest[kPanel] = {0};
        std::copy_n(acc + at + whole, columns - whole, rest);
        run_rows(parameters, column + static_cast<size_t>(whole), rest, at + whole, 1,
                 columns - whole, columns);
      }
    };
    if (shape.channels > 1 && shape.inner == 1) {
      const auto padded = static_cast<size_t>(round_up<int64_t>(shape.channels, kPanel));
      Parameters parameters(padded);
      for (int64_t c = 0; c < shape.channels; ++c) {
        parameters.set(static_cast<size_t>(c), 1, multiplier[c], bias == nullptr ? 0 : bias[c]);
      }
      const int64_t a_task = std::max<int64_t>(1, kTask / shape.channels);
      const auto task = [&](size_t index) {
        const int64_t row = static_cast<int64_t>(index) * a_task;
        run(parameters, 0, row * shape.channels, std::min(a_task, shape.outer - row),
            shape.channels);
      };
      parallel_for(static_cast<size_t>(ceil_div(shape.outer, a_task)), task);
      return QK_OK;
    }
    // One channel a run; the parameters of all channels side by side, kRun columns each.
    Parameters parameters(static_cast<size_t>(shape.channels * kRun));
    for (int64_t c = 0; c < shape.channels; ++c) {
      parameters.set(static_cast<size_t>(c * kRun), kRun, multiplier[c],
                     bias == nullptr ? 0 : bias[c]);
    }
    const bool scalar = shape.channels == 1;
    const int64_t runs = scalar ? 1 : shape.outer * shape.channels;
    const int64_t length = scalar ? shape.outer * shape.inner : shape.inner;
    const int64_t pieces = ceil_div(length, kTask);  // tasks a run
    const auto task = [&](size_t index) {
      const int64_t which = static_cast<int64_t>(index) / pieces;
      const auto column = static_cast<size_t>(which % shape.channels * kRun);
      const int64_t start = static_cast<int64_t>(index) % pieces * kTask;
      const int64_t end = std::min(length, start + kTask);
      const int64_t whole = (end - start) / kRun;
      if (whole > 0) run(parameters, column, which * length + start, whole, kRun);
      const int64_t rest = start + whole * kRun;
      if (rest < end) run(parameters, column, which * length + rest, 1, end - rest);
    };
    parallel_for(static_cast<size_t>(runs * pieces), task);
    return QK_OK;
  });
}
