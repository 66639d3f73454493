// SPDX-License-Identifier: Apache-2.0
//
// What a careless or hostile caller of the C API can hand over: sizes that leave the integers, codes
// that do not exist, a float environment that is not IEEE, damage that cancels in a weak checksum.
#include <initializer_list>
#include <vector>

#include "qkernels/qkernels.h"
#include "test.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace qk::test {
namespace {

struct Owned {
  qk_packed* packed = nullptr;
  qk_linear* linear = nullptr;
  qk_conv2d* conv = nullptr;
  ~Owned() {
    qk_conv2d_free(conv);
    qk_linear_free(linear);
    qk_packed_free(packed);
  }
};

void pack_ones(Owned* own, int64_t o, int64_t kernel, int64_t c, int64_t groups) {
  const std::vector<int8_t> w(static_cast<size_t>(o * kernel * c), 1);
  const int64_t shape[4] = {o, kernel, 1, c};
  const ptrdiff_t strides[4] = {kernel * c, c, c, 1};
  CHECK(qk_pack_conv(w.data(), QK_INT8, shape, strides, groups, nullptr, 0, &own->packed) == QK_OK);
}

qk_output int32_output() {
  qk_output output{};
  output.x_dtype = QK_INT8;
  output.out_dtype = QK_INT32;
  return output;
}

QK_TEST(geometry_beyond_memory_is_refused) {
  for (const int64_t groups : {int64_t{1}, int64_t{1} << 15}) {
    const int64_t c = int64_t{1} << 15;
    set_context("groups=%d", static_cast<int>(groups));
    Owned own;
    pack_ones(&own, groups == 1 ? 1 : c, 2, c / groups, groups);
    const int64_t far = int64_t{1} << 24;
    const qk_conv_geometry geometry{1, far, far - 1, 1, far / 2, far / 2 - 1, far, far - 1};
    const qk_output output = int32_output();
    CHECK(qk_conv2d_prepare(own.packed, &geometry, &output, &own.conv) == QK_OK);
    const std::vector<int8_t> x(static_cast<size_t>(c), 1);
    std::vector<int32_t> out(1 << 20);
    const ptrdiff_t strides[3] = {0, 0, 0};
    CHECK(qk_conv2d_run(own.conv, 1, 1, 1, x.data(), strides, out.data(), strides) ==
          QK_OUT_OF_MEMORY);
    CHECK(qk_conv2d_run(own.conv, 1, 1, int64_t{1} << 62, x.data(), strides, out.data(), strides) ==
          QK_INVALID_ARGUMENT);
  }
  Owned own;
  const int64_t shape[4] = {1, 0xffff, 0xffff, int64_t{1} << 40};
  const ptrdiff_t strides[4] = {0, 0, 0, 0};
  const int8_t one = 1;
  CHECK(qk_pack_conv(&one, QK_INT8, shape, strides, 1, nullptr, 0, &own.packed) ==
        QK_INVALID_ARGUMENT);
}

QK_TEST(unknown_codes_are_refused) {
  const int8_t w[4] = {1, 2, 3, 4};
  Owned own;
  CHECK(qk_pack_matrix(w, QK_INT8, 2, 2, 2, 1, &own.packed) == QK_OK);
  const float scale = 0.5f;
  qk_output output = int32_output();
  output.out_dtype = QK_INT8;
  output.x_scale = output.out_scale = 1.0f;
  output.w_scale = &scale;
  output.n_w_scale = 1;
  const int unknown = 7;
  for (int which = 0; which < 4; ++which) {
    qk_output bad = output;
    void* field = which == 0   ? static_cast<void*>(&bad.activation)
                  : which == 1 ? static_cast<void*>(&bad.rounding)
                  : which == 2 ? static_cast<void*>(&bad.x_dtype)
                               : static_cast<void*>(&bad.out_dtype);
    std::memcpy(field, &unknown, sizeof(unknown));
    set_context("field %d", which);
    CHECK(qk_linear_prepare(own.packed, &bad, &own.linear) == QK_INVALID_ARGUMENT);
  }
}

QK_TEST(depthwise_zero_points_are_those_of_packing) {
  const int8_t w[2] = {1, 2};
  const int64_t shape[4] = {2, 1, 1, 1};
  const ptrdiff_t strides[4] = {1, 1, 1, 1};
  const int32_t wild = 40000;
  Owned own;
  CHECK(qk_pack_conv(w, QK_INT8, shape, strides, 2, &wild, 1, &own.packed) == QK_INVALID_ARGUMENT);
  const int32_t zero = 5;
  CHECK(qk_pack_conv(w, QK_INT8, shape, strides, 2, &zero, 1, &own.packed) == QK_OK);
  const qk_conv_geometry geometry{1, 1, 1, 1, 0, 0, 0, 0};
  qk_output output = int32_output();
  const int32_t other = 4;
  output.w_zero_point = &other;
  output.n_w_zero_point = 1;
  CHECK(qk_conv2d_prepare(own.packed, &geometry, &output, &own.conv) == QK_INVALID_ARGUMENT);
  output.w_zero_point = &zero;
  CHECK(qk_conv2d_prepare(own.packed, &geometry, &output, &own.conv) == QK_OK);
  const int8_t x[2] = {3, -7};
  int32_t out[2] = {0, 0};
  const ptrdiff_t x_strides[3] = {2, 2, 2};
  const ptrdiff_t out_strides[3] = {8, 8, 8};
  CHECK(qk_conv2d_run(own.conv, 1, 1, 1, x, x_strides, out, out_strides) == QK_OK);
  CHECK_EQUAL(out[0], 3 * (1 - 5));
  CHECK_EQUAL(out[1], -7 * (2 - 5));
}

QK_TEST(two_damaged_bits_never_cancel) {
  std::vector<int8_t> w(64 * 64, 3);
  Owned own;
  CHECK(qk_pack_matrix(w.data(), QK_INT8, 64, 64, 64, 1, &own.packed) == QK_OK);
  qk_packed_info info{};
  CHECK(qk_packed_describe(own.packed, &info) == QK_OK);
  const auto* bytes = static_cast<const uint8_t*>(qk_packed_bytes(own.packed));
  std::vector<uint8_t> copy(bytes, bytes + info.size);
  // Every pair of one bit in a word and one in the word that follows it in the same lane.
  for (int first = 0; first < 64; ++first) {
    for (int second = 0; second < 64; ++second) {
      uint8_t& a = copy[static_cast<size_t>(1024 + first / 8)];
      uint8_t& b = copy[static_cast<size_t>(1024 + 32 + second / 8)];
      a = static_cast<uint8_t>(a ^ (1 << first % 8));
      b = static_cast<uint8_t>(b ^ (1 << second % 8));
      set_context("bits %d and %d", first, second);
      qk_packed* refused = nullptr;
      CHECK(qk_packed_from_bytes(copy.data(), copy.size(), &refused) == QK_DAMAGED);
      a = static_cast<uint8_t>(a ^ (1 << first % 8));
      b = static_cast<uint8_t>(b ^ (1 << second % 8));
    }
  }
}

#if defined(__x86_64__) || (defined(__aarch64__) && defined(__GNUC__))
#if defined(__x86_64__)
// MXCSR: flush to zero and denormals are zero; down; up; to zero.
constexpr uint64_t kFloatControls[] = {0x9fc0, 0x3f80, 0x5f80, 0x7f80};
constexpr uint64_t kFloatControlBits = 0xffc0;  // the rest are sticky flags
uint64_t float_control() { return _mm_getcsr(); }
void set_float_control(uint64_t word) { _mm_setcsr(static_cast<unsigned>(word)); }
#else
// FPCR: flush to zero; up; down; to zero; default NaN and alternative half precision.
constexpr uint64_t kFloatControls[] = {1 << 24, 1 << 22, 2 << 22, 3 << 22, 3 << 25};
constexpr uint64_t kFloatControlBits = ~uint64_t{0};
uint64_t float_control() {
  uint64_t word = 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(word));
  return word;
}
void set_float_control(uint64_t word) { __asm__ volatile("msr fpcr, %0" : : "r"(word)); }
#endif

