// SPDX-License-Identifier: Apache-2.0
//
// An int32 tile to its output, the one text for all tiers; the formulas are in contract.h.
// Columns go by in panels of kPanel whose parameters stay in registers while rows pass under them:
//
//     offset bias scale ...   loaded once a panel and block of rows
//     acc row  -> v -> kind -> out row
//
// A kind is a small class: constructed from the parameters of a panel, it turns one row's sums
// into kPanel outputs. What varies a call (bias or not) is a template parameter: the loop over a
// row has no branch. Include after a vec_*.h.
#ifndef QKERNELS_KERNELS_SIMD_EPILOGUE_H
#define QKERNELS_KERNELS_SIMD_EPILOGUE_H

#include "kernels/contract.h"
#include "kernels/simd/tail.h"

namespace qk::QK_TIER {

constexpr uint32_t kRowBlock = 16;  // rows a panel's parameters serve: few enough pages for the TLB

inline VI add_saturating(VI a, VI b) {
  const VI sum = add(a, b);
  // Overflow turned the sign if the sum's differs from both operands'.
  const VI turned = bit_and(bit_xor(a, sum), bit_xor(b, sum));
  const VI limit = bit_xor(shift_right(a, splat_i(31)), splat_i(INT32_MAX));
  return select(greater(splat_i(0), turned), limit, sum);
}

inline VI shift_left_saturating(VI v, VI count) {
  const VI shifted = shift_left(v, count);
  const VI limit = bit_xor(shift_right(v, splat_i(31)), splat_i(INT32_MAX));
  return select(equal(shift_right(shifted, count), v), shifted, limit);
}

// v / 2^count, half away from zero, as TFLite's RoundingDivideByPOT. 0 <= count <= 31.
inline VI divide_by_power_of_two(VI v, VI count) {
  const VI mask = bit_xor(shift_left(splat_i(-1), count), splat_i(-1));
  const VI remainder = bit_and(v, mask);
  const VI threshold = sub(shift_right(mask, splat_i(1)), shift_right(v, splat_i(31)));
  const VI down = shift_right(v, count);
  return select(greater(remainder, threshold), add(down, splat_i(1)), down);
}

template <bool kBias>
class Sums {
 public:
  Sums(const EpilogueArgs& e, uint32_t column) {
    for (uint32_t i = 0; i < kVecs; ++i) {
      offset_[i] = load_i(e.offset + column + i * kLanes);
      if (kBias) bias_[i] = load_i(e.bias + column + i * kLanes);
    }
  }
  VI operator()(const int32_t* acc, uint32_t i) const {
    const VI v = add(load_i(acc + i * kLanes), offset_[i]);
    return kBias ? add_saturating(v, bias_[i]) : v;
  }

 private:
  VI offset_[kVecs];
  VI bias_[kBias ? kVecs : 1];
};

class KindInt32 {
 public:
  static constexpr size_t kOutSize = sizeof(int32_t);
  KindInt32(const EpilogueArgs&, uint32_t) {}

  template <class SumsT>
  void run(const SumsT& sums, const int32_t* acc, const EpilogueArgs&, uint32_t, void* out) const {
    for (uint32_t i = 0; i < kVecs; ++i) store_i(bytes_at(out, i * kLanes * 4), sums(acc, i));
  }
};

template <bool kBiasF, bool kClamp>
class KindFloat {
 public:
  static constexpr size_t kOutSize = sizeof(float);
  KindFloat(const EpilogueArgs& e, uint32_t column) : lo_(splat_f(e.lo_f)), hi_(splat_f(e.hi_f)) {
    for (uint32_t i = 0; i < kVecs; ++i) {
      scale_[i] = load_f(e.scale + column + i * kLanes);
      if (kBiasF) bias_[i] = load_f(e.bias_f + column + i * kLanes);
    }
  }

