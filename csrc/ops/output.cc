// SPDX-License-Identifier: Apache-2.0
#include "ops/output.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/status.h"

namespace qk {
namespace {

// The number in an enum that a C caller filled: it may be none of the enum's.
template <typename Enum>
int code_of(const Enum& value) {
  static_assert(sizeof(Enum) == sizeof(int), "enums of the C API are ints");
  int code = 0;
  std::memcpy(&code, &value, sizeof(code));
  return code;
}

// Largest |value - zero_point| over the range of an 8-bit dtype.
int64_t reach(qk_dtype dtype, int32_t zero_point) {
  return std::max(std::abs(int64_t{lowest(dtype)} - zero_point),
                  std::abs(int64_t{highest(dtype)} - zero_point));
}

bool positive(float value) { return std::isfinite(value) && value > 0; }

template <typename T>
T per_column(const T* values, size_t count, int64_t n, T otherwise) {
  return count == 0 ? otherwise : values[count == 1 ? 0 : n];
}

// rint(value) saturated to int32; value is not NaN.
int32_t saturated(float value) {
  const float rounded = std::nearbyint(value);
  if (rounded >= 2147483648.0f) return std::numeric_limits<int32_t>::max();
  if (rounded < -2147483648.0f) return std::numeric_limits<int32_t>::min();
  return static_cast<int32_t>(rounded);
}

// q(v) = clamp(rint(v / scale) + zero_point): an activation bound on the output's grid.
int32_t bound(float value, float scale, int32_t zero_point, qk_dtype dtype) {
  const float code = std::nearbyint(value / scale) + static_cast<float>(zero_point);
  return static_cast<int32_t>(
      std::clamp(code, static_cast<float>(lowest(dtype)), static_cast<float>(highest(dtype))));
}

}  // namespace

size_t dtype_size(qk_dtype dtype) {
  switch (dtype) {
    case QK_INT8:
    case QK_UINT8:
      return 1;
    case QK_FLOAT16:
    case QK_BFLOAT16:
      return 2;
    case QK_INT32:
    case QK_FLOAT32:
      break;
  }
  return 4;
}

qk_status check_scales(const float* scale, int64_t n) {
  int refused = 0;  // all at once first, for the vectors
  for (int64_t i = 0; i < n; ++i) {
    refused |= static_cast<int>(!(scale[i] > 0)) |
               static_cast<int>(!(scale[i] <= std::numeric_limits<float>::max()));
  }
  for (int64_t i = 0; refused != 0 && i < n; ++i) {
    if (positive(scale[i])) continue;
    return fail(QK_INVALID_ARGUMENT, "scale must be finite and positive, got %g at index %" PRId64,
                static_cast<double>(scale[i]), i);
  }
  return QK_OK;
}

qk_status Output::check(const qk_packed& packed) const {
  const qk_output& s = spec_;
  const int64_t n = packed.header.n;
  const int codes[] = {code_of(s.x_dtype), code_of(s.out_dtype), code_of(s.rounding),
                       code_of(s.activation)};
  const int last[] = {QK_BFLOAT16, QK_BFLOAT16, QK_FIXED_POINT_SINGLE, QK_HARDSWISH};
  for (int i = 0; i < 4; ++i) {
    if (codes[i] >= 0 && codes[i] <= last[i]) continue;
    return fail(QK_INVALID_ARGUMENT,
                "unknown code: x_dtype %d, out_dtype %d, rounding %d or activation %d", codes[0],
                codes[1], codes[2], codes[3]);
  }
  const bool integer_out = s.out_dtype == QK_INT8 || s.out_dtype == QK_UINT8;
  if (s.x_dtype == QK_INT32) return fail(QK_INVALID_ARGUMENT, "x must be 8-bit or floating point");
  if (is_real(s.out_dtype) && s.out_dtype != QK_FLOAT32) {
    return fail(QK_INVALID_ARGUMENT, "out_dtype must be int32, float32, int8 or uint8");
  }
  if (dynamic() && (s.out_dtype != QK_FLOAT32 || s.x_scale != 0 || s.x_zero_point != 0)) {
    return fail(QK_INVALID_ARGUMENT,
                "x of floating point is quantized by its own range: float32 output, no x_scale and "
                "no x_zero_point");
  }
  if (!dynamic() && s.x_scale == 0 && s.out_dtype != QK_INT32) {
    return fail(QK_INVALID_ARGUMENT, "x_scale is needed for an output other than int32");
  }
  if (s.x_scale != 0 && !positive(s.x_scale)) {
    return fail(QK_INVALID_ARGUMENT, "x_scale must be finite and positive, got %g",
                static_cast<double>(s.x_scale));
  }
  if (!dynamic() && (s.x_zero_point < lowest(s.x_dtype) || s.x_zero_point > highest(s.x_dtype))) {
    return fail(QK_INVALID_ARGUMENT, "x_zero_point must lie in [%d, %d], got %d", lowest(s.x_dtype),
                highest(s.x_dtype), s.x_zero_point);
  }
  if (integer_out && !positive(s.out_scale)) {
    return fail(QK_INVALID_ARGUMENT, "out_scale must be finite and positive, got %g",
                static_cast<double>(s.out_scale));
  }
  if (integer_out &&
      (s.out_zero_point < lowest(s.out_dtype) || s.out_zero_point > highest(s.out_dtype))) {
    return fail(QK_INVALID_ARGUMENT, "out_zero_point must lie in [%d, %d], got %d",
                lowest(s.out_dtype), highest(s.out_dtype), s.out_zero_point);
  }
  if ((s.n_w_scale > 1 && static_cast<int64_t>(s.n_w_scale) != n) ||
      (s.n_w_zero_point > 1 && static_cast<int64_t>(s.n_w_zero_point) != n)) {
    return fail(QK_INVALID_ARGUMENT,
                "weight_scale and weight_zero_point must have 1 or %" PRId64 " values", n);
  }
  const auto w_dtype = static_cast<qk_dtype>(packed.header.dtype);
  for (size_t i = 0; i < s.n_w_zero_point; ++i) {
    if (s.w_zero_point[i] < lowest(w_dtype) || s.w_zero_point[i] > highest(w_dtype)) {
      return fail(QK_INVALID_ARGUMENT, "weight_zero_point must lie in [%d, %d], got %d",
                  lowest(w_dtype), highest(w_dtype), s.w_zero_point[i]);
    }
  }
  for (int64_t i = 0; packed.is_depthwise() && s.n_w_zero_point > 0 && i < n; ++i) {
    const int32_t given = per_column(s.w_zero_point, s.n_w_zero_point, i, 0);
    if (given == packed.zero_points()[i]) continue;
    return fail(QK_INVALID_ARGUMENT,
                "weight_zero_point %d of channel %" PRId64
                " is not the one that the depthwise weights were packed with, %d",
                given, i, packed.zero_points()[i]);
  }
  for (size_t i = 0; i < s.n_w_scale; ++i) {
    if (!positive(s.w_scale[i])) {
      return fail(QK_INVALID_ARGUMENT, "weight_scale must be finite and positive, got %g",
                  static_cast<double>(s.w_scale[i]));
    }
  }
  const bool scaled = s.out_dtype != QK_INT32 || s.bias_f != nullptr;
  if (scaled && s.n_w_scale == 0) {
    return fail(QK_INVALID_ARGUMENT,
                "weight_scale is needed for a float bias or an output other than int32");
  }
  if (s.bias_f != nullptr && !dynamic() && s.x_scale == 0) {
    return fail(QK_INVALID_ARGUMENT, "a float bias needs x_scale");
  }
  if (s.bias_i != nullptr && dynamic()) {
    return fail(QK_INVALID_ARGUMENT, "an int32 bias has no meaning beside a floating point x");
  }
  if (s.bias_i != nullptr && s.bias_f != nullptr) {
    return fail(QK_INVALID_ARGUMENT, "bias must be float32 or int32, not both");
  }
  for (int64_t i = 0; s.bias_f != nullptr && i < n; ++i) {
    if (!std::isfinite(s.bias_f[i])) {
      return fail(QK_INVALID_ARGUMENT, "bias must be finite, got %g at index %" PRId64,
                  static_cast<double>(s.bias_f[i]), i);
    }
  }
  if (s.activation != QK_IDENTITY && s.out_dtype == QK_INT32) {
    return fail(QK_INVALID_ARGUMENT, "activation has no meaning on int32 output");
  }
  if (s.activation >= QK_GELU && s.out_dtype != QK_FLOAT32) {
    return fail(QK_INVALID_ARGUMENT, "this activation needs float32 output");
  }
  if (s.activation == QK_CLIP && !(s.activation_lo <= s.activation_hi)) {
    return fail(QK_INVALID_ARGUMENT, "activation bounds must be ordered, got (%g, %g)",
                static_cast<double>(s.activation_lo), static_cast<double>(s.activation_hi));
  }
  return QK_OK;
}

bool Output::finite_with(float row_scale) const {
  return std::isfinite(row_scale * largest_scale_);
}

qk_status Output::check_depth(int32_t x_zero_point) const {
  const qk_dtype x_dtype = dynamic() ? QK_INT8 : spec_.x_dtype;
  const int64_t x_reach = reach(x_dtype, x_zero_point);
  if (depth_ <= kInt32Max / std::max<int64_t>(x_reach * w_reach_, 1)) return QK_OK;
  return fail(QK_OVERFLOW,
              "K = %" PRId64 " is too deep for exact int32 sums: K * %" PRId64 " * %" PRId64
              " exceeds 2^31 - 1 (the largest |x - x_zero_point| and |w - weight_zero_point|); at "
              "most K = %" PRId64,
              depth_, x_reach, w_reach_, kInt32Max / (x_reach * w_reach_));
}

qk_status Output::prepare_scales(const qk_packed& packed) {
  const qk_output& s = spec_;
  if (kind_ == Epilogue::kInt32) return QK_OK;
  const auto size = static_cast<size_t>(packed.sizes.columns_pad);
  const bool fixed = kind_ == Epilogue::kFixed || kind_ == Epilogue::kFixedSingle;
  if (fixed) {
    mantissa_.assign(size, 0);
    shift_.assign(size, 0);
  } else {
    scale_.assign(size, 0);
  }
  for (int64_t n = 0; n < packed.header.n; ++n) {
    const float w_scale = per_column(s.w_scale, s.n_w_scale, n, 1.0f);
    const auto at = static_cast<size_t>(packed.column(n));
    if (kind_ == Epilogue::kFloat) {
      scale_[at] = w_scale;  // multiplied by the row's scale first
      largest_scale_ = std::max(largest_scale_, w_scale);
      if (!dynamic() && !positive(s.x_scale * w_scale)) {
        return fail(QK_INVALID_ARGUMENT,
                    "x_scale * weight_scale must be finite and positive, got %g * %g",
                    static_cast<double>(s.x_scale), static_cast<double>(w_scale));
      }
      continue;
    }
    const float multiplier = (s.x_scale * w_scale) / s.out_scale;
    if (!positive(multiplier)) {
      return fail(
          QK_INVALID_ARGUMENT,
          "x_scale * weight_scale / out_scale must be finite and positive, got %g * %g / %g",
          static_cast<double>(s.x_scale), static_cast<double>(w_scale),
          static_cast<double>(s.out_scale));
    }
    if (fixed) {
      const double real = static_cast<double>(s.x_scale) * static_cast<double>(w_scale) /
                          static_cast<double>(s.out_scale);
      quantize_multiplier(real, &mantissa_[at], &shift_[at]);
    } else {
      scale_[at] = multiplier;
    }
  }
  return QK_OK;
}

qk_status Output::prepare_bias(const qk_packed& packed) {
  const qk_output& s = spec_;
  const auto size = static_cast<size_t>(packed.sizes.columns_pad);
  if (s.bias_i != nullptr) {
    bias_.assign(size, 0);
    for (int64_t n = 0; n < packed.header.n; ++n) {
      bias_[static_cast<size_t>(packed.column(n))] = s.bias_i[n];
    }
  }
  if (s.bias_f == nullptr) return QK_OK;
  if (kind_ == Epilogue::kFloat) {
    bias_f_.assign(size, 0);
    for (int64_t n = 0; n < packed.header.n; ++n) {
      bias_f_[static_cast<size_t>(packed.column(n))] = s.bias_f[n];
    }
    return QK_OK;
  }
  bias_.assign(size, 0);
  for (int64_t n = 0; n < packed.header.n; ++n) {
    const float scale = s.x_scale * per_column(s.w_scale, s.n_w_scale, n, 1.0f);
    if (!positive(scale)) {
      return fail(QK_INVALID_ARGUMENT,
                  "x_scale * weight_scale must be finite and positive for a float bias");
    }
    bias_[static_cast<size_t>(packed.column(n))] = saturated(s.bias_f[n] / scale);
  }
  return QK_OK;
}

// sum (x - xz)(w - wz) = sum x w - xz * sum w - wz * (sum x - K xz), with x and w as given. The
// kernel sees x' = x + d (d = +-128 where the sign bit is flipped) and w' = stored weights with zero
// point wz'; substituting, offset[n] = xz * (K wz' - sum w') - d * sum w' and the rest is an outer
// product of row sums and wz'. Arithmetic modulo 2^32: the whole is within int32 (check_depth).
void Output::prepare_offsets(const qk_packed& packed) {
  const auto size = static_cast<size_t>(packed.sizes.columns_pad);
  const bool stored_without_zero_point = packed.is_depthwise();
  const int32_t w_moved = packed.header.dtype == QK_UINT8 ? 128 : 0;
  const auto x_zero = static_cast<uint32_t>(spec_.x_zero_point);
  const auto flip = static_cast<uint32_t>(flip_offset(x_signed()));
  std::vector<int32_t> w_zero(size, 0);
  bool asymmetric = false;
  for (int64_t n = 0; n < packed.header.n && !stored_without_zero_point; ++n) {
    const int32_t zero = per_column(spec_.w_zero_point, spec_.n_w_zero_point, n, 0) - w_moved;
    w_zero[static_cast<size_t>(packed.column(n))] = zero;
    asymmetric = asymmetric || zero != 0;
  }
  offset_.resize(size);
  offset_flipped_.resize(size);
  outer_row_.resize(size);
  for (size_t i = 0; i < size; ++i) {
    const auto sum = static_cast<uint32_t>(packed.sums()[i]);
    const uint32_t per_zero =
        static_cast<uint32_t>(depth_) * static_cast<uint32_t>(w_zero[i]) - sum;
    outer_row_[i] = static_cast<int32_t>(per_zero);
    offset_[i] = static_cast<int32_t>(x_zero * per_zero);
    offset_flipped_[i] = static_cast<int32_t>(x_zero * per_zero - flip * sum);
  }
  if (asymmetric) outer_w_ = std::move(w_zero);
}

// Sum plus bias saturates, in eight operations a vector. Where no data can take any column out of
// int32, the bias goes into the offset, which is added anyway.
void Output::merge_bias() {
  if (bias_.empty()) return;
  const qk_dtype x_dtype = dynamic() ? QK_INT8 : spec_.x_dtype;
  // Rows may come with zero points of their own where the output is int32.
  const int64_t x_reach = kind_ == Epilogue::kInt32 ? 255 : reach(x_dtype, spec_.x_zero_point);
  const int64_t room = kInt32Max - depth_ * x_reach * w_reach_;
  for (const int32_t bias : bias_) {
    if (std::abs(int64_t{bias}) > room) return;
  }
  for (size_t i = 0; i < bias_.size(); ++i) {
    const auto bias = static_cast<uint32_t>(bias_[i]);
    offset_[i] = static_cast<int32_t>(static_cast<uint32_t>(offset_[i]) + bias);
    offset_flipped_[i] = static_cast<int32_t>(static_cast<uint32_t>(offset_flipped_[i]) + bias);
  }
  bias_.clear();
}

void Output::prepare_bounds() {
  const qk_output& s = spec_;
  if (kind_ == Epilogue::kFloat) {
    const bool clip = s.activation == QK_CLIP;
    lo_f_ = clip ? s.activation_lo : -std::numeric_limits<float>::infinity();
    hi_f_ = clip ? s.activation_hi : std::numeric_limits<float>::infinity();
    return;
  }
  if (kind_ == Epilogue::kInt32) return;
  lo_ = lowest(s.out_dtype);
  hi_ = highest(s.out_dtype);
  if (s.activation == QK_CLIP) {
    lo_ = bound(s.activation_lo, s.out_scale, s.out_zero_point, s.out_dtype);
    hi_ = bound(s.activation_hi, s.out_scale, s.out_zero_point, s.out_dtype);
  }
  lo_ -= s.out_zero_point;
  hi_ -= s.out_zero_point;
  lo_f_ = static_cast<float>(lo_);
  hi_f_ = static_cast<float>(hi_);
}

qk_status Output::prepare(const qk_packed& packed, const qk_output& output) {
  spec_ = output;
  QK_RETURN_IF_ERROR(check(packed));
  const auto w_dtype = static_cast<qk_dtype>(packed.header.dtype);
  depth_ = packed.header.k;
  w_reach_ = reach(w_dtype, 0);
  if (packed.is_depthwise()) {
    for (int64_t n = 0; n < packed.header.n; ++n) {
      w_reach_ = std::max(w_reach_, reach(w_dtype, packed.zero_points()[n]));
    }
  } else {
    for (size_t i = 0; i < output.n_w_zero_point; ++i) {
      const int64_t reached = reach(w_dtype, output.w_zero_point[i]);
      w_reach_ = i == 0 ? reached : std::max(w_reach_, reached);
    }
  }
  QK_RETURN_IF_ERROR(check_depth(spec_.x_zero_point));
  if (output.out_dtype == QK_FLOAT32) {
    kind_ = Epilogue::kFloat;
  } else if (output.out_dtype != QK_INT32) {
    kind_ = output.rounding == QK_NEAREST_EVEN  ? Epilogue::kNearest
            : output.rounding == QK_FIXED_POINT ? Epilogue::kFixed
                                                : Epilogue::kFixedSingle;
  }
  if (output.activation >= QK_GELU) {
    curve_ = static_cast<Curve>(output.activation - QK_GELU + static_cast<int>(Curve::kGelu));
  }
  QK_RETURN_IF_ERROR(prepare_scales(packed));
  QK_RETURN_IF_ERROR(prepare_bias(packed));
  prepare_offsets(packed);
  merge_bias();
  prepare_bounds();
  // The caller's arrays end with this call.
  spec_.w_scale = spec_.bias_f = nullptr;
  spec_.w_zero_point = spec_.bias_i = nullptr;
  return QK_OK;
}

EpilogueArgs Output::arguments(int64_t column, bool flipped) const {
  const auto at = [column](const auto& values) {
    return values.empty() ? nullptr : values.data() + column;
  };
  EpilogueArgs args{};
  args.offset = flipped ? at(offset_flipped_) : at(offset_);
  args.bias = at(bias_);
  args.scale = at(scale_);
  args.bias_f = at(bias_f_);
  args.mantissa = at(mantissa_);
  args.shift = at(shift_);
  args.lo_f = lo_f_;
  args.hi_f = hi_f_;
  args.lo = lo_;
  args.hi = hi_;
  args.zero_point = spec_.out_zero_point;
  return args;
}

}  // namespace qk
