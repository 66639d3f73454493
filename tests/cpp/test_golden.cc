// SPDX-License-Identifier: Apache-2.0
//
// One set of bits on every machine: a hash of the results of each op, epilogue and rounding rule,
// written down once (on x86-64) and expected of every tier of every architecture since. A change of
// a hash is a change of the numerics: docs/numerics.md.
#include <initializer_list>
#include <vector>

#include "qkernels/qkernels.h"
#include "test.h"

namespace qk::test {
namespace {

struct Golden {
  const char* name;
  uint64_t hash;
};

constexpr Golden kGolden[] = {
    {"packed", 0x3ad1e7edf46bca56u},
    {"linear int32", 0xa163459575869cd2u},
    {"linear float32", 0xdbbfc62c0a34f52cu},
    {"linear nearest_even", 0x5e2498fbdb5f95beu},
    {"linear fixed_point", 0xcaaa66d81c4c274au},
    {"linear fixed_point_single", 0x20d526f2a250518cu},
    {"linear relu6", 0x6feff4700c458048u},
    {"linear gelu", 0x049946b5ef43735du},
    {"linear silu", 0x429880a89a7e2ca7u},
    {"linear tanh", 0x0bfc7b967cbe1e20u},
    {"linear sigmoid", 0xa4d8e69d98b2cb5fu},
    {"linear hardswish", 0x60f108a1b7037a2du},
    {"linear dynamic", 0x284dc3455300150fu},
    {"conv few channels", 0xe23c902b9493f07cu},
    {"conv direct", 0x225fb41fb9af3755u},
    {"conv pointwise", 0xafd9db87a27a371du},
    {"conv groups", 0xe8c19859c65fe9bcu},
    {"conv depthwise", 0x9fda8ae67e231e31u},
    {"quantize", 0x4465a46a75dd3670u},
    {"dynamic_quantize", 0x45d477e90a520b84u},
    {"range", 0xe717def36c235838u},
    {"quantize_weights", 0x24180b521b3ef54cu},
    {"dequantize", 0xd5b219acf9a5a166u},
    {"requantize nearest_even", 0x872590774af5f6fdu},
    {"requantize fixed_point", 0x8726c24c3a1b05cau},
    {"requantize fixed_point_single", 0x75e67994ce3a9d67u},
};

// FNV-1a over results, in the order in which they come.
class Hash {
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    add(bytes, values.size() * sizeof(T));
  }
  void add(const uint8_t* bytes, size_t size) {
    for (size_t i = 0; i < size; ++i) state_ = (state_ ^ bytes[i]) * 0x100000001b3u;
  }
  void expect(const char* name) const {
    bool same = false;
    for (const Golden& golden : kGolden) {
      same = same || (std::strcmp(golden.name, name) == 0 && golden.hash == state_);
    }
    char text[96];
    std::snprintf(text, sizeof(text), "{\"%s\", 0x%016llxu},", name,
                  static_cast<unsigned long long>(state_));
    report(same, __FILE__, __LINE__, text);
  }

 private:
  uint64_t state_ = 0xcbf29ce484222325u;
};

std::vector<uint8_t> bytes(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> values(count);
  for (uint8_t& value : values) value = static_cast<uint8_t>(random.next());
  return values;
}

std::vector<float> reals(size_t count, uint64_t seed, float lo, float hi) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = random.real(lo, hi);
  return values;
}

// The same as float16 or bfloat16: any finite pattern of moderate size.
std::vector<uint16_t> halves(size_t count, uint64_t seed, uint32_t largest) {
  Random random(seed);
  std::vector<uint16_t> values(count);
  for (uint16_t& value : values) {
    const uint32_t sign = random.next() & 0x8000;  // in an order that no compiler chooses
    value = static_cast<uint16_t>(sign | (random.next() % largest));
  }
  return values;
}
constexpr uint32_t kHalfEnd = 0x4900;    // 10 as float16
constexpr uint32_t kBFloatEnd = 0x4120;  // 10 as bfloat16

struct Output {
  const char* name;
  qk_dtype out;
  qk_rounding rounding;
  qk_activation activation;
};

