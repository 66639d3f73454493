// SPDX-License-Identifier: Apache-2.0
//
// Curves: error against float64 over the float32 range, limits, and the same bits on every tier.
// pack_lhs: every byte, padding, sums, and nothing beyond.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "test.h"

namespace qk::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr Curve kCurves[] = {Curve::kGelu, Curve::kSilu, Curve::kTanh, Curve::kSigmoid,
                             Curve::kHardswish};

double definition(Curve curve, double x) {
  switch (curve) {
    case Curve::kGelu:
      return x == -HUGE_VAL ? 0.0 : 0.5 * x * std::erfc(-x * 0.70710678118654752440);
    case Curve::kSilu:
      return x == -HUGE_VAL ? 0.0 : x / (1.0 + std::exp(-x));
    case Curve::kTanh:
      return std::tanh(x);
    case Curve::kSigmoid:
      return 1.0 / (1.0 + std::exp(-x));
    case Curve::kHardswish:
      return x <= -3.0 ? 0.0 : x >= 3.0 ? x : x * (x + 3.0) / 6.0;
    case Curve::kNone:
      return x;
  }
  return x;
}

const ResolvedTier& scalar_tier() {
  for (size_t i = 0; i < tier_count(); ++i) {
    if (std::strcmp(tier_info(i).name, "scalar") == 0) return resolved(i);
  }
  std::abort();
}

void activate(const ResolvedTier& tier, std::vector<float>& y, Curve curve) {
  const ActivateArgs args = {y.data(), y.size(), curve};
  call(tier.table.activate, &args);
}

// A prime step through the bit patterns, and each neighbourhood where a formula changes.
std::vector<float> samples() {
  std::vector<float> x = {0.0f, -0.0f, kInfinity, -kInfinity};
  for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 4093) {
    const float v = float_of(static_cast<uint32_t>(bits));
    if (!std::isnan(v)) x.push_back(v);
  }
  for (const float v : {0.625f, 3.0f, 6.0f, 9.0f, 10.0f, 13.0f, 43.5f, 87.0f, 88.0f, 104.0f}) {
    for (int32_t ulp = -20; ulp <= 20; ++ulp) {
      const float near = float_of(bits_of(v) + static_cast<uint32_t>(ulp));
      x.push_back(near);
      x.push_back(-near);
    }
  }
  for (int i = -120000; i <= 120000; ++i) x.push_back(static_cast<float>(i) / 8192.0f);
  return x;
}

QK_TEST(curve_errors_and_same_bits) {
  const std::vector<float> x = samples();
  for (const Curve curve : kCurves) {
    std::vector<float> reference = x;
    activate(scalar_tier(), reference, curve);
    set_context("scalar curve=%d", int(curve));
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = definition(curve, x[i]);
      if (std::isinf(exact)) {
        CHECK_SAME_FLOAT(reference[i], static_cast<float>(exact));
      } else {
        const double error = std::fabs(reference[i] - exact);
        if (!CHECK(error <= 1e-6 * std::max(1.0, std::fabs(exact)))) {
          std::fprintf(stderr, "  x = %.9g, y = %.9g, exact %.9g\n", x[i], reference[i], exact);
        }
      }
    }
    for_each_tier([&](const char* name, const ResolvedTier& tier) {
      std::vector<float> y = x;
      activate(tier, y, curve);
      for (size_t i = 0; i < x.size(); ++i) {
        if (bits_of(y[i]) == bits_of(reference[i])) continue;
        set_context("%s curve=%d x=%.9g", name, int(curve), x[i]);
        CHECK_SAME_FLOAT(y[i], reference[i]);
      }
    });
  }
}

QK_TEST(curve_limits) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    for (const Curve curve : kCurves) {
      set_context("%s curve=%d", name, int(curve));
      std::vector<float> y = {kInfinity, -kInfinity, std::nanf("")};
      activate(tier, y, curve);
      const bool bounded = curve == Curve::kTanh || curve == Curve::kSigmoid;
      CHECK(y[0] == (bounded ? 1.0f : kInfinity));
      CHECK(y[1] == (curve == Curve::kTanh ? -1.0f : 0.0f));
      CHECK(std::isnan(y[2]));
    }
  });
}