QK_TEST(the_callers_float_environment_changes_no_bit) {
  std::vector<float> x(64);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = (static_cast<float>(i) - 30.5f) * 1.0e-36f;  // the scale is subnormal: 2.6e-37 / ...
  }
  std::vector<int8_t> expected(64);
  std::vector<int8_t> got(64);
  float scale = 0;
  float scale_got = 0;
  const uint64_t before = float_control();
  CHECK(qk_dynamic_quantize(x.data(), QK_FLOAT32, 1, 64, 1, expected.data(), &scale, nullptr) ==
        QK_OK);
  for (const uint64_t control : kFloatControls) {
    set_context("control word %llx", static_cast<unsigned long long>(control));
    set_float_control(control);
    const qk_status status =
        qk_dynamic_quantize(x.data(), QK_FLOAT32, 1, 64, 1, got.data(), &scale_got, nullptr);
    const uint64_t after = float_control();
    set_float_control(before);
    CHECK(status == QK_OK);
    CHECK_EQUAL(after & kFloatControlBits, control & kFloatControlBits);
    CHECK_SAME_FLOAT(scale_got, scale);
    CHECK(got == expected);
  }
}
#endif

QK_TEST(dynamic_rows_whose_multiplier_overflows_are_refused) {
  const int8_t w[2] = {1, 1};
  Owned own;
  CHECK(qk_pack_matrix(w, QK_INT8, 1, 2, 2, 1, &own.packed) == QK_OK);
  const float scale = 1.0e30f;
  qk_output output{};
  output.x_dtype = output.out_dtype = QK_FLOAT32;
  output.w_scale = &scale;
  output.n_w_scale = 1;
  CHECK(qk_linear_prepare(own.packed, &output, &own.linear) == QK_OK);
  const float large[2] = {3.0e38f, 0};
  const float small[2] = {1.0f, 0};
  float out = 0;
  CHECK(qk_linear_run(own.linear, 1, large, 8, &out, 4, nullptr) == QK_INVALID_ARGUMENT);
  CHECK(qk_linear_run(own.linear, 1, small, 8, &out, 4, nullptr) == QK_OK);
  CHECK_SAME_FLOAT(out, 127.0f * (1.0f / 127.0f * 1.0e30f));
}

}  // namespace
}  // namespace qk::test
