// SPDX-License-Identifier: Apache-2.0
//
// The five epilogues and the outer update, against their definitions in wide arithmetic: a float32
// product is the float64 product rounded once more (48 bits are exact in 53), integers are int64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "test.h"

namespace qk::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t saturated(int64_t v) {
  return std::min<int64_t>(std::max<int64_t>(v, INT32_MIN), INT32_MAX);
}

int64_t wrapped(int64_t v) { return static_cast<int32_t>(static_cast<uint32_t>(v)); }

int64_t sum_of(const EpilogueArgs& e, const int32_t* acc, uint32_t n) {
  const int64_t v = wrapped(static_cast<int64_t>(acc[n]) + e.offset[n]);
  return e.bias == nullptr ? v : saturated(v + e.bias[n]);
}

float product(float a, float b) {
  return static_cast<float>(static_cast<double>(a) * static_cast<double>(b));
}

float float_output(const EpilogueArgs& e, int64_t v, uint32_t m, uint32_t n) {
  float y = product(static_cast<float>(v), product(e.row_scale[m], e.scale[n]));
  if (e.bias_f != nullptr) {
    const volatile float sum = y + e.bias_f[n];
    y = sum;
  }
  if (e.lo_f > -kInfinity && y < e.lo_f) y = e.lo_f;
  if (e.hi_f < kInfinity && y > e.hi_f) y = e.hi_f;
  return y;
}

int64_t nearest_output(const EpilogueArgs& e, int64_t v, uint32_t n) {
  const double t = product(static_cast<float>(v), e.scale[n]);
  const double clamped = std::min<double>(std::max<double>(t, e.lo_f), e.hi_f);
  return static_cast<int64_t>(std::nearbyint(clamped)) + e.zero_point;
}

// v * 2^shift, saturating at every doubling.
int64_t doubled(int64_t v, int32_t shift) {
  v = saturated(v);
  for (int32_t i = 0; i < std::min(shift, 40); ++i) v = saturated(v * 2);
  return v;
}

// v / 2^shift, half away from zero.
int64_t halved_away(int64_t v, int32_t shift) {
  if (shift == 0) return v;
  const int64_t magnitude = (std::abs(v) + (INT64_C(1) << (shift - 1))) >> shift;
  return v < 0 ? -magnitude : magnitude;
}

int64_t fixed_output(const EpilogueArgs& e, int64_t v, uint32_t n) {
  const int32_t left = std::max(e.shift[n], 0);
  const int32_t right = std::min(std::max(-e.shift[n], 0), 31);
  const int64_t ab = doubled(v, left) * e.mantissa[n];
  const int64_t nudge = ab >= 0 ? INT64_C(1) << 30 : 1 - (INT64_C(1) << 30);
  const int64_t high = saturated((ab + nudge) / (INT64_C(1) << 31));
  const int64_t y = halved_away(high, right);
  return std::min<int64_t>(std::max<int64_t>(y, e.lo), e.hi) + e.zero_point;
}

int64_t fixed_single_output(const EpilogueArgs& e, int64_t v, uint32_t n) {
  const int64_t s = INT64_C(31) - e.shift[n];
  const int64_t ab = v * e.mantissa[n];
  int64_t y = 0;
  if (s <= 0) {
    y = doubled(ab, static_cast<int32_t>(std::min<int64_t>(-s, 40)));
  } else if (s <= 62) {
    y = (ab + (INT64_C(1) << (s - 1))) >> s;
  }
  return std::min<int64_t>(std::max<int64_t>(y, e.lo), e.hi) + e.zero_point;
}

