// SPDX-License-Identifier: Apache-2.0
//
// quantize, dequantize, range and scale_round against float64 definitions: the float64 quotient or
// product of two float32, rounded to float32, is the float32 operation's result.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "test.h"

namespace qk::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr Real kReals[] = {Real::kFloat32, Real::kFloat16, Real::kBFloat16};

size_t size_of(Real type) { return type == Real::kFloat32 ? 4 : 2; }

// IEEE binary16 and bfloat16 by their fields.
float half_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const float sign = bits & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction == 0 ? sign * kInfinity : kNan;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return std::copysign(static_cast<float>(magnitude), sign);
}

float bfloat_value(uint16_t bits) {
  const int exponent = (bits >> 7) & 255;
  const int fraction = bits & 127;
  const float sign = bits & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 255) return fraction == 0 ? sign * kInfinity : kNan;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -133) : std::ldexp(128 + fraction, exponent - 134);
  return std::copysign(static_cast<float>(magnitude), sign);
}

float value_at(const uint8_t* src, Real type, size_t i) {
  if (type == Real::kFloat32) {
    float v;
    std::memcpy(&v, src + i * 4, 4);
    return v;
  }
  uint16_t bits;
  std::memcpy(&bits, src + i * 2, 2);
  return type == Real::kFloat16 ? half_value(bits) : bfloat_value(bits);
}

// Not NaN: ordinary values, halves (ties), any bit pattern, zeros, infinities when asked for.
void fill(uint8_t* dst, Real type, size_t n, Random& random, bool infinities) {
  for (size_t i = 0; i < n; ++i) {
    float v;
    switch (random.next() % 6) {
      case 0:
        v = static_cast<float>(random.integer(-600, 600)) * 0.5f;
        break;
      case 1:
        v = random.finite();
        break;
      case 2:
        v = infinities ? (random.next() % 2 ? kInfinity : -kInfinity) : -0.0f;
        break;
      default:
        v = random.real(-200.0f, 200.0f);
    }
    if (type == Real::kFloat32) {
      std::memcpy(dst + i * 4, &v, 4);
      continue;
    }
    uint16_t bits;
    do {
      bits = static_cast<uint16_t>(random.next());
      // Magnitudes around 1 for bfloat16, whose patterns are mostly far from it.
      if (type == Real::kBFloat16 && i % 2) bits = static_cast<uint16_t>(bits_of(v) >> 16);
      std::memcpy(dst + i * 2, &bits, 2);
      v = value_at(dst, type, i);
    } while (std::isnan(v) || (!infinities && std::isinf(v)));
  }
}

int quantized(float x, float scale, int32_t zero_point, int32_t lo, int32_t hi) {
  const double t = static_cast<float>(static_cast<double>(x) / static_cast<double>(scale));
  const double q = std::nearbyint(std::min<double>(std::max<double>(t, -1e6), 1e6)) + zero_point;
  return static_cast<int>(std::min<double>(std::max<double>(q, lo), hi));
}

struct Bounds {
  int32_t lo, hi, zero_point;
};
constexpr Bounds kBounds[] = {{-128, 127, 0}, {-128, 127, -128}, {-128, 127, 127}, {0, 255, 0},
                              {0, 255, 128},  {0, 255, 255},     {-2, 1, 1},       {0, 3, 2}};

QK_TEST(quantize) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    uint32_t seed = 0;
    for (const Real type : kReals) {
      for (const bool per_element : {false, true}) {
        for (size_t n = 0; n <= 1000; n += n < 71 ? 1 : 301) {
          const Bounds bounds = kBounds[++seed % 8];
          set_context("%s type=%d per_element=%d n=%zu lo=%d hi=%d", name, int(type), per_element,
                      n, bounds.lo, bounds.hi);
          Random random(seed);
          const Guarded src(n * size_of(type), seed % 2), dst(n, seed % 3 == 0);
          const size_t parameters = per_element ? n : 1;
          const Guarded scale(parameters * 4), zero_point(parameters * 4);
          fill(src.data(), type, n, random, seed % 2 == 0);
          for (size_t i = 0; i < parameters; ++i) {
            static const float kScales[] = {1.0f, 0.5f, 1e-38f, 1e38f, 1e-45f, 0.0371f};
            scale.as<float>()[i] =
                random.next() % 2 ? random.real(0.01f, 3.0f) : kScales[random.next() % 6];
            zero_point.as<int32_t>()[i] =
                i == 0 ? bounds.zero_point : random.integer(bounds.lo, bounds.hi);
          }
          uint32_t nan = 0;
          const QuantizeArgs args = {
              src.data(),  type,      dst.data(), n,   scale.as<float>(), zero_point.as<int32_t>(),
              per_element, bounds.lo, bounds.hi,  &nan};
          call(tier.table.quantize, &args);
          CHECK_EQUAL(nan, 0u);
          for (size_t i = 0; i < n; ++i) {
            const size_t p = per_element ? i : 0;
            const int expected = quantized(value_at(src.data(), type, i), scale.as<float>()[p],
                                           zero_point.as<int32_t>()[p], bounds.lo, bounds.hi);
            CHECK_EQUAL(int{dst.data()[i]}, int{static_cast<uint8_t>(expected)});
          }
        }
      }
    }
  });
}