constexpr Output kOutputs[] = {
    {"int32", QK_INT32, QK_NEAREST_EVEN, QK_IDENTITY},
    {"float32", QK_FLOAT32, QK_NEAREST_EVEN, QK_IDENTITY},
    {"nearest_even", QK_INT8, QK_NEAREST_EVEN, QK_IDENTITY},
    {"fixed_point", QK_UINT8, QK_FIXED_POINT, QK_IDENTITY},
    {"fixed_point_single", QK_INT8, QK_FIXED_POINT_SINGLE, QK_IDENTITY},
    {"relu6", QK_UINT8, QK_NEAREST_EVEN, QK_CLIP},
    {"gelu", QK_FLOAT32, QK_NEAREST_EVEN, QK_GELU},
    {"silu", QK_FLOAT32, QK_NEAREST_EVEN, QK_SILU},
    {"tanh", QK_FLOAT32, QK_NEAREST_EVEN, QK_TANH},
    {"sigmoid", QK_FLOAT32, QK_NEAREST_EVEN, QK_SIGMOID},
    {"hardswish", QK_FLOAT32, QK_NEAREST_EVEN, QK_HARDSWISH},
};

// Parameters of an op with n columns; what it points to lives as long as it.
class Parameters {
 public:
  Parameters(const Output& kind, qk_dtype x_dtype, int64_t n, int32_t w_zero_point)
      : scales_(reals(static_cast<size_t>(n), 21, 0.0005f, 0.004f)),
        bias_f_(reals(static_cast<size_t>(n), 22, -2.0f, 2.0f)),
        bias_i_(static_cast<size_t>(n)),
        w_zero_point_(w_zero_point) {
    Random random(23);
    for (int32_t& bias : bias_i_) bias = random.wild();
    // Powers of two among the scales: their multipliers give ties, where rounding rules part.
    for (size_t i = 0; i < scales_.size(); i += 3) {
      scales_[i] = 1.0f / 128;
      bias_i_[i] = static_cast<int32_t>(i);
    }
    output.x_dtype = x_dtype;
    output.out_dtype = kind.out;
    output.rounding = kind.rounding;
    output.activation = kind.activation;
    output.activation_hi = 6.0f;
    output.w_zero_point = &w_zero_point_;
    output.n_w_zero_point = 1;
    const bool dynamic = x_dtype != QK_INT8 && x_dtype != QK_UINT8;
    output.x_zero_point = dynamic ? 0 : 7;
    if (kind.out == QK_INT32) return;
    output.x_scale = dynamic ? 0.0f : 1.0f / 64;
    output.w_scale = scales_.data();
    output.n_w_scale = scales_.size();
    if (kind.out == QK_FLOAT32) {
      output.bias_f = bias_f_.data();
    } else {
      output.bias_i = bias_i_.data();
      output.out_scale = 1.0f / 32;
      output.out_zero_point = 3;
    }
  }
  qk_output output{};

 private:
  std::vector<float> scales_, bias_f_;
  std::vector<int32_t> bias_i_;
  int32_t w_zero_point_;
};

size_t out_size(qk_dtype dtype) { return dtype == QK_INT32 || dtype == QK_FLOAT32 ? 4 : 1; }

void add_linear(Hash* hash, const Output& kind, qk_dtype x_dtype, const void* x, size_t element,
                int64_t m, qk_dtype w_dtype, int32_t w_zero_point) {
  const int64_t n = 83;
  const int64_t k = 131;
  const std::vector<uint8_t> w = bytes(static_cast<size_t>(n * k), 3);
  qk_packed* packed = nullptr;
  CHECK(qk_pack_matrix(w.data(), w_dtype, n, k, k, 1, &packed) == QK_OK);
  const Parameters parameters(kind, x_dtype, n, w_zero_point);
  qk_linear* op = nullptr;
  CHECK(qk_linear_prepare(packed, &parameters.output, &op) == QK_OK);
  const auto row = static_cast<ptrdiff_t>(static_cast<size_t>(n) * out_size(kind.out));
  std::vector<uint8_t> out(static_cast<size_t>(m * row));
  CHECK(qk_linear_run(op, m, x, k * static_cast<ptrdiff_t>(element), out.data(), row, nullptr) ==
        QK_OK);
  hash->add(out);
  qk_linear_free(op);
  qk_packed_free(packed);
}