  template <class SumsT>
  void run(const SumsT& sums, const int32_t* acc, const EpilogueArgs& e, uint32_t row,
           void* out) const {
    const VF row_scale = splat_f(e.row_scale[row]);
    for (uint32_t i = 0; i < kVecs; ++i) {
      VF y = mul(to_float(sums(acc, i)), mul(row_scale, scale_[i]));
      if (kBiasF) y = add(y, bias_[i]);
      if (kClamp) y = min(hi_, max(lo_, y));
      store_f(bytes_at(out, i * kLanes * 4), y);
    }
  }

 private:
  VF scale_[kVecs];
  VF bias_[kBiasF ? kVecs : 1];
  VF lo_, hi_;
};

class KindNearest {
 public:
  static constexpr size_t kOutSize = 1;
  KindNearest(const EpilogueArgs& e, uint32_t column)
      : lo_(splat_f(e.lo_f)), hi_(splat_f(e.hi_f)), zero_point_(splat_i(e.zero_point)) {
    for (uint32_t i = 0; i < kVecs; ++i) scale_[i] = load_f(e.scale + column + i * kLanes);
  }

  template <class SumsT>
  void run(const SumsT& sums, const int32_t* acc, const EpilogueArgs&, uint32_t, void* out) const {
    VI q[kVecs];
    for (uint32_t i = 0; i < kVecs; ++i) {
      const VF t = mul(to_float(sums(acc, i)), scale_[i]);
      q[i] = add(to_int(min(max(t, lo_), hi_)), zero_point_);
    }
    store_panel_bytes(out, q);
  }

 private:
  VF scale_[kVecs];
  VF lo_, hi_;
  VI zero_point_;
};

// TFLite's MultiplyByQuantizedMultiplier with double rounding. A right shift above 31 counts as 31.
class KindFixed {
 public:
  static constexpr size_t kOutSize = 1;
  KindFixed(const EpilogueArgs& e, uint32_t column)
      : lo_(splat_i(e.lo)), hi_(splat_i(e.hi)), zero_point_(splat_i(e.zero_point)) {
    for (uint32_t i = 0; i < kVecs; ++i) {
      const VI shift = load_i(e.shift + column + i * kLanes);
      mantissa_[i] = load_i(e.mantissa + column + i * kLanes);
      left_[i] = max(shift, splat_i(0));
      right_[i] = min(max(sub(splat_i(0), shift), splat_i(0)), splat_i(31));
    }
  }

  template <class SumsT>
  void run(const SumsT& sums, const int32_t* acc, const EpilogueArgs&, uint32_t, void* out) const {
    VI q[kVecs];
    for (uint32_t i = 0; i < kVecs; ++i) {
      const VI product =
          mul_high_round(shift_left_saturating(sums(acc, i), left_[i]), mantissa_[i]);
      const VI y = divide_by_power_of_two(product, right_[i]);
      q[i] = add(min(max(y, lo_), hi_), zero_point_);
    }
    store_panel_bytes(out, q);
  }

 private:
  VI mantissa_[kVecs], left_[kVecs], right_[kVecs];
  VI lo_, hi_, zero_point_;
};

// One rounding: s = 31 - shift; above 62 the result is 0, below 0 the product is shifted left.
class KindFixedSingle {
 public:
  static constexpr size_t kOutSize = 1;
  KindFixedSingle(const EpilogueArgs& e, uint32_t column)
      : lo_(splat_i(e.lo)), hi_(splat_i(e.hi)), zero_point_(splat_i(e.zero_point)) {
    for (uint32_t i = 0; i < kVecs; ++i) {
      // Beyond these bounds nothing changes any more; inside them 31 - shift cannot overflow.
      const VI shift = min(max(load_i(e.shift + column + i * kLanes), splat_i(-32)), splat_i(63));
      const VI s = sub(splat_i(31), shift);
      const VI mantissa = load_i(e.mantissa + column + i * kLanes);
      mantissa_[i] = select(greater(s, splat_i(62)), splat_i(0), mantissa);
      right_[i] = min(max(s, splat_i(0)), splat_i(62));
      left_[i] = max(sub(splat_i(0), s), splat_i(0));
    }
  }