QK_TEST(quantize_finds_nan_anywhere) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    const float scale = 1.0f;
    const int32_t zero_point = 0;
    for (const Real type : kReals) {
      for (size_t n = 1; n <= 70; ++n) {
        for (size_t at = 0; at < n; ++at) {
          set_context("%s type=%d n=%zu at=%zu", name, int(type), n, at);
          std::vector<uint8_t> src(n * size_of(type), 0), dst(n);
          const uint32_t pattern = type == Real::kFloat32 ? 0xff800001u : 0x7fc0u | 0x7f81u;
          std::memcpy(src.data() + at * size_of(type), &pattern, size_of(type));
          uint32_t nan = 0;
          QuantizeArgs args = {src.data(),  type,  dst.data(), n,   &scale,
                               &zero_point, false, -128,       127, &nan};
          call(tier.table.quantize, &args);
          CHECK_EQUAL(nan, 1u);
          args.n = at;  // what lies before it has none, but the flag is never cleared
          call(tier.table.quantize, &args);
          CHECK_EQUAL(nan, 1u);
          nan = 0;
          call(tier.table.quantize, &args);
          CHECK_EQUAL(nan, 0u);
        }
      }
    }
  });
}

QK_TEST(unaligned_reals) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    const float scale = 0.25f;
    const int32_t zero_point = 3;
    for (const Real type : kReals) {
      for (size_t n = 0; n <= 40; ++n) {
        set_context("%s type=%d n=%zu", name, int(type), n);
        Random random(n);
        const Guarded src(n * size_of(type) + 1, true);
        fill(src.data() + 1, type, n, random, false);
        std::vector<uint8_t> dst(n);
        uint32_t nan = 0;
        const QuantizeArgs args = {src.data() + 1, type,  dst.data(), n,   &scale,
                                   &zero_point,    false, -128,       127, &nan};
        call(tier.table.quantize, &args);
        for (size_t i = 0; i < n; ++i) {
          const float x = value_at(src.data() + 1, type, i);
          CHECK_EQUAL(int{dst[i]}, int{static_cast<uint8_t>(quantized(x, scale, 3, -128, 127))});
        }
      }
    }
  });
}

QK_TEST(dequantize) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    uint32_t seed = 0;
    for (const Code type : {Code::kInt8, Code::kUInt8, Code::kInt32}) {
      const size_t size = type == Code::kInt32 ? 4 : 1;
      for (const bool per_element : {false, true}) {
        for (size_t n = 0; n <= 300; n += n < 71 ? 1 : 57) {
          set_context("%s type=%d per_element=%d n=%zu", name, int(type), per_element, n);
          Random random(++seed);
          const Guarded src(n * size, seed % 2), dst(n * 4, seed % 3 == 0);
          const size_t parameters = per_element ? n : 1;
          const Guarded scale(parameters * 4), zero_point(parameters * 4);
          for (size_t i = 0; i < n; ++i) {
            const int32_t code = size == 4 ? random.wild() : static_cast<int32_t>(random.next());
            std::memcpy(src.data() + i * size, &code, size);
          }
          for (size_t i = 0; i < parameters; ++i) {
            scale.as<float>()[i] = random.next() % 8 ? random.real(1e-4f, 2.0f) : 1e-44f;
            zero_point.as<int32_t>()[i] = size == 4 && seed % 2 ? random.wild()
                                          : type == Code::kInt8 ? random.integer(-128, 127)
                                                                : random.integer(0, 255);
          }
          const DequantizeArgs args = {
              src.data(), type, dst.as<float>(), n, scale.as<float>(), zero_point.as<int32_t>(),
              per_element};
          call(tier.table.dequantize, &args);
          for (size_t i = 0; i < n; ++i) {
            const size_t p = per_element ? i : 0;
            const int64_t q = type == Code::kInt32  ? src.as<int32_t>()[i]
                              : type == Code::kInt8 ? src.as<int8_t>()[i]
                                                    : src.data()[i];
            const float difference = static_cast<float>(q - zero_point.as<int32_t>()[p]);
            const double product = static_cast<double>(difference) * scale.as<float>()[p];
            CHECK_SAME_FLOAT(dst.as<float>()[i], static_cast<float>(product));
          }
        }
      }
    }
  });
}