QK_TEST(curve_tails) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    for (const Curve curve : {Curve::kNone, Curve::kGelu, Curve::kSilu, Curve::kTanh,
                              Curve::kSigmoid, Curve::kHardswish}) {
      for (size_t n = 0; n <= 70; ++n) {
        set_context("%s curve=%d n=%zu", name, int(curve), n);
        Random random(n);
        const Guarded y(n * 4, n % 2);
        std::vector<float> expected(n);
        for (size_t i = 0; i < n; ++i) {
          y.as<float>()[i] = random.real(-8.0f, 8.0f);
          std::vector<float> one = {y.as<float>()[i]};
          activate(scalar_tier(), one, curve);
          expected[i] = one[0];
        }
        const ActivateArgs args = {y.as<float>(), n, curve};
        call(tier.table.activate, &args);
        for (size_t i = 0; i < n; ++i) CHECK_SAME_FLOAT(y.as<float>()[i], expected[i]);
      }
    }
  });
}

void check_pack(const Tier& tier, uint32_t rows, uint32_t k, uint32_t k_pad, uint32_t seed,
                bool src_signed, Lhs to) {
  Random random(seed);
  const size_t element = to == Lhs::kS16 ? 2 : 1;
  const size_t src_pitch = k + seed % 3, dst_pitch = k_pad * element + seed % 4 * element;
  const Guarded src(rows == 0 ? 0 : (rows - 1) * src_pitch + k, seed % 2);
  const Guarded dst(rows == 0 ? 0 : (rows - 1) * dst_pitch + k_pad * element, seed % 5 == 0);
  const Guarded sums(rows * 4);
  for (size_t i = 0; i < src.size(); ++i) {
    src.data()[i] = static_cast<uint8_t>(seed % 7 == 0 ? 0x80 : random.next());
  }
  const bool backwards = seed % 3 == 0 && rows > 0;
  PackLhsArgs args{};
  args.src = src.data() + (backwards ? (rows - 1) * src_pitch : 0);
  args.src_stride = backwards ? -static_cast<ptrdiff_t>(src_pitch) : src_pitch;
  args.dst = dst.data();
  args.dst_stride = dst_pitch;
  args.rows = rows;
  args.k = k;
  args.k_pad = k_pad;
  args.src_signed = src_signed;
  args.to = to;
  args.row_sums = seed % 4 == 1 ? nullptr : sums.as<int32_t>();
  call(tier.pack_lhs, &args);
  for (uint32_t row = 0; row < rows; ++row) {
    const uint8_t* from =
        static_cast<const uint8_t*>(args.src) + static_cast<ptrdiff_t>(row) * args.src_stride;
    const uint8_t* packed = dst.data() + row * dst_pitch;
    int32_t sum = 0;
    for (uint32_t i = 0; i < k_pad; ++i) {
      const int value = i >= k ? 0 : src_signed ? static_cast<int8_t>(from[i]) : from[i];
      sum += value;
      if (to == Lhs::kS16) {
        int16_t wide;
        std::memcpy(&wide, packed + i * 2, 2);
        CHECK_EQUAL(int{wide}, value);
      } else {
        const bool flip = i < k && src_signed != (to == Lhs::kS8);
        CHECK_EQUAL(int{packed[i]}, int{static_cast<uint8_t>(flip ? value + 128 : value)});
      }
    }
    if (args.row_sums != nullptr) CHECK_EQUAL(args.row_sums[row], sum);
    if (row + 1 < rows) {
      CHECK(std::all_of(packed + k_pad * element, packed + dst_pitch,
                        [](uint8_t b) { return b == Guarded::kFill; }));
    }
  }
}

QK_TEST(pack_lhs) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    uint32_t seed = 0;
    for (const bool src_signed : {false, true}) {
      for (const Lhs to : {Lhs::kS8, Lhs::kU8, Lhs::kS16}) {
        for (const uint32_t rows : {0u, 1u, 3u}) {
          for (uint32_t k = 0; k <= 600; k += k < 140 ? 1 : 113) {
            for (const uint32_t unit : {1u, 4u, 64u}) {
              const uint32_t k_pad = (k + unit - 1) / unit * unit;
              set_context("%s signed=%d to=%d rows=%u k=%u k_pad=%u", name, src_signed, int(to),
                          rows, k, k_pad);
              check_pack(tier.table, rows, k, k_pad, ++seed, src_signed, to);
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace qk::test
