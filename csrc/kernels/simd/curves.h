// SPDX-License-Identifier: Apache-2.0
//
// Activation curves of float output, in place: one order of operations for all tiers, no FMA, no
// reciprocal estimate, so that every tier gives the same bits. Error below 1e-6 * max(1, |y|); the
// limits at +-infinity are exact, a NaN stays a NaN.
//
//   sigmoid    1 / (1 + e^-x)              hardswish  x * min(max(x + 3, 0), 6) / 6
//   silu       x / (1 + e^-x)              tanh       1 - 2 / (1 + e^2|x|), a polynomial near 0
//   gelu       x * Phi(x), Phi's tail from erfc by Abramowitz & Stegun 7.1.26
//
// e^x: x = n ln 2 + r, |r| <= ln(2) / 2, ln 2 in two parts (Cody & Waite), then 2^n times a
// polynomial in r. The polynomials are minimax fits (relative error 3e-9 and 4e-9 before rounding).
// Bounds stand first in min and max: these give their second operand for a NaN.
// Include after a vec_*.h.
#ifndef QKERNELS_KERNELS_SIMD_CURVES_H
#define QKERNELS_KERNELS_SIMD_CURVES_H

#include "kernels/contract.h"
#include "kernels/simd/tail.h"

namespace qk::QK_TIER {

// c[0] + c[1] x + ... by Horner's rule.
template <uint32_t kCount>
inline VF polynomial(VF x, const float (&c)[kCount]) {
  VF y = splat_f(c[kCount - 1]);
  for (uint32_t i = kCount - 1; i-- > 0;) y = add(mul(y, x), splat_f(c[i]));
  return y;
}

// |x| <= 87: the result is a normal number.
inline VF exp_bounded(VF x) {
  const float kTail[] = {0.49999994f, 0.1666652f, 0.041668393f, 0.008368781f, 0.0013814467f};
  const VI n = to_int(mul(x, splat_f(1.44269504f)));
  const VF nf = to_float(n);
  VF r = sub(x, mul(nf, splat_f(0.693359375f)));  // 9 bits: the product is exact
  r = sub(r, mul(nf, splat_f(-2.12194440e-4f)));
  const VF tail = mul(mul(r, r), polynomial(r, kTail));
  return mul(add(splat_f(1.0f), add(r, tail)), power_of_two(n));
}

// e^x is within float32, and 1 + e^x exact enough, on [-kExpLimit, kExpLimit].
constexpr float kExpLimit = 87.0f;

// 1 + e^-x.
inline VF sigmoid_denominator(VF x) {
  const VF bounded = min(splat_f(kExpLimit), max(splat_f(-kExpLimit), x));
  return add(splat_f(1.0f), exp_bounded(sub(splat_f(0.0f), bounded)));
}

inline VF zero_below_limit(VF x, VF y) {
  return select(greater(splat_f(-kExpLimit), x), splat_f(0.0f), y);
}

struct Sigmoid {
  VF operator()(VF x) const {
    return zero_below_limit(x, div(splat_f(1.0f), sigmoid_denominator(x)));
  }
};

struct Silu {
  VF operator()(VF x) const { return zero_below_limit(x, div(x, sigmoid_denominator(x))); }
};

struct Tanh {
  VF operator()(VF x) const {
    const float kNear[] = {-0.3333328f, 0.13331442f, -0.053739715f, 0.020639086f, -0.005704987f};
    const VF a = min(splat_f(10.0f), abs(x));  // tanh(10) rounds to 1
    const VF square = mul(a, a);
    const VF near = add(a, mul(mul(a, square), polynomial(square, kNear)));
    const VF e = exp_bounded(add(a, a));
    const VF far = sub(splat_f(1.0f), div(splat_f(2.0f), add(splat_f(1.0f), e)));
    return copy_sign(select(greater(splat_f(0.625f), a), near, far), x);
  }
};

struct Gelu {
  VF operator()(VF x) const {
    // erfc(z) = (c1 t + ... + c5 t^5) e^(-z^2), t = 1 / (1 + p z); Phi(-a) = erfc(a / sqrt 2) / 2.
    const float kErfc[] = {0.254829592f, -0.284496736f, 1.421413741f, -1.453152027f, 1.061405429f};
    const VF limit = splat_f(13.0f);  // Phi(-13) is far below the smallest normal number
    const VF a = min(limit, abs(x));
    const VF z = mul(a, splat_f(0.70710678f));
    const VF t = div(splat_f(1.0f), add(splat_f(1.0f), mul(z, splat_f(0.3275911f))));
    const VF e = exp_bounded(sub(splat_f(0.0f), mul(z, z)));
    const VF tail = mul(splat_f(0.5f), mul(mul(t, polynomial(t, kErfc)), e));
    const VF missing = select(greater(limit, a), mul(a, tail), splat_f(0.0f));
    const VF negative = sub(splat_f(0.0f), missing);
    return select(greater(splat_f(0.0f), x), negative, sub(x, missing));
  }
};

struct Hardswish {
  VF operator()(VF x) const {
    const VF gate = min(splat_f(6.0f), max(splat_f(0.0f), add(x, splat_f(3.0f))));
    // x is bounded below so that -infinity does not meet the zero gate, and the gate is divided
    // before the product, which then cannot overflow.
    return mul(max(splat_f(-3.0f), x), div(gate, splat_f(6.0f)));
  }
};

template <class F>
inline void curve_panel(void* y, const F& f) {
  for (uint32_t i = 0; i < kVecs; ++i) {
    void* p = bytes_at(y, i * kLanes * 4);
    store_f(p, f(load_f(p)));
  }
}

template <class F>
void curve_run(const ActivateArgs& a, const F& f) {
  size_t i = 0;
  for (; a.n - i >= kPanel; i += kPanel) curve_panel(bytes_at(a.y, i * 4), f);
  if (i < a.n) {
    PanelTail<4> tail(bytes_at(a.y, i * 4), a.n - i);
    curve_panel(tail.data, f);
    copy_tail<kPanel * 4>(bytes_at(a.y, i * 4), tail.data, (a.n - i) * 4);
  }
}

inline void run_activate(const ActivateArgs& a) {
  switch (a.curve) {
    case Curve::kNone:
      return;
    case Curve::kGelu:
      return curve_run(a, Gelu());
    case Curve::kSilu:
      return curve_run(a, Silu());
    case Curve::kTanh:
      return curve_run(a, Tanh());
    case Curve::kSigmoid:
      return curve_run(a, Sigmoid());
    case Curve::kHardswish:
      return curve_run(a, Hardswish());
  }
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_CURVES_H