void check_range(const Tier& tier, const uint8_t* src, Real type, size_t n) {
  RangeArgs args{};
  args.src = src;
  args.type = type;
  args.n = n;
  call(tier.range, &args);
  float lowest = kInfinity, highest = -kInfinity;
  bool finite = true;
  for (size_t i = 0; i < n; ++i) {
    const float v = value_at(src, type, i);
    finite = finite && std::isfinite(v);
    if (std::isnan(v)) continue;
    lowest = std::min(lowest, v);
    highest = std::max(highest, v);
  }
  if (n == 0) lowest = highest = 0.0f;
  CHECK_EQUAL(args.finite, finite);
  // Zeros have no sign here: 0 + -0 is 0.
  CHECK_SAME_FLOAT(args.min, lowest + 0.0f);
  CHECK_SAME_FLOAT(args.max, highest + 0.0f);
  CHECK_SAME_FLOAT(args.amax, std::max(-(lowest + 0.0f), highest + 0.0f) + 0.0f);
}

QK_TEST(range) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    for (const Real type : kReals) {
      for (size_t n = 0; n <= 500; n += n < 140 ? 1 : 61) {
        set_context("%s type=%d n=%zu", name, int(type), n);
        Random random(n + 1);
        const Guarded src(n * size_of(type), n % 2);
        fill(src.data(), type, n, random, false);
        check_range(tier.table, src.data(), type, n);
        std::memset(src.data(), 0, src.size());
        check_range(tier.table, src.data(), type, n);
        for (size_t i = 1; i < src.size(); i += 2 * size_of(type)) src.data()[i] = 0x80;
        check_range(tier.table, src.data(), type, n);  // zeros of both signs
        fill(src.data(), type, n, random, true);
        if (n > 3) std::memset(src.data() + n / 2 * size_of(type), 0xff, size_of(type));
        check_range(tier.table, src.data(), type, n);
      }
    }
  });
}

// A range of one element is that element: all 16-bit patterns, in every lane position.
QK_TEST(sixteen_bit_conversions_exhaustive) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    for (const Real type : {Real::kFloat16, Real::kBFloat16}) {
      for (uint32_t bits = 0; bits < 65536; ++bits) {
        set_context("%s type=%d bits=%04x", name, int(type), bits);
        const uint16_t pattern = static_cast<uint16_t>(bits);
        const float value = type == Real::kFloat16 ? half_value(pattern) : bfloat_value(pattern);
        uint16_t run[16];
        std::fill(run, run + 16, pattern);
        for (const size_t n : {1, 16}) {
          RangeArgs args{};
          args.src = run;
          args.type = type;
          args.n = n;
          call(tier.table.range, &args);
          CHECK_EQUAL(args.finite, std::isfinite(value) != 0);
          if (!std::isnan(value)) CHECK_SAME_FLOAT(args.max, value + 0.0f);
          if (!std::isnan(value)) CHECK_SAME_FLOAT(args.min, value + 0.0f);
        }
      }
    }
  });
}

// A value of magnitude at most 1 in the type, as its bytes at `to`.
void put_unit(uint8_t* to, Real type, Random* random) {
  const float v = random->next() % 3 != 0 ? random->real(-1.0f, 1.0f)
                                          : static_cast<float>(random->integer(-127, 127)) / 128.0f;
  const uint32_t bits = bits_of(v) >> 16;
  const auto half = static_cast<uint16_t>(random->integer(0, 0x3c00) | (random->next() & 0x8000));
  if (type == Real::kFloat32) std::memcpy(to, &v, 4);
  if (type == Real::kBFloat16) std::memcpy(to, &bits, 2);
  if (type == Real::kFloat16) std::memcpy(to, &half, 2);
}

