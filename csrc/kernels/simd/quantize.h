// SPDX-License-Identifier: Apache-2.0
//
// Runs of reals to codes and back, written once: quantize, dequantize, the range of a run, and the
// dynamic row formula. Bound by memory and by the divider; a step is one panel of kPanel elements.
// quantize divides, as ONNX QuantizeLinear does: a reciprocal would round differently.
// Include after a vec_*.h.
#ifndef QKERNELS_KERNELS_SIMD_QUANTIZE_H
#define QKERNELS_KERNELS_SIMD_QUANTIZE_H

#include "kernels/contract.h"
#include "kernels/simd/tail.h"

namespace qk::QK_TIER {

template <Real kReal>
constexpr size_t kRealSize = kReal == Real::kFloat32 ? 4 : 2;

template <Code kCode>
constexpr size_t kCodeSize = kCode == Code::kInt32 ? 4 : 1;

template <Real kReal>
inline VF load_real(const void* p) {
  if constexpr (kReal == Real::kFloat32) {
    return load_f(p);
  } else if constexpr (kReal == Real::kFloat16) {
    return load_f16(p);
  } else {
    return load_bf16(p);
  }
}

template <Code kCode>
inline VI load_code(const void* p) {
  if constexpr (kCode == Code::kInt32) {
    return load_i(p);
  } else if constexpr (kCode == Code::kInt8) {
    return load_s8(p);
  } else {
    return load_u8(p);
  }
}

// Scale and zero point of element i: one pair for all, or arrays of them.
template <bool kPerElement>
class Affine;

template <>
class Affine<false> {
 public:
  Affine(const float* scale, const int32_t* zero_point)
      : scale_(splat_f(*scale)), zero_point_(splat_i(*zero_point)) {}
  VF scale(size_t) const { return scale_; }
  VI zero_point(size_t) const { return zero_point_; }

 private:
  VF scale_;
  VI zero_point_;
};

template <>
class Affine<true> {
 public:
  Affine(const float* scale, const int32_t* zero_point) : scale_(scale), zero_point_(zero_point) {}
  VF scale(size_t i) const { return load_f(scale_ + i); }
  VI zero_point(size_t i) const { return load_i(zero_point_ + i); }

