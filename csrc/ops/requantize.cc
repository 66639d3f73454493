// SPDX-License-Identifier: Apache-2.0
//
// requantize on arrays: the epilogue of the GEMM over [outer][channels][inner] sums.
#include <algorithm>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "core/thread_pool.h"
#include "core/tiers.h"
#include "ops/output.h"
#include "ops/rows.h"

namespace qk {
namespace {

// The epilogue takes parameters a column. Channels innermost are its columns; otherwise a run of
// sums has one channel, whose parameters are repeated over kRun columns.
constexpr int64_t kRun = 512;
constexpr int64_t kTask = 32768;  // sums a task: 128 KiB

struct Requantize {
  const int32_t* acc;
  uint8_t* out;
  int64_t total;
  Epilogue kind;
  void (*epilogue)(const EpilogueArgs*);
  EpilogueArgs base;  // bounds and zero point

  // `rows` x `columns` sums from index `first` on; parameters start at args' pointers.
  void run_block(EpilogueArgs args, const int32_t* sums, int64_t first, int64_t rows,
                 int64_t columns, int64_t stride) const {
    args.acc = sums;
    args.acc_stride = stride * static_cast<ptrdiff_t>(sizeof(int32_t));
    args.out = out + first;
    args.out_stride = stride;
    args.m = static_cast<uint32_t>(rows);
    args.n = static_cast<uint32_t>(columns);
    epilogue(&args);
  }

  // The epilogue reads sums in whole panels: where that would pass the end of the array, the columns
  // of the last, partial panel go through a copy.
  void run(const EpilogueArgs& args, int64_t first, int64_t rows, int64_t columns) const {
    const int64_t inside = total - first - round_up<int64_t>(columns, kPanel);
    const int64_t safe = inside < 0 ? 0 : std::min(rows, inside / columns + 1);
    if (safe > 0) run_block(args, acc + first, first, safe, columns, columns);
    const int64_t whole = columns / kPanel * kPanel;
    EpilogueArgs tail = args;
    tail.offset += whole;
    if (tail.bias != nullptr) tail.bias += whole;
    if (kind == Epilogue::kNearest) {
      tail.scale += whole;
    } else {
      tail.mantissa += whole;
      tail.shift += whole;
    }
    for (int64_t row = safe; row < rows; ++row) {
      const int64_t at = first + row * columns;
      if (whole > 0) run_block(args, acc + at, at, 1, whole, columns);
      if (whole == columns) continue;
      int32_t rest[kPanel] = {0};
      std::copy_n(acc + at + whole, columns - whole, rest);
      run_block(tail, rest, at + whole, 1, columns - whole, columns);
    }
  }