void hash_linear() {
  const std::vector<uint8_t> x = bytes(97 * 131, 1);
  for (const Output& kind : kOutputs) {
    Hash hash;
    for (const int64_t m : {int64_t{1}, int64_t{2}, int64_t{97}}) {
      for (const qk_dtype dtype : {QK_INT8, QK_UINT8}) {
        add_linear(&hash, kind, dtype, x.data(), 1, m, QK_INT8, 0);
        add_linear(&hash, kind, dtype, x.data(), 1, m, QK_UINT8, 113);
      }
    }
    hash.expect((std::string("linear ") + kind.name).c_str());
  }
  const Output& real = kOutputs[1];
  Hash dynamic;
  for (const int64_t m : {int64_t{1}, int64_t{37}}) {
    add_linear(&dynamic, real, QK_FLOAT32, reals(37 * 131, 4, -3, 3).data(), 4, m, QK_INT8, 0);
    add_linear(&dynamic, real, QK_FLOAT16, halves(37 * 131, 5, kHalfEnd).data(), 2, m, QK_INT8, 9);
    add_linear(&dynamic, real, QK_BFLOAT16, halves(37 * 131, 6, kBFloatEnd).data(), 2, m, QK_INT8,
               0);
  }
  dynamic.expect("linear dynamic");
}

void hash_conv() {
  struct Geometry {
    const char* name;
    int64_t h, w, c, o, groups, kernel, stride, pad;
  };
  constexpr Geometry kGeometries[] = {{"conv few channels", 11, 13, 3, 24, 1, 3, 2, 1},
                                      {"conv direct", 9, 24, 64, 40, 1, 3, 1, 1},
                                      {"conv pointwise", 7, 7, 24, 17, 1, 1, 1, 0},
                                      {"conv groups", 10, 11, 24, 36, 3, 3, 1, 1},
                                      {"conv depthwise", 13, 9, 20, 20, 20, 5, 2, 2}};
  for (const Geometry& g : kGeometries) {
    Hash hash;
    const int64_t depth = g.c / g.groups;
    const int64_t shape[4] = {g.o, g.kernel, g.kernel, depth};
    const ptrdiff_t strides[4] = {g.kernel * g.kernel * depth, g.kernel * depth, depth, 1};
    const std::vector<uint8_t> w = bytes(static_cast<size_t>(g.o * strides[0]), 7);
    const std::vector<uint8_t> x = bytes(static_cast<size_t>(g.h * g.w * g.c), 8);
    const qk_conv_geometry geometry{g.stride, g.stride, 1, 1, g.pad, g.pad, g.pad, g.pad};
    const int64_t oh = (g.h + 2 * g.pad - g.kernel) / g.stride + 1;
    const int64_t ow = (g.w + 2 * g.pad - g.kernel) / g.stride + 1;
    const ptrdiff_t x_strides[3] = {g.h * g.w * g.c, g.w * g.c, g.c};
    for (const int32_t w_zero_point : {0, -5}) {
      qk_packed* packed = nullptr;
      CHECK(qk_pack_conv(w.data(), QK_INT8, shape, strides, g.groups, &w_zero_point, 1, &packed) ==
            QK_OK);
      for (const Output& kind : kOutputs) {
        for (const qk_dtype dtype : {QK_INT8, QK_UINT8}) {
          const Parameters parameters(kind, dtype, g.o, w_zero_point);
          qk_conv2d* op = nullptr;
          CHECK(qk_conv2d_prepare(packed, &geometry, &parameters.output, &op) == QK_OK);
          const auto pixel = g.o * static_cast<ptrdiff_t>(out_size(kind.out));
          const ptrdiff_t out_strides[3] = {oh * ow * pixel, ow * pixel, pixel};
          std::vector<uint8_t> out(static_cast<size_t>(oh * ow * pixel));
          CHECK(qk_conv2d_run(op, 1, g.h, g.w, x.data(), x_strides, out.data(), out_strides) ==
                QK_OK);
          hash.add(out);
          qk_conv2d_free(op);
        }
      }
      qk_packed_free(packed);
    }
    hash.expect(g.name);
  }
}