 private:
  const float* scale_;
  const int32_t* zero_point_;
};

// Scales and zero points of the last 1..15 elements.
template <bool kPerElement>
struct AffineTail {
  AffineTail(const float* scale, const int32_t* zero_point, size_t first, size_t count)
      : scales(scale + (kPerElement ? first : 0), kPerElement ? count : 1),
        zero_points(zero_point + (kPerElement ? first : 0), kPerElement ? count : 1) {}
  Affine<kPerElement> affine() const {
    return {static_cast<const float*>(static_cast<const void*>(scales.data)),
            static_cast<const int32_t*>(static_cast<const void*>(zero_points.data))};
  }
  PanelTail<4> scales, zero_points;
};

template <Real kReal, bool kPerElement>
inline void quantize_panel(const void* src, void* dst, const Affine<kPerElement>& affine,
                           size_t first, VI lo, VI hi, VM* nan) {
  VI q[kVecs];
  for (uint32_t i = 0; i < kVecs; ++i) {
    const size_t at = first + i * kLanes;
    const VF x = load_real<kReal>(bytes_at(src, i * kLanes * kRealSize<kReal>));
    const VI zero_point = affine.zero_point(at);
    *nan = either(*nan, is_nan(x));
    // Bounds as second operands: a NaN becomes the lower one.
    const VF t = max(div(x, affine.scale(at)), to_float(sub(lo, zero_point)));
    q[i] = add(to_int(min(t, to_float(sub(hi, zero_point)))), zero_point);
  }
  store_panel_bytes(dst, q);
}

template <Real kReal, bool kPerElement>
void quantize_run(const QuantizeArgs& a) {
  const Affine<kPerElement> affine(a.scale, a.zero_point);
  const VI lo = splat_i(a.lo), hi = splat_i(a.hi);
  VM nan = no_lane();
  size_t i = 0;
  for (; a.n - i >= kPanel; i += kPanel) {
    quantize_panel<kReal>(bytes_at(a.src, i * kRealSize<kReal>), bytes_at(a.dst, i), affine, i, lo,
                          hi, &nan);
  }
  if (i < a.n) {
    const size_t count = a.n - i;
    const PanelTail<kRealSize<kReal>> src(bytes_at(a.src, i * kRealSize<kReal>), count);
    const AffineTail<kPerElement> tail(a.scale, a.zero_point, i, count);
    uint8_t dst[kPanel];
    quantize_panel<kReal>(src.data, dst, tail.affine(), 0, lo, hi, &nan);
    copy_tail<kPanel>(bytes_at(a.dst, i), dst, count);
  }
  if (any(nan)) *a.nan = 1;
}

template <Real kReal>
void quantize_real(const QuantizeArgs& a) {
  if (a.per_element) {
    quantize_run<kReal, true>(a);
  } else {
    quantize_run<kReal, false>(a);
  }
}

inline void run_quantize(const QuantizeArgs& a) {
  switch (a.type) {
    case Real::kFloat32:
      return quantize_real<Real::kFloat32>(a);
    case Real::kFloat16:
      return quantize_real<Real::kFloat16>(a);
    case Real::kBFloat16:
      return quantize_real<Real::kBFloat16>(a);
  }
}

template <Code kCode, bool kPerElement>
inline void dequantize_panel(const void* src, void* dst, const Affine<kPerElement>& affine,
                             size_t first) {
  for (uint32_t i = 0; i < kVecs; ++i) {
    const size_t at = first + i * kLanes;
    const VI q = load_code<kCode>(bytes_at(src, i * kLanes * kCodeSize<kCode>));
    const VI zero_point = affine.zero_point(at);
    VF d;
    if constexpr (kCode == Code::kInt32) {
      d = difference(q, zero_point);
    } else {
      d = to_float(sub(q, zero_point));
    }
    store_f(bytes_at(dst, i * kLanes * 4), mul(d, affine.scale(at)));
  }
}

template <Code kCode, bool kPerElement>
void dequantize_run(const DequantizeArgs& a) {
  const Affine<kPerElement> affine(a.scale, a.zero_point);
  size_t i = 0;
  for (; a.n - i >= kPanel; i += kPanel) {
    dequantize_panel<kCode>(bytes_at(a.src, i * kCodeSize<kCode>), bytes_at(a.dst, i * 4), affine,
                            i);
  }
  if (i < a.n) {
    const size_t count = a.n - i;
    const PanelTail<kCodeSize<kCode>> src(bytes_at(a.src, i * kCodeSize<kCode>), count);
    const AffineTail<kPerElement> tail(a.scale, a.zero_point, i, count);
    alignas(64) uint8_t dst[kPanel * 4];
    dequantize_panel<kCode>(src.data, dst, tail.affine(), 0);
    copy_tail<kPanel * 4>(bytes_at(a.dst, i * 4), dst, count * 4);
  }
}

template <Code kCode>
void dequantize_code(const DequantizeArgs& a) {
  if (a.per_element) {
    dequantize_run<kCode, true>(a);
  } else {
    dequantize_run<kCode, false>(a);
  }
}

inline void run_dequantize(const DequantizeArgs& a) {
  switch (a.type) {
    case Code::kInt8:
      return dequantize_code<Code::kInt8>(a);
    case Code::kUInt8:
      return dequantize_code<Code::kUInt8>(a);
    case Code::kInt32:
      return dequantize_code<Code::kInt32>(a);
  }
}

inline float infinity() {
  const uint32_t bits = 0x7f800000u;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// NaN counts for `finite` alone: the others are the extremes of the rest, in whatever order.
template <Real kReal>
void range_run(RangeArgs& a) {
  constexpr size_t kSize = kRealSize<kReal>;
  constexpr size_t kUnroll = 4;  // as many chains as hide the latency of min and max
  VF lowest[kUnroll], highest[kUnroll];
  VM nan = no_lane();
  for (size_t u = 0; u < kUnroll; ++u) {
    lowest[u] = splat_f(infinity());
    highest[u] = splat_f(-infinity());
  }
  const auto step = [&](const void* src, size_t u) {
    const VF x = load_real<kReal>(src);
    nan = either(nan, is_nan(x));
    lowest[u] = min(x, lowest[u]);
    highest[u] = max(x, highest[u]);
  };
  size_t i = 0;
  for (; a.n - i >= kUnroll * kLanes; i += kUnroll * kLanes) {
    for (size_t u = 0; u < kUnroll; ++u) step(bytes_at(a.src, (i + u * kLanes) * kSize), u);
  }
  for (; a.n - i >= kLanes; i += kLanes) step(bytes_at(a.src, i * kSize), 0);
  if (i < a.n) step(PanelTail<kSize>(bytes_at(a.src, i * kSize), a.n - i).data, 0);

  for (size_t u = 1; u < kUnroll; ++u) {
    lowest[0] = min(lowest[0], lowest[u]);
    highest[0] = max(highest[0], highest[u]);
  }
  float low[kLanes], high[kLanes];
  store_f(low, lowest[0]);
  store_f(high, highest[0]);
  float smallest = infinity(), largest = -infinity();
  for (size_t j = 0; j < kLanes; ++j) {
    smallest = low[j] < smallest ? low[j] : smallest;
    largest = high[j] > largest ? high[j] : largest;
  }
  a.min = smallest + 0.0f;  // -0 becomes +0: which of the two came first depends on the lanes
  a.max = largest + 0.0f;
  a.amax = -a.min > a.max ? -a.min : a.max;
  a.finite = !any(nan) && a.min > -infinity() && a.max < infinity();
}

inline void run_range(RangeArgs& a) {
  if (a.n == 0) {
    a.min = a.max = a.amax = 0.0f;
    a.finite = true;
    return;
  }
  switch (a.type) {
    case Real::kFloat32:
      return range_run<Real::kFloat32>(a);
    case Real::kFloat16:
      return range_run<Real::kFloat16>(a);
    case Real::kBFloat16:
      return range_run<Real::kBFloat16>(a);
  }
}

// Bits of |x| compare as integers in the order of the values, NaN above infinity: one maximum finds
// the largest and whether all are finite.
template <Real kReal>
void amax_rows(const AmaxArgs& a) {
  constexpr size_t kSize = kRealSize<kReal>;
  constexpr size_t kUnroll = 4;  // as many chains as hide the latency of max
  const VI magnitude = splat_i(0x7fffffff);
  for (uint32_t row = 0; row < a.rows; ++row) {
    const uint8_t* src = bytes_at(a.src, static_cast<ptrdiff_t>(row) * a.src_stride);
    VI largest[kUnroll];
    for (VI& v : largest) v = splat_i(0);
    const auto step = [&](const void* from, size_t u) {
      largest[u] = max(largest[u], bit_and(bits_of(load_real<kReal>(from)), magnitude));
    };
    size_t i = 0;
    for (; a.k - i >= kUnroll * kLanes; i += kUnroll * kLanes) {
      for (size_t u = 0; u < kUnroll; ++u) step(src + (i + u * kLanes) * kSize, u);
    }
    for (; a.k - i >= kLanes; i += kLanes) step(src + i * kSize, 0);
    if (i < a.k) step(PanelTail<kSize>(src + i * kSize, a.k - i).data, 1);
    const int32_t bits = max_lanes(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
    memcpy(&a.amax[row], &bits, sizeof(bits));
  }
}

inline void run_amax(const AmaxArgs& a) {
  switch (a.type) {
    case Real::kFloat32:
      return amax_rows<Real::kFloat32>(a);
    case Real::kFloat16:
      return amax_rows<Real::kFloat16>(a);
    case Real::kBFloat16:
      return amax_rows<Real::kBFloat16>(a);
  }
}

template <Real kReal, Lhs kTo>
inline void scale_round_panel(const void* src, void* dst, VF inv) {
  VI q[kVecs];
  for (uint32_t i = 0; i < kVecs; ++i) {
    q[i] = to_int(mul(load_real<kReal>(bytes_at(src, i * kLanes * kRealSize<kReal>)), inv));
    if constexpr (kTo == Lhs::kU8) q[i] = bit_xor(q[i], splat_i(0x80));
  }
  if constexpr (kTo == Lhs::kS16) {
    store_panel_words(dst, q);
  } else {
    store_panel_bytes(dst, q);
  }
}

template <Real kReal, Lhs kTo>
void scale_round_rows(const ScaleRoundArgs& a) {
  constexpr size_t kSize = kRealSize<kReal>;
  constexpr size_t kOut = kTo == Lhs::kS16 ? 2 : 1;
  for (uint32_t row = 0; row < a.rows; ++row) {
    const uint8_t* src = bytes_at(a.src, static_cast<ptrdiff_t>(row) * a.src_stride);
    uint8_t* dst = bytes_at(a.dst, static_cast<ptrdiff_t>(row) * a.dst_stride);
    const VF inv = splat_f(a.inv[row]);
    size_t i = 0;
    for (; a.k - i >= kPanel; i += kPanel) {
      scale_round_panel<kReal, kTo>(src + i * kSize, dst + i * kOut, inv);
    }
    if (i < a.k) {
      const PanelTail<kSize> tail(src + i * kSize, a.k - i);
      alignas(64) uint8_t whole[kPanel * kOut];
      scale_round_panel<kReal, kTo>(tail.data, whole, inv);
      copy_tail<kPanel * kOut>(dst + i * kOut, whole, (a.k - i) * kOut);
    }
    if (a.k_pad > a.k) memset(dst + a.k * kOut, 0, (a.k_pad - a.k) * kOut);
  }
}

template <Real kReal>
void scale_round_real(const ScaleRoundArgs& a) {
  switch (a.to) {
    case Lhs::kS8:
      return scale_round_rows<kReal, Lhs::kS8>(a);
    case Lhs::kU8:
      return scale_round_rows<kReal, Lhs::kU8>(a);
    case Lhs::kS16:
      return scale_round_rows<kReal, Lhs::kS16>(a);
  }
}

inline void run_scale_round(const ScaleRoundArgs& a) {
  switch (a.type) {
    case Real::kFloat32:
      return scale_round_real<Real::kFloat32>(a);
    case Real::kFloat16:
      return scale_round_real<Real::kFloat16>(a);
    case Real::kBFloat16:
      return scale_round_real<Real::kBFloat16>(a);
  }
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_QUANTIZE_H