QK_TEST(amax) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    for (const Real type : kReals) {
      for (size_t k = 0; k <= 300; k += k < 71 ? 1 : 57) {
        set_context("%s type=%d k=%zu", name, int(type), k);
        Random random(k + 3);
        const uint32_t rows = 3;
        const size_t stride = k * size_of(type) + 2 * (k % 5);
        const Guarded src(k == 0 ? 0 : (rows - 1) * stride + k * size_of(type), k % 2);
        for (uint32_t m = 0; m < rows; ++m) {
          for (size_t i = 0; i < k; ++i) {
            put_unit(src.data() + m * stride + i * size_of(type), type, &random);
          }
        }
        float found[rows];
        const AmaxArgs args = {src.data(), static_cast<ptrdiff_t>(stride), type, rows, k, found};
        call(tier.table.amax, &args);
        for (uint32_t m = 0; m < rows; ++m) {
          float expected = 0;
          for (size_t i = 0; i < k; ++i) {
            expected = std::max(expected, std::fabs(value_at(src.data() + m * stride, type, i)));
          }
          CHECK_SAME_FLOAT(found[m], expected);
        }
        if (k == 0) continue;
        // An infinity or NaN at any place shows, whatever stands beside it.
        const size_t at = random.next() % k;
        for (const uint32_t bits :
             {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc00001u, 0x7f810000u}) {
          const auto high = static_cast<uint16_t>(bits >> 16);
          const auto half = static_cast<uint16_t>((high & 0x8000) | 0x7c00 | ((high & 0x7f) << 3));
          uint8_t* const to = src.data() + stride + at * size_of(type);
          if (type == Real::kFloat32) std::memcpy(to, &bits, 4);
          if (type == Real::kBFloat16) std::memcpy(to, &high, 2);
          if (type == Real::kFloat16) std::memcpy(to, &half, 2);
          call(tier.table.amax, &args);
          CHECK(std::isfinite(found[0]));
          CHECK(!std::isfinite(found[1]));
          CHECK(std::isfinite(found[2]));
        }
      }
    }
  });
}

QK_TEST(scale_round) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    const float inverses[] = {127.0f, 64.0f, 0.0f, 100.3f};
    constexpr uint32_t kRows = 4;
    for (const Real type : kReals) {
      for (const Lhs form : {Lhs::kS8, Lhs::kU8, Lhs::kS16}) {
        for (size_t k = 0; k <= 300; k += k < 71 ? 1 : 57) {
          set_context("%s type=%d form=%d k=%zu", name, int(type), int(form), k);
          Random random(k + 7);
          const size_t unit = form == Lhs::kS16 ? 2 : 1;
          const size_t k_pad = k + k % 4;
          const size_t src_stride = k * size_of(type) + 2 * (k % 3);
          const size_t dst_stride = (k_pad + k % 7) * unit;
          const Guarded src(k == 0 ? 0 : (kRows - 1) * src_stride + k * size_of(type), k % 2);
          const Guarded dst((kRows - 1) * dst_stride + k_pad * unit, k % 3 == 0);
          for (uint32_t m = 0; m < kRows; ++m) {
            for (size_t i = 0; i < k; ++i) {
              put_unit(src.data() + m * src_stride + i * size_of(type), type, &random);
            }
          }
          const ScaleRoundArgs args = {src.data(),
                                       static_cast<ptrdiff_t>(src_stride),
                                       type,
                                       dst.data(),
                                       static_cast<ptrdiff_t>(dst_stride),
                                       kRows,
                                       k,
                                       k_pad,
                                       form,
                                       inverses};
          call(tier.table.scale_round, &args);
          for (uint32_t m = 0; m < kRows; ++m) {
            for (size_t i = 0; i < k_pad; ++i) {
              const uint8_t* const at = dst.data() + m * dst_stride + i * unit;
              int32_t code = form == Lhs::kU8 && i < k ? *at - 128 : static_cast<int8_t>(*at);
              if (form == Lhs::kS16) {
                int16_t wide = 0;
                std::memcpy(&wide, at, 2);
                code = wide;
              }
              int32_t expected = 0;
              if (i < k) {
                const float product = static_cast<float>(
                    static_cast<double>(value_at(src.data() + m * src_stride, type, i)) *
                    inverses[m]);
                expected = static_cast<int32_t>(std::nearbyint(product));
              }
              CHECK_EQUAL(code, expected);
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace qk::test