  template <class SumsT>
  void run(const SumsT& sums, const int32_t* acc, const EpilogueArgs&, uint32_t, void* out) const {
    VI q[kVecs];
    for (uint32_t i = 0; i < kVecs; ++i) {
      const VI y =
          shift_left_saturating(mul_shift_round(sums(acc, i), mantissa_[i], right_[i]), left_[i]);
      q[i] = add(min(max(y, lo_), hi_), zero_point_);
    }
    store_panel_bytes(out, q);
  }

 private:
  VI mantissa_[kVecs], left_[kVecs], right_[kVecs];
  VI lo_, hi_, zero_point_;
};

template <class Kind, bool kBias, bool kWhole>
void run_panel(const EpilogueArgs& e, uint32_t row, uint32_t row_end, uint32_t column) {
  const Kind kind(e, column);
  const Sums<kBias> sums(e, column);
  const ptrdiff_t out_column = static_cast<ptrdiff_t>(column * Kind::kOutSize);
  for (; row < row_end; ++row) {
    const int32_t* acc = static_cast<const int32_t*>(static_cast<const void*>(
                             bytes_at(e.acc, static_cast<ptrdiff_t>(row) * e.acc_stride))) +
                         column;
    uint8_t* out = bytes_at(e.out, static_cast<ptrdiff_t>(row) * e.out_stride + out_column);
    if (kWhole) {
      kind.run(sums, acc, e, row, out);
    } else {
      alignas(64) uint8_t whole[kPanel * Kind::kOutSize];
      kind.run(sums, acc, e, row, whole);
      copy_tail<kPanel * Kind::kOutSize>(out, whole, (e.n - column) * Kind::kOutSize);
    }
  }
}

template <class Kind, bool kBias>
void run_rows(const EpilogueArgs& e) {
  for (uint32_t row = 0; row < e.m; row += kRowBlock) {
    const uint32_t row_end = e.m - row < kRowBlock ? e.m : row + kRowBlock;
    uint32_t column = 0;
    for (; e.n - column >= kPanel; column += kPanel) {
      run_panel<Kind, kBias, true>(e, row, row_end, column);
    }
    if (column < e.n) run_panel<Kind, kBias, false>(e, row, row_end, column);
  }
}

template <class Kind>
void run_epilogue(const EpilogueArgs& e) {
  if (e.bias != nullptr) {
    run_rows<Kind, true>(e);
  } else {
    run_rows<Kind, false>(e);
  }
}

template <bool kClamp>
void run_float_clamped(const EpilogueArgs& e) {
  if (e.bias_f != nullptr) {
    run_epilogue<KindFloat<true, kClamp>>(e);
  } else {
    run_epilogue<KindFloat<false, kClamp>>(e);
  }
}

inline void run_float(const EpilogueArgs& e) {
  constexpr float kMost = 3.402823466e+38f;
  if (e.lo_f < -kMost && e.hi_f > kMost) {  // infinite bounds change nothing
    run_float_clamped<false>(e);
  } else {
    run_float_clamped<true>(e);
  }
}

inline void run_outer(const OuterArgs& o) {
  for (uint32_t row = 0; row < o.m; ++row) {
    void* acc = bytes_at(o.acc, static_cast<ptrdiff_t>(row) * o.acc_stride);
    const VI factor = splat_i(o.row[row]);
    for (uint32_t column = 0; column < o.n; column += kPanel) {
      for (uint32_t i = 0; i < kVecs; ++i) {
        void* p = bytes_at(acc, static_cast<ptrdiff_t>(column + i * kLanes) * 4);
        store_i(p, add(load_i(p), mul(factor, load_i(o.col + column + i * kLanes))));
      }
    }
  }
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_EPILOGUE_H
