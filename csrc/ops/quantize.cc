// SPDX-License-Identifier: Apache-2.0
//
// quantize, dequantize, dynamic_quantize and range over whole arrays, in pieces for the threads.
#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "core/thread_pool.h"
#include "core/tiers.h"
#include "ops/output.h"
#include "ops/rows.h"

namespace qk {
namespace {

// Elements a task: 64 KiB of float32, a multiple of every vector.
constexpr int64_t kPiece = 16384;

// Calls body(first, count) over [0, n), on threads where n is worth them. Nested in rows of
// channels, runs stay whole: the caller's loops are over runs.
template <typename Body>
void for_pieces(int64_t n, Body body) {
  if (n <= kPiece) {
    if (n > 0) body(int64_t{0}, n);
    return;
  }
  const auto piece = [&](size_t index) {
    const int64_t first = static_cast<int64_t>(index) * kPiece;
    body(first, std::min(kPiece, n - first));
  };
  parallel_for(static_cast<size_t>(ceil_div(n, kPiece)),
               static_cast<double>(n) / kElementsPerMicrosecond, piece);
}

// Visits [outer][channels][inner] as contiguous runs: body(offset, count, channel, per_element).
// One channel: pieces of the whole; channels innermost: whole rows with a parameter an element;
// otherwise a run of `inner` a channel.
template <typename Body>
void for_runs(const qk_shape3& shape, Body body) {
  if (shape.channels == 1) {
    for_pieces(shape.outer * shape.inner,
               [&](int64_t first, int64_t count) { body(first, count, int64_t{0}, false); });
    return;
  }
  const bool innermost = shape.inner == 1;
  const int64_t runs = innermost ? shape.outer : shape.outer * shape.channels;
  const int64_t length = innermost ? shape.channels : shape.inner;
  if (length == 0) return;
  const int64_t a_task = std::max<int64_t>(1, kPiece / length);
  const auto task = [&](size_t index) {
    const int64_t first = static_cast<int64_t>(index) * a_task;
    for (int64_t run = first; run < std::min(runs, first + a_task); ++run) {
      body(run * length, length, innermost ? 0 : run % shape.channels, innermost);
    }
  };
  parallel_for(static_cast<size_t>(ceil_div(runs, a_task)),
               static_cast<double>(runs * length) / kElementsPerMicrosecond, task);
}

qk_status check_shape(const qk_shape3& shape) {
  if (shape.outer >= 0 && shape.channels >= 0 && shape.inner >= 0) return QK_OK;
  return fail(QK_INVALID_ARGUMENT, "extents must not be negative");
}

qk_status check_codes(const int32_t* zero_point, int64_t n, int32_t lo, int32_t hi) {
  if (lo < -128 || hi > 255 || lo > hi) {
    return fail(QK_INVALID_ARGUMENT, "bounds must be ordered within [-128, 255], got [%d, %d]", lo,
                hi);
  }
  int outside = 0;  // all at once first, for the vectors
  for (int64_t i = 0; i < n; ++i) {
    outside |= static_cast<int>(zero_point[i] < lo) | static_cast<int>(zero_point[i] > hi);
  }
  for (int64_t i = 0; outside != 0 && i < n; ++i) {
    if (zero_point[i] >= lo && zero_point[i] <= hi) continue;
    return fail(QK_INVALID_ARGUMENT, "zero_point must lie in [%d, %d], got %d at index %" PRId64,
                lo, hi, zero_point[i], i);
  }
  return QK_OK;
}

qk_status not_finite() { return fail(QK_NOT_FINITE, "x must be finite, got an infinity or NaN"); }

}  // namespace
}  // namespace qk

qk_status qk_quantize(const void* x, qk_dtype x_dtype, qk_shape3 shape, const float* scale,
                      const int32_t* zero_point, int32_t lo, int32_t hi, void* q) {
  return qk::guarded([&] {
    QK_RETURN_IF_ERROR(qk::check_shape(shape));
    QK_RETURN_IF_ERROR(qk::check_scales(scale, shape.channels));
    QK_RETURN_IF_ERROR(qk::check_codes(zero_point, shape.channels, lo, hi));
    if (!qk::is_real(x_dtype)) return qk::fail(QK_INVALID_ARGUMENT, "x must be floating point");
    const qk::Tier& tier = qk::active_tier().table;
    const size_t element = qk::dtype_size(x_dtype);
    std::atomic<uint32_t> nan{0};
    qk::for_runs(shape, [&](int64_t first, int64_t count, int64_t channel, bool per_element) {
      uint32_t seen = 0;
      const qk::QuantizeArgs args{
          static_cast<const uint8_t*>(x) + static_cast<size_t>(first) * element,
          qk::real_of(x_dtype),
          static_cast<uint8_t*>(q) + first,
          static_cast<size_t>(count),
          scale + channel,
          zero_point + channel,
          per_element,
          lo,
          hi,
          &seen};
      tier.quantize(&args);
      if (seen != 0) nan.store(1, std::memory_order_relaxed);
    });
    if (nan.load() != 0) return qk::fail(QK_NAN, "x must not hold NaN");
    return QK_OK;
  });
}

qk_status qk_dequantize(const void* q, qk_dtype q_dtype, qk_shape3 shape, const float* scale,
                        const int32_t* zero_point, float* x) {
  return qk::guarded([&] {
    QK_RETURN_IF_ERROR(qk::check_shape(shape));
    QK_RETURN_IF_ERROR(qk::check_scales(scale, shape.channels));
    if (qk::is_real(q_dtype)) {
      return qk::fail(QK_INVALID_ARGUMENT, "q must be int8, uint8 or int32");
    }
    const qk::Tier& tier = qk::active_tier().table;
    const size_t element = qk::dtype_size(q_dtype);
    qk::for_runs(shape, [&](int64_t first, int64_t count, int64_t channel, bool per_element) {
      const qk::DequantizeArgs args{
          static_cast<const uint8_t*>(q) + static_cast<size_t>(first) * element,
          static_cast<qk::Code>(q_dtype),
          x + first,
          static_cast<size_t>(count),
          scale + channel,
          zero_point + channel,
          per_element};
      tier.dequantize(&args);
    });
    return QK_OK;
  });
}