// Parameters of a call in guarded arrays, readable up to whole panels and no further.
class Problem {
 public:
  Problem(uint32_t m, uint32_t n, uint32_t seed)
      : random_(seed),
        columns_((n + kPanel - 1) / kPanel * kPanel),
        acc_(size_t{m} * columns_ * 4),
        offset_(columns_ * 4),
        bias_(columns_ * 4),
        scale_(columns_ * 4),
        bias_f_(columns_ * 4),
        mantissa_(columns_ * 4),
        shift_(columns_ * 4),
        row_scale_(size_t{m} * 4) {
    static const int32_t kMantissas[] = {1 << 30, INT32_MAX, 0, INT32_MIN, (1 << 30) + 1};
    for (size_t i = 0; i < size_t{m} * columns_; ++i) acc_.as<int32_t>()[i] = random_.wild();
    for (uint32_t i = 0; i < columns_; ++i) {
      offset_.as<int32_t>()[i] = random_.wild();
      bias_.as<int32_t>()[i] = random_.wild();
      // Powers of two make ties; the rest spans what multipliers are.
      scale_.as<float>()[i] = i % 3 == 0
                                  ? std::ldexp(1.0f, random_.integer(-20, 2))
                                  : std::ldexp(random_.real(0.5f, 1.0f), random_.integer(-30, 8));
      bias_f_.as<float>()[i] = random_.real(-100.0f, 100.0f);
      mantissa_.as<int32_t>()[i] =
          i % 4 == 0 ? kMantissas[random_.next() % 5] : random_.integer(1 << 30, INT32_MAX);
      shift_.as<int32_t>()[i] = i % 5 == 0 ? random_.integer(-70, 70) : random_.integer(-20, 4);
    }
    for (uint32_t i = 0; i < m; ++i) row_scale_.as<float>()[i] = random_.real(1e-6f, 1e-1f);

    args_.acc = acc_.as<int32_t>();
    args_.acc_stride = static_cast<ptrdiff_t>(columns_) * 4;
    args_.m = m;
    args_.n = n;
    args_.offset = offset_.as<int32_t>();
    args_.bias = seed % 2 ? bias_.as<int32_t>() : nullptr;
    args_.scale = scale_.as<float>();
    args_.bias_f = seed % 3 ? bias_f_.as<float>() : nullptr;
    args_.mantissa = mantissa_.as<int32_t>();
    args_.shift = shift_.as<int32_t>();
    args_.row_scale = row_scale_.as<float>();
    static const int32_t kZeroPoints[] = {0, -128, 127, 5, -1};
    args_.zero_point = kZeroPoints[seed % 5];
    args_.lo = (seed % 4 == 0 ? args_.zero_point : -128) - args_.zero_point;
    args_.hi = 127 - args_.zero_point;
    if (seed % 7 == 0) {  // uint8
      args_.zero_point += 128;
    }
    args_.lo_f = static_cast<float>(args_.lo);
    args_.hi_f = static_cast<float>(args_.hi);
  }

  Random& random() { return random_; }
  EpilogueArgs args() const { return args_; }

 private:
  Random random_;
  uint32_t columns_;
  Guarded acc_, offset_, bias_, scale_, bias_f_, mantissa_, shift_, row_scale_;
  EpilogueArgs args_{};
};

// Runs `kind` into rows of `gap` bytes more than they need, forwards or backwards, and hands each
// element and its place to `check`; what lies between the rows must stay as it was.
template <class Check>
void run_and_check(const Tier& tier, Epilogue kind, EpilogueArgs e, size_t element, size_t gap,
                   bool backwards, Check check) {
  const size_t pitch = e.n * element + gap;
  const Guarded out((e.m - 1) * pitch + e.n * element, backwards);
  e.out = backwards ? out.data() + (e.m - 1) * pitch : out.data();
  e.out_stride = backwards ? -static_cast<ptrdiff_t>(pitch) : static_cast<ptrdiff_t>(pitch);
  call(tier.epilogue[static_cast<int>(kind)], &e);
  for (uint32_t m = 0; m < e.m; ++m) {
    const uint8_t* row = static_cast<uint8_t*>(e.out) + static_cast<ptrdiff_t>(m) * e.out_stride;
    const int32_t* acc = e.acc + static_cast<ptrdiff_t>(m) * (e.acc_stride / 4);
    for (uint32_t n = 0; n < e.n; ++n) check(e, sum_of(e, acc, n), m, n, row + n * element);
  }
  for (uint32_t m = 0; m + 1 < e.m; ++m) {
    const uint8_t* between = out.data() + m * pitch + e.n * element;
    CHECK(std::all_of(between, between + gap, [](uint8_t b) { return b == Guarded::kFill; }));
  }
}

