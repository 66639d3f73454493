// SPDX-License-Identifier: Apache-2.0
//
// What a prepared op knows about its output: checked once, expanded to per-column arrays in the
// order of the packed columns, so that running it computes nothing per column.
#ifndef QKERNELS_OPS_OUTPUT_H
#define QKERNELS_OPS_OUTPUT_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/contract.h"
#include "pack/layout.h"
#include "qkernels/qkernels.h"

namespace qk {

constexpr int64_t kInt32Max = 0x7fffffff;

size_t dtype_size(qk_dtype dtype);
inline bool is_real(qk_dtype dtype) { return dtype >= QK_FLOAT32; }
inline Real real_of(qk_dtype dtype) { return static_cast<Real>(dtype - QK_FLOAT32); }
inline int32_t lowest(qk_dtype dtype) { return dtype == QK_UINT8 ? 0 : -128; }
inline int32_t highest(qk_dtype dtype) { return dtype == QK_UINT8 ? 255 : 127; }

// mantissa * 2^(shift - 31) ~ multiplier, mantissa in [2^30, 2^31) or 0: TFLite's QuantizeMultiplier
// (tensorflow/lite/kernels/internal/quantization_util.cc): round half away from zero, and multipliers
// below 2^-32 are 0. By the bits, as a call may have one a channel.
inline void quantize_multiplier(double multiplier, int32_t* mantissa, int32_t* shift) {
  uint64_t bits = 0;
  std::memcpy(&bits, &multiplier, sizeof(bits));
  // multiplier = fraction * 2^(exponent - 53), fraction in [2^52, 2^53).
  auto exponent = static_cast<int32_t>(bits >> 52) - 1022;
  const uint64_t fraction = (bits & ((uint64_t{1} << 52) - 1)) | (uint64_t{1} << 52);
  uint64_t fixed = (fraction + (uint64_t{1} << 21)) >> 22;
  if (fixed == uint64_t{1} << 31) {
    fixed /= 2;
    ++exponent;
  }
  const bool vanishes = exponent < -31;
  *mantissa = vanishes ? 0 : static_cast<int32_t>(fixed);
  *shift = vanishes ? 0 : exponent;
}

// All finite and positive?
qk_status check_scales(const float* scale, int64_t n);

// Zero points move by this when the kernel reads activations with the sign bit flipped.
inline int32_t flip_offset(bool x_signed) { return x_signed ? 128 : -128; }

class Output {
 public:
  // Checks `output` against the weights and expands it.
  qk_status prepare(const qk_packed& packed, const qk_output& output);

  // The epilogue's arguments for a block of columns that starts at padded column `column`; the
  // caller adds the tile, the destination and, for float output, row_scale.
  EpilogueArgs arguments(int64_t column, bool flipped) const;

  const qk_output& spec() const { return spec_; }
  Epilogue kind() const { return kind_; }
  Curve curve() const { return curve_; }
  bool dynamic() const { return is_real(spec_.x_dtype); }
  bool x_signed() const { return spec_.x_dtype != QK_UINT8; }
  bool asymmetric_weights() const { return !outer_w_.empty(); }

  // acc += -row_sum(x)[m] * outer_weight()[n] where weights have zero points.
  const int32_t* outer_weight(int64_t column) const { return outer_w_.data() + column; }
  // acc += zero_point[m] * outer_row()[n] where rows have zero points of their own; offsets are then
  // those of zero point 0 (x_zero_point is 0).
  const int32_t* outer_row(int64_t column) const { return outer_row_.data() + column; }

  // Is every multiplier of a row of this scale finite?
  bool finite_with(float row_scale) const;

  // The K bound of docs/numerics.md for an activation zero point.
  qk_status check_depth(int32_t x_zero_point) const;

 private:
  qk_status check(const qk_packed& packed) const;
  qk_status prepare_scales(const qk_packed& packed);
  qk_status prepare_bias(const qk_packed& packed);
  void prepare_offsets(const qk_packed& packed);
  void merge_bias();
  void prepare_bounds();

  qk_output spec_{};
  Epilogue kind_ = Epilogue::kInt32;
  Curve curve_ = Curve::kNone;
  int64_t depth_ = 0;
  int64_t w_reach_ = 0;                  // largest |w - zero_point| that the dtype allows
  std::vector<int32_t> offset_;          // x read as it is
  std::vector<int32_t> offset_flipped_;  // x read with its sign bit flipped
  std::vector<int32_t> outer_w_;
  std::vector<int32_t> outer_row_;
  std::vector<int32_t> bias_;
  std::vector<float> bias_f_;
  std::vector<float> scale_;
  float largest_scale_ = 0;
  std::vector<int32_t> mantissa_;
  std::vector<int32_t> shift_;
  float lo_f_ = 0;
  float hi_f_ = 0;
  int32_t lo_ = 0;
  int32_t hi_ = 0;
};

}  // namespace qk

#endif  // QKERNELS_OPS_OUTPUT_H