  // A run of `count` sums of one channel; bias: its own, or null.
  void run_channel(int64_t first, int64_t count, float multiplier, const int32_t* bias) const {
    static constexpr int32_t kZeros[kRun] = {0};
    int32_t biases[kRun];
    int32_t mantissas[kRun];
    int32_t shifts[kRun];
    float scales[kRun];
    const int64_t filled = std::min(kRun, round_up<int64_t>(count, kPanel));
    EpilogueArgs args = base;
    args.offset = kZeros;
    if (bias != nullptr) {
      std::fill_n(biases, filled, *bias);
      args.bias = biases;
    }
    if (kind == Epilogue::kNearest) {
      std::fill_n(scales, filled, multiplier);
      args.scale = scales;
    } else {
      int32_t mantissa = 0;
      int32_t shift = 0;
      quantize_multiplier(static_cast<double>(multiplier), &mantissa, &shift);
      std::fill_n(mantissas, filled, mantissa);
      std::fill_n(shifts, filled, shift);
      args.mantissa = mantissas;
      args.shift = shifts;
    }
    const int64_t whole = count / kRun;
    if (whole > 0) run(args, first, whole, kRun);
    if (count > whole * kRun) run(args, first + whole * kRun, 1, count - whole * kRun);
  }
};

qk_status check(const qk_shape3& shape, const float* multiplier, int32_t zero_point, int32_t lo,
                int32_t hi) {
  if (shape.outer < 0 || shape.channels < 0 || shape.inner < 0) {
    return fail(QK_INVALID_ARGUMENT, "extents must not be negative");
  }
  if (lo < -128 || hi > 255 || lo > hi || zero_point < -128 || zero_point > 255) {
    return fail(QK_INVALID_ARGUMENT,
                "bounds must be ordered within [-128, 255] and zero_point lie there, got [%d, %d] "
                "and %d",
                lo, hi, zero_point);
  }
  return check_scales(multiplier, shape.channels);
}

// `values` where they fill whole panels, else a copy with room to the end of the last.
template <typename T>
const T* in_panels(const T* values, int64_t n, std::vector<T>* copy) {
  if (n % kPanel == 0) return values;
  copy->assign(static_cast<size_t>(round_up<int64_t>(n, kPanel)), T{});
  std::copy_n(values, n, copy->begin());
  return copy->data();
}

// Channels innermost: the parameters of all of them side by side, rows of sums under them.
void run_innermost(const Requantize& call, const qk_shape3& shape, const float* multiplier,
                   const int32_t* bias) {
  const auto padded = static_cast<size_t>(round_up<int64_t>(shape.channels, kPanel));
  const std::vector<int32_t> offsets(padded, 0);
  std::vector<int32_t> biases;
  std::vector<int32_t> mantissas;
  std::vector<int32_t> shifts;
  std::vector<float> scales;
  EpilogueArgs args = call.base;
  args.offset = offsets.data();
  if (bias != nullptr) args.bias = in_panels(bias, shape.channels, &biases);
  if (call.kind == Epilogue::kNearest) {
    args.scale = in_panels(multiplier, shape.channels, &scales);
  } else {
    mantissas.resize(padded);
    shifts.resize(padded);
    for (int64_t c = 0; c < shape.channels; ++c) {
      const auto at = static_cast<size_t>(c);
      quantize_multiplier(static_cast<double>(multiplier[c]), &mantissas[at], &shifts[at]);
    }
    args.mantissa = mantissas.data();
    args.shift = shifts.data();
  }
  const int64_t a_task = std::max<int64_t>(1, kTask / shape.channels);
  const auto task = [&](size_t index) {
    const int64_t row = static_cast<int64_t>(index) * a_task;
    call.run(args, row * shape.channels, std::min(a_task, shape.outer - row), shape.channels);
  };
  parallel_for(static_cast<size_t>(ceil_div(shape.outer, a_task)),
               static_cast<double>(shape.outer * shape.channels) / kElementsPerMicrosecond, task);
}

// Otherwise: a run of `inner` sums a channel; short runs share a task, long ones are cut.
void run_channels(const Requantize& call, const qk_shape3& shape, const float* multiplier,
                  const int32_t* bias) {
  const bool scalar = shape.channels == 1;
  const int64_t runs = scalar ? 1 : shape.outer * shape.channels;
  const int64_t length = scalar ? shape.outer * shape.inner : shape.inner;
  const int64_t pieces = ceil_div(length, kTask);
  const int64_t a_task = std::max<int64_t>(1, kTask / length);
  const auto task = [&](size_t index) {
    const int64_t start = static_cast<int64_t>(index) % pieces * kTask;
    const int64_t count = std::min(kTask, length - start);
    const int64_t first = static_cast<int64_t>(index) / pieces * a_task;
    for (int64_t r = first; r < std::min(runs, first + a_task); ++r) {
      const int64_t channel = r % shape.channels;
      call.run_channel(r * length + start, count, multiplier[channel],
                       bias == nullptr ? nullptr : bias + channel);
    }
  };
  parallel_for(static_cast<size_t>(ceil_div(runs, a_task) * pieces),
               static_cast<double>(runs * length) / kElementsPerMicrosecond, task);
}

}  // namespace
}  // namespace qk

qk_status qk_requantize(const int32_t* acc, qk_shape3 shape, const float* multiplier,
                        int32_t zero_point, const int32_t* bias, qk_rounding rounding, int32_t lo,
                        int32_t hi, void* out) {
  return qk::guarded([&] {
    QK_RETURN_IF_ERROR(qk::check(shape, multiplier, zero_point, lo, hi));
    if (shape.outer == 0 || shape.channels == 0 || shape.inner == 0) return QK_OK;
    qk::Requantize call{};
    call.acc = acc;
    call.out = static_cast<uint8_t*>(out);
    call.total = shape.outer * shape.channels * shape.inner;
    call.kind = rounding == QK_NEAREST_EVEN  ? qk::Epilogue::kNearest
                : rounding == QK_FIXED_POINT ? qk::Epilogue::kFixed
                                             : qk::Epilogue::kFixedSingle;
    call.epilogue = qk::active_tier().table.epilogue[static_cast<int>(call.kind)];
    call.base.lo = lo - zero_point;
    call.base.hi = hi - zero_point;
    call.base.lo_f = static_cast<float>(call.base.lo);
    call.base.hi_f = static_cast<float>(call.base.hi);
    call.base.zero_point = zero_point;
    if (shape.channels > 1 && shape.inner == 1) {
      qk::run_innermost(call, shape, multiplier, bias);
    } else {
      qk::run_channels(call, shape, multiplier, bias);
    }
    return QK_OK;
  });
}