void hash_quantization() {
  const qk_shape3 shape{5, 11, 37};
  const size_t count = 5 * 11 * 37;
  const std::vector<float> scale = reals(11, 9, 0.01f, 0.1f);
  std::vector<int32_t> zero_points(11);
  for (size_t i = 0; i < zero_points.size(); ++i) zero_points[i] = static_cast<int32_t>(i) - 4;
  const std::vector<float> x = reals(count, 10, -8.0f, 8.0f);
  const std::vector<uint16_t> half = halves(count, 11, kHalfEnd);
  const std::vector<uint16_t> bfloat = halves(count, 12, kBFloatEnd);
  const struct {
    const void* data;
    qk_dtype dtype;
  } sources[] = {{x.data(), QK_FLOAT32}, {half.data(), QK_FLOAT16}, {bfloat.data(), QK_BFLOAT16}};

  Hash quantized, dynamic, range;
  for (const auto& source : sources) {
    std::vector<uint8_t> q(count);
    CHECK(qk_quantize(source.data, source.dtype, shape, scale.data(), zero_points.data(), -128, 127,
                      q.data()) == QK_OK);
    quantized.add(q);
    for (const int symmetric : {1, 0}) {
      std::vector<float> row_scale(55);
      std::vector<int32_t> row_zero(55);
      CHECK(qk_dynamic_quantize(source.data, source.dtype, 55, 37, symmetric, q.data(),
                                row_scale.data(), row_zero.data()) == QK_OK);
      dynamic.add(q);
      dynamic.add(row_scale);
      dynamic.add(row_zero);
    }
    std::vector<float> extremes(3);
    CHECK(qk_range(source.data, source.dtype, static_cast<int64_t>(count), extremes.data()) ==
          QK_OK);
    range.add(extremes);
  }
  quantized.expect("quantize");
  dynamic.expect("dynamic_quantize");
  range.expect("range");

  Hash weights;
  std::vector<uint8_t> q(count);
  std::vector<float> w_scale(11);
  CHECK(qk_quantize_weights(x.data(), shape, reinterpret_cast<int8_t*>(q.data()), w_scale.data()) ==
        QK_OK);
  weights.add(q);
  weights.add(w_scale);
  weights.expect("quantize_weights");

  Random random(13);
  std::vector<int32_t> acc(count);
  for (int32_t& value : acc) value = random.wild();
  Hash dequantized;
  for (const qk_dtype dtype : {QK_INT8, QK_UINT8, QK_INT32}) {
    std::vector<float> out(count);
    CHECK(qk_dequantize(acc.data(), dtype, shape, scale.data(), zero_points.data(), out.data()) ==
          QK_OK);
    dequantized.add(out);
  }
  dequantized.expect("dequantize");

  const char* const names[] = {"requantize nearest_even", "requantize fixed_point",
                               "requantize fixed_point_single"};
  std::vector<int32_t> bias(11);
  for (int32_t& value : bias) value = random.wild();
  bias[0] = bias[1] = 1;
  for (const qk_rounding rounding : {QK_NEAREST_EVEN, QK_FIXED_POINT, QK_FIXED_POINT_SINGLE}) {
    Hash hash;
    for (const float size : {1e-7f, 1e-4f, 0.03f, 3.0f, 700.0f}) {
      std::vector<float> multiplier = scale;
      for (float& m : multiplier) m *= size;
      multiplier[0] = 0.5f;  // ties
      multiplier[1] = 1.0f / 64;
      CHECK(qk_requantize(acc.data(), shape, multiplier.data(), 5, bias.data(), rounding, -128, 127,
                          q.data()) == QK_OK);
      hash.add(q);
    }
    hash.expect(names[rounding]);
  }
}

void hash_packed() {
  Hash hash;
  const std::vector<uint8_t> w = bytes(83 * 131, 3);
  for (const qk_dtype dtype : {QK_INT8, QK_UINT8}) {
    for (const bool by_rows : {true, false}) {
      qk_packed* packed = nullptr;
      CHECK(qk_pack_matrix(w.data(), dtype, by_rows ? 83 : 131, by_rows ? 131 : 83,
                           by_rows ? 131 : 1, by_rows ? 1 : 131, &packed) == QK_OK);
      qk_packed_info info{};
      CHECK(qk_packed_describe(packed, &info) == QK_OK);
      hash.add(static_cast<const uint8_t*>(qk_packed_bytes(packed)), info.size);
      qk_packed_free(packed);
    }
  }
  hash.expect("packed");
}

QK_TEST(every_tier_has_the_bits_that_are_written_down) {
  const std::string isa = qk_isa();
  for_each_tier([](const char* name, const ResolvedTier&) {
    CHECK(qk_use_isa(name) == QK_OK);
    for (const int threads : {1, 3}) {
      qk_set_local_threads(threads);
      set_context("%s, %d threads", name, threads);
      hash_packed();
      hash_linear();
      hash_conv();
      hash_quantization();
    }
  });
  qk_set_local_threads(0);
  qk_use_isa(isa.c_str());
}

}  // namespace
}  // namespace qk::test