template <class T>
T value_at(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <class F>
void for_each_problem(F f) {
  for_each_tier([&](const char* name, const ResolvedTier& tier) {
    uint32_t seed = 0;
    for (const uint32_t m : {1u, 3u, 16u, 35u}) {
      for (uint32_t n = 1; n <= 70; ++n) {
        const Problem problem(m, n, ++seed);
        set_context("%s m=%u n=%u seed=%u", name, m, n, seed);
        f(tier.table, problem, seed % 2 == 0, seed % 5);
      }
    }
  });
}

QK_TEST(epilogue_int32) {
  for_each_problem([](const Tier& tier, const Problem& p, bool backwards, size_t gap) {
    run_and_check(tier, Epilogue::kInt32, p.args(), 4, gap, backwards,
                  [](const EpilogueArgs&, int64_t v, uint32_t, uint32_t, const uint8_t* out) {
                    CHECK_EQUAL(value_at<int32_t>(out), v);
                  });
  });
}

QK_TEST(epilogue_float) {
  for_each_problem([](const Tier& tier, const Problem& p, bool backwards, size_t gap) {
    static const float kBounds[][2] = {
        {-kInfinity, kInfinity}, {0.0f, kInfinity}, {0.0f, 6.0f}, {-kInfinity, 1.5f}};
    for (const auto& bounds : kBounds) {
      EpilogueArgs e = p.args();
      e.lo_f = bounds[0];
      e.hi_f = bounds[1];
      run_and_check(
          tier, Epilogue::kFloat, e, 4, gap, backwards,
          [](const EpilogueArgs& a, int64_t v, uint32_t m, uint32_t n, const uint8_t* out) {
            CHECK_SAME_FLOAT(value_at<float>(out), float_output(a, v, m, n));
          });
    }
  });
}

template <class Definition>
void check_bytes(Epilogue kind, Definition definition) {
  for_each_problem([&](const Tier& tier, const Problem& p, bool backwards, size_t gap) {
    run_and_check(tier, kind, p.args(), 1, gap, backwards,
                  [&](const EpilogueArgs& e, int64_t v, uint32_t, uint32_t n, const uint8_t* out) {
                    CHECK_EQUAL(int{*out}, int{static_cast<uint8_t>(definition(e, v, n))});
                  });
  });
}

QK_TEST(epilogue_nearest) { check_bytes(Epilogue::kNearest, nearest_output); }

QK_TEST(epilogue_fixed) { check_bytes(Epilogue::kFixed, fixed_output); }

QK_TEST(epilogue_fixed_single) { check_bytes(Epilogue::kFixedSingle, fixed_single_output); }

// Every pair of limits, with bounds wide open so that nothing hides behind the clamp: the low byte
// of the int32 result is compared.
QK_TEST(epilogue_fixed_limits) {
  static const int32_t kValues[] = {INT32_MIN, INT32_MIN + 1, -(1 << 30), -3, -2, -1, 0, 1, 2, 3,
                                    1 << 30,   INT32_MAX - 1, INT32_MAX};
  constexpr uint32_t kCount = sizeof(kValues) / sizeof(kValues[0]);
  const std::vector<int32_t> offset(kPanel, 0);
  for_each_tier([&](const char* name, const ResolvedTier& tier) {
    for (const int32_t mantissa_value : kValues) {
      for (int32_t shift_value = -66; shift_value <= 66; ++shift_value) {
        set_context("%s mantissa=%d shift=%d", name, mantissa_value, shift_value);
        const std::vector<int32_t> mantissa(kPanel, mantissa_value), shift(kPanel, shift_value);
        std::vector<int32_t> acc(kPanel, 0);
        std::copy(kValues, kValues + kCount, acc.begin());
        uint8_t out[kPanel];
        EpilogueArgs e{};
        e.acc = acc.data();
        e.out = out;
        e.m = 1;
        e.n = kPanel;
        e.offset = offset.data();
        e.mantissa = mantissa.data();
        e.shift = shift.data();
        e.lo = INT32_MIN;
        e.hi = INT32_MAX;
        call(tier.table.epilogue[static_cast<int>(Epilogue::kFixed)], &e);
        for (uint32_t n = 0; n < kPanel; ++n) {
          CHECK_EQUAL(int{out[n]}, int{static_cast<uint8_t>(fixed_output(e, acc[n], n))});
        }
        call(tier.table.epilogue[static_cast<int>(Epilogue::kFixedSingle)], &e);
        for (uint32_t n = 0; n < kPanel; ++n) {
          CHECK_EQUAL(int{out[n]}, int{static_cast<uint8_t>(fixed_single_output(e, acc[n], n))});
        }
      }
    }
  });
}

QK_TEST(outer_update) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    for (const uint32_t m : {0u, 1u, 5u}) {
      for (uint32_t n = 1; n <= 70; ++n) {
        set_context("%s m=%u n=%u", name, m, n);
        Random random(m * 100 + n);
        const uint32_t columns = (n + kPanel - 1) / kPanel * kPanel;
        const Guarded acc(size_t{m} * columns * 4), row(size_t{m} * 4), col(size_t{columns} * 4);
        for (uint32_t i = 0; i < m * columns; ++i) acc.as<int32_t>()[i] = random.wild();
        for (uint32_t i = 0; i < m; ++i) row.as<int32_t>()[i] = random.wild();
        for (uint32_t i = 0; i < columns; ++i) col.as<int32_t>()[i] = random.wild();
        const std::vector<int32_t> before(acc.as<int32_t>(), acc.as<int32_t>() + m * columns);
        const OuterArgs args = {
            acc.as<int32_t>(), static_cast<ptrdiff_t>(columns) * 4, m, n, row.as<int32_t>(),
            col.as<int32_t>()};
        call(tier.table.outer, &args);
        for (uint32_t i = 0; i < m; ++i) {
          for (uint32_t j = 0; j < n; ++j) {
            const int64_t term = wrapped(int64_t{row.as<int32_t>()[i]} * col.as<int32_t>()[j]);
            CHECK_EQUAL(acc.as<int32_t>()[i * columns + j],
                        wrapped(before[i * columns + j] + term));
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace qk::test