qk_status qk_range(const void* x, qk_dtype x_dtype, int64_t n, float result[3]) {
  return qk::guarded([&] {
    if (!qk::is_real(x_dtype)) return qk::fail(QK_INVALID_ARGUMENT, "x must be floating point");
    const qk::Tier& tier = qk::active_tier().table;
    const auto pieces = static_cast<size_t>(qk::ceil_div(std::max<int64_t>(n, 1), qk::kPiece));
    std::vector<qk::RangeArgs> found(pieces);
    qk::for_pieces(n, [&](int64_t first, int64_t count) {
      qk::RangeArgs& range = found[static_cast<size_t>(first / qk::kPiece)];
      range.src =
          static_cast<const uint8_t*>(x) + static_cast<size_t>(first) * qk::dtype_size(x_dtype);
      range.type = qk::real_of(x_dtype);
      range.n = static_cast<size_t>(count);
      tier.range(&range);
    });
    if (n == 0) found[0].finite = true;
    qk::RangeArgs all = found[0];
    for (const qk::RangeArgs& piece : found) {
      all.min = std::min(all.min, piece.min);
      all.max = std::max(all.max, piece.max);
      all.amax = std::max(all.amax, piece.amax);
      all.finite = all.finite && piece.finite;
    }
    if (!all.finite) return qk::not_finite();
    result[0] = all.min;
    result[1] = all.max;
    result[2] = all.amax;
    return QK_OK;
  });
}

namespace qk {
namespace {

// ONNX DynamicQuantizeLinear for uint8; an all-zero row has scale 1 and zero point 0.
// False when the range of finite values overflows float32.
bool asymmetric_qparams(float min, float max, float* scale, int32_t* zero_point) {
  const float low = std::min(min, 0.0f);
  const float high = std::max(max, 0.0f);
  *scale = (high - low) / 255.0f;
  if (!std::isfinite(*scale)) return false;
  if (*scale == 0) *scale = 1.0f;
  const float zero = std::nearbyint(std::clamp(0.0f - low / *scale, 0.0f, 255.0f));
  *zero_point = static_cast<int32_t>(zero);
  return true;
}

}  // namespace
}  // namespace qk

qk_status qk_dynamic_quantize(const void* x, qk_dtype x_dtype, int64_t rows, int64_t cols,
                              int symmetric, void* q, float* scale, int32_t* zero_point) {
  return qk::guarded([&] {
    if (!qk::is_real(x_dtype)) return qk::fail(QK_INVALID_ARGUMENT, "x must be floating point");
    if (rows < 0 || cols < 0) return qk::fail(QK_INVALID_ARGUMENT, "extents must not be negative");
    const qk::Tier& tier = qk::active_tier().table;
    const qk::Real type = qk::real_of(x_dtype);
    const size_t row_bytes = static_cast<size_t>(cols) * qk::dtype_size(x_dtype);
    std::atomic<bool> finite{true};
    std::atomic<bool> fits{true};
    const auto quantize_one = [&](int64_t row) {
      const auto* src = static_cast<const uint8_t*>(x) + static_cast<size_t>(row) * row_bytes;
      auto* dst = static_cast<uint8_t*>(q) + row * cols;
      const auto n = static_cast<size_t>(cols);
      qk::RangeArgs range{};
      range.src = src;
      range.type = type;
      range.n = n;
      tier.range(&range);
      if (!range.finite) {
        finite.store(false, std::memory_order_relaxed);
      } else if (!qk::asymmetric_qparams(range.min, range.max, &scale[row], &zero_point[row])) {
        fits.store(false, std::memory_order_relaxed);
      } else {
        uint32_t nan = 0;
        const qk::QuantizeArgs args{src,   type, dst, n,   &scale[row], &zero_point[row],
                                    false, 0,    255, &nan};
        tier.quantize(&args);
      }
    };
    const int64_t a_task = std::max<int64_t>(1, qk::kPiece / std::max<int64_t>(cols, 1));
    const auto task = [&](size_t index) {
      const int64_t first = static_cast<int64_t>(index) * a_task;
      const int64_t last = std::min(rows, first + a_task);
      if (symmetric == 0) {
        for (int64_t row = first; row < last; ++row) quantize_one(row);
        return;
      }
      const auto* src = static_cast<const uint8_t*>(x) + static_cast<size_t>(first) * row_bytes;
      const auto n = static_cast<size_t>(cols);
      const qk::RealRows reals{src, static_cast<ptrdiff_t>(row_bytes), type, last - first, n};
      const qk::CodeRows codes{static_cast<uint8_t*>(q) + first * cols, cols, n, qk::Lhs::kS8,
                               scale + first};
      if (!qk::quantize_rows(tier, reals, codes)) finite.store(false, std::memory_order_relaxed);
    };
    qk::parallel_for(static_cast<size_t>(qk::ceil_div(rows, a_task)),
                     static_cast<double>(rows * cols) / qk::kElementsPerMicrosecond, task);
    if (!finite.load()) return qk::not_finite();
    if (!fits.load()) {
      return qk::fail(QK_NOT_FINITE, "the range of x, max - min, must be finite in float32");
    }
    return QK_OK;
  });
}
