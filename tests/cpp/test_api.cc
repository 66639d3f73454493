// SPDX-License-Identifier: Apache-2.0
//
// The C API as a caller from another runtime meets it: whole ops on guarded buffers under every
// tier and several thread counts, damaged packed bytes, and misuse.
#include <atomic>
#include <initializer_list>
#include <thread>
#include <vector>

#include "qkernels/qkernels.h"
#include "test.h"

namespace qk::test {
namespace {

struct Packed {
  qk_packed* handle = nullptr;
  ~Packed() { qk_packed_free(handle); }
};

// Restores the process-wide settings that a test changes.
struct Settings {
  const char* isa = qk_isa();
  int threads = qk_get_process_threads();
  ~Settings() {
    qk_use_isa(isa);
    qk_set_num_threads(threads);
  }
};

QK_TEST(linear_is_exact_on_every_tier_and_thread_count) {
  const Settings restore;
  Random random(3);
  const int64_t shapes[][3] = {{1, 1, 1},   {1, 17, 5},    {4, 16, 64},   {5, 33, 63},
                               {6, 47, 65}, {33, 64, 128}, {37, 131, 59}, {300, 70, 257}};
  for (const auto& shape : shapes) {
    const int64_t m = shape[0];
    const int64_t n = shape[1];
    const int64_t k = shape[2];
    for (const qk_dtype x_dtype : {QK_INT8, QK_UINT8}) {
      for (const qk_dtype w_dtype : {QK_INT8, QK_UINT8}) {
        const Guarded x(static_cast<size_t>(m * k));
        const Guarded w(static_cast<size_t>(n * k));
        for (size_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<uint8_t>(random.next());
        for (size_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<uint8_t>(random.next());
        const auto value = [](uint8_t byte, qk_dtype dtype) {
          return dtype == QK_UINT8 ? int64_t{byte} : int64_t{static_cast<int8_t>(byte)};
        };
        Packed packed;
        CHECK(qk_pack_matrix(w.data(), w_dtype, n, k, k, 1, &packed.handle) == QK_OK);
        std::vector<uint8_t> back(w.size());
        CHECK(qk_unpack(packed.handle, back.data()) == QK_OK);
        CHECK(std::memcmp(back.data(), w.data(), w.size()) == 0);
        const int32_t w_zero = 3;
        qk_output output{};
        output.x_dtype = x_dtype;
        output.out_dtype = QK_INT32;
        output.x_zero_point = 7;
        output.w_zero_point = &w_zero;
        output.n_w_zero_point = 1;
        qk_linear* op = nullptr;
        CHECK(qk_linear_prepare(packed.handle, &output, &op) == QK_OK);
        for (size_t isa = 0; isa < qk_isa_count(); ++isa) {
          if (qk_isa_available(isa) == 0) continue;
          CHECK(qk_use_isa(qk_isa_name(isa)) == QK_OK);
          for (const int threads : {1, 2, 5}) {
            CHECK(qk_set_num_threads(threads) == QK_OK);
            set_context("%s threads=%d m=%d n=%d k=%d", qk_isa(), threads, static_cast<int>(m),
                        static_cast<int>(n), static_cast<int>(k));
            const Guarded out(static_cast<size_t>(m * n) * sizeof(int32_t));
            CHECK(qk_linear_run(op, m, x.data(), k, out.data(),
                                n * static_cast<ptrdiff_t>(sizeof(int32_t)), nullptr) == QK_OK);
            bool equal = true;
            for (int64_t i = 0; i < m && equal; ++i) {
              for (int64_t j = 0; j < n && equal; ++j) {
                int64_t sum = 0;
                for (int64_t d = 0; d < k; ++d) {
                  sum += (value(x.data()[i * k + d], x_dtype) - 7) *
                         (value(w.data()[j * k + d], w_dtype) - w_zero);
                }
                equal = CHECK_EQUAL(int64_t{out.as<int32_t>()[i * n + j]}, sum);
              }
            }
          }
        }
        qk_linear_free(op);
      }
    }
  }
}

QK_TEST(conv2d_has_the_same_bits_on_every_tier_and_thread_count) {
  const Settings restore;
  Random random(4);
  struct Geometry {
    int64_t h, w, c, o, groups, kernel, stride, dilation, pad;
  };
  const Geometry cases[] = {{9, 9, 3, 16, 1, 3, 1, 1, 1},    {14, 14, 64, 32, 1, 3, 1, 1, 1},
                            {12, 31, 64, 20, 1, 1, 2, 1, 0}, {16, 48, 4, 17, 1, 3, 1, 1, 1},
                            {10, 11, 12, 8, 2, 3, 1, 2, 2},  {13, 9, 20, 20, 20, 5, 2, 1, 2},
                            {7, 7, 6, 18, 6, 3, 1, 1, 1},    {5, 5, 7, 9, 1, 1, 1, 1, 0},
                            {6, 50, 64, 40, 1, 3, 1, 1, 1}};
  for (const Geometry& g : cases) {
    const int64_t depth = g.c / g.groups;
    const int64_t shape[4] = {g.o, g.kernel, g.kernel, depth};
    const ptrdiff_t strides[4] = {g.kernel * g.kernel * depth, g.kernel * depth, depth, 1};
    const Guarded w(static_cast<size_t>(g.o * strides[0]));
    const Guarded x(static_cast<size_t>(g.h * g.w * g.c));
    for (size_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<uint8_t>(random.next());
    for (size_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<uint8_t>(random.next());
    Packed packed;
    CHECK(qk_pack_conv(w.data(), QK_INT8, shape, strides, g.groups, nullptr, 0, &packed.handle) ==
          QK_OK);
    const qk_conv_geometry geometry{g.stride, g.stride, g.dilation, g.dilation,
                                    g.pad,    g.pad,    g.pad,      g.pad};
    qk_output output{};
    output.x_dtype = QK_UINT8;
    output.out_dtype = QK_INT32;
    output.x_zero_point = 101;
    qk_conv2d* op = nullptr;
    CHECK(qk_conv2d_prepare(packed.handle, &geometry, &output, &op) == QK_OK);
    const int64_t oh = (g.h + 2 * g.pad - g.dilation * (g.kernel - 1) - 1) / g.stride + 1;
    const int64_t ow = (g.w + 2 * g.pad - g.dilation * (g.kernel - 1) - 1) / g.stride + 1;
    const ptrdiff_t x_strides[3] = {g.h * g.w * g.c, g.w * g.c, g.c};
    const ptrdiff_t out_strides[3] = {oh * ow * g.o * 4, ow * g.o * 4, g.o * 4};
    for (size_t isa = 0; isa < qk_isa_count(); ++isa) {
      if (qk_isa_available(isa) == 0) continue;
      CHECK(qk_use_isa(qk_isa_name(isa)) == QK_OK);
      for (const int threads : {1, 2, 5}) {
        CHECK(qk_set_num_threads(threads) == QK_OK);
        set_context("%s threads=%d image=%dx%dx%d kernel=%d", qk_isa(), threads,
                    static_cast<int>(g.h), static_cast<int>(g.w), static_cast<int>(g.c),
                    static_cast<int>(g.kernel));
        const Guarded out(static_cast<size_t>(oh * ow * g.o * 4));
        CHECK(qk_conv2d_run(op, 1, g.h, g.w, x.data(), x_strides, out.data(), out_strides) ==
              QK_OK);
        bool equal = true;
        for (int64_t p = 0; p < oh * ow && equal; ++p) {
          for (int64_t o = 0; o < g.o && equal; ++o) {
            int64_t sum = 0;
            for (int64_t i = 0; i < g.kernel; ++i) {
              for (int64_t j = 0; j < g.kernel; ++j) {
                const int64_t y = p / ow * g.stride + i * g.dilation - g.pad;
                const int64_t xx = p % ow * g.stride + j * g.dilation - g.pad;
                if (y < 0 || y >= g.h || xx < 0 || xx >= g.w) continue;
                for (int64_t c = 0; c < depth; ++c) {
                  const int64_t channel = o / (g.o / g.groups) * depth + c;
                  sum += (x.data()[(y * g.w + xx) * g.c + channel] - 101) *
                         static_cast<int8_t>(
                             w.data()[o * strides[0] + i * strides[1] + j * strides[2] + c]);
                }
              }
            }
            equal = CHECK_EQUAL(int64_t{out.as<int32_t>()[p * g.o + o]}, sum);
          }
        }
      }
    }
    qk_conv2d_free(op);
  }
}

QK_TEST(packed_bytes_are_refused_when_any_byte_is_damaged) {
  std::vector<int8_t> w(19 * 37);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(i * 31);
  Packed packed;
  CHECK(qk_pack_matrix(w.data(), QK_INT8, 19, 37, 37, 1, &packed.handle) == QK_OK);
  qk_packed_info info{};
  CHECK(qk_packed_describe(packed.handle, &info) == QK_OK);
  const auto* bytes = static_cast<const uint8_t*>(qk_packed_bytes(packed.handle));
  std::vector<uint8_t> copy(bytes, bytes + info.size);
  Packed again;
  CHECK(qk_packed_from_bytes(copy.data(), copy.size(), &again.handle) == QK_OK);
  for (size_t i = 0; i < copy.size(); ++i) {
    set_context("byte %zu", i);
    copy[i] ^= 0x10;
    qk_packed* refused = nullptr;
    CHECK(qk_packed_from_bytes(copy.data(), copy.size(), &refused) == QK_DAMAGED);
    copy[i] ^= 0x10;
  }
  for (size_t size = 0; size < copy.size(); size += 7) {
    set_context("truncated to %zu", size);
    const Guarded part(size);
    std::memcpy(part.data(), copy.data(), size);
    qk_packed* refused = nullptr;
    CHECK(qk_packed_from_bytes(part.data(), size, &refused) == QK_DAMAGED);
  }
}

QK_TEST(depth_beyond_the_bound_is_refused_and_at_the_bound_exact) {
  const int64_t k = 131071;  // 131071 * 128 * 128 = 2^31 - 2^14
  std::vector<int8_t> w(static_cast<size_t>(k), -128);
  const std::vector<int8_t> x(static_cast<size_t>(k), -128);
  Packed packed;
  CHECK(qk_pack_matrix(w.data(), QK_INT8, 1, k, k, 1, &packed.handle) == QK_OK);
  qk_output output{};
  output.x_dtype = QK_INT8;
  output.out_dtype = QK_INT32;
  qk_linear* op = nullptr;
  const Settings restore;
  CHECK(qk_linear_prepare(packed.handle, &output, &op) == QK_OK);
  for (size_t isa = 0; isa < qk_isa_count(); ++isa) {
    if (qk_isa_available(isa) == 0) continue;
    CHECK(qk_use_isa(qk_isa_name(isa)) == QK_OK);
    set_context("%s", qk_isa());
    int32_t out = 0;
    CHECK(qk_linear_run(op, 1, x.data(), k, &out, 4, nullptr) == QK_OK);
    CHECK_EQUAL(int64_t{out}, k * 128 * 128);
  }
  qk_linear_free(op);
  w.push_back(0);
  Packed deeper;
  CHECK(qk_pack_matrix(w.data(), QK_INT8, 1, k + 1, k + 1, 1, &deeper.handle) == QK_OK);
  CHECK(qk_linear_prepare(deeper.handle, &output, &op) == QK_OVERFLOW);
  CHECK(std::string(qk_last_message()).find("131072") != std::string::npos);
}

QK_TEST(the_callers_parallel_for_runs_every_task_once) {
  const Settings restore;
  std::vector<int8_t> w(512 * 512, 1);
  const std::vector<int8_t> x(64 * 512, 2);
  Packed packed;
  CHECK(qk_pack_matrix(w.data(), QK_INT8, 512, 512, 512, 1, &packed.handle) == QK_OK);
  qk_output output{};
  output.x_dtype = QK_INT8;
  output.out_dtype = QK_INT32;
  qk_linear* op = nullptr;
  CHECK(qk_linear_prepare(packed.handle, &output, &op) == QK_OK);
  std::atomic<int> calls{0};
  const auto host = [](void* context, size_t count, qk_task task, void* arg) {
    static_cast<std::atomic<int>*>(context)->fetch_add(1);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < count; ++i) threads.emplace_back(task, arg, count - 1 - i);
    for (std::thread& thread : threads) thread.join();
  };
  qk_set_parallel_for(host, &calls, 4);
  std::vector<int32_t> out(64 * 512, -1);
  CHECK(qk_linear_run(op, 64, x.data(), 512, out.data(), 512 * 4, nullptr) == QK_OK);
  qk_set_parallel_for(nullptr, nullptr, 0);
  CHECK(calls.load() >= 1);
  bool all = true;
  for (const int32_t value : out) all = all && value == 1024;
  CHECK(all);
  qk_linear_free(op);
}

QK_TEST(many_threads_may_run_one_op) {
  std::vector<int8_t> w(96 * 256);
  std::vector<int8_t> x(50 * 256);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(i * 7);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int8_t>(i * 13);
  Packed packed;
  CHECK(qk_pack_matrix(w.data(), QK_INT8, 96, 256, 256, 1, &packed.handle) == QK_OK);
  qk_output output{};
  output.x_dtype = QK_INT8;
  output.out_dtype = QK_INT32;
  qk_linear* op = nullptr;
  CHECK(qk_linear_prepare(packed.handle, &output, &op) == QK_OK);
  std::vector<int32_t> expected(50 * 96);
  CHECK(qk_linear_run(op, 50, x.data(), 256, expected.data(), 96 * 4, nullptr) == QK_OK);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      std::vector<int32_t> out(expected.size());
      for (int i = 0; i < 40; ++i) {
        if (qk_linear_run(op, 50, x.data(), 256, out.data(), 96 * 4, nullptr) != QK_OK ||
            out != expected) {
          wrong.fetch_add(1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(wrong.load(), 0);
  qk_linear_free(op);
}

QK_TEST(misuse_gets_a_status_and_a_sentence) {
  Packed packed;
  const int8_t w[4] = {1, 2, 3, 4};
  CHECK(qk_pack_matrix(w, QK_FLOAT32, 2, 2, 2, 1, &packed.handle) == QK_INVALID_ARGUMENT);
  CHECK(qk_pack_matrix(w, QK_INT8, -1, 2, 2, 1, &packed.handle) == QK_INVALID_ARGUMENT);
  CHECK(qk_pack_matrix(w, QK_INT8, 2, 2, 2, 1, &packed.handle) == QK_OK);
  qk_output output{};
  output.x_dtype = QK_INT8;
  output.out_dtype = QK_INT8;
  qk_linear* op = nullptr;
  CHECK(qk_linear_prepare(packed.handle, &output, &op) == QK_INVALID_ARGUMENT);
  CHECK(std::string(qk_last_message()).find("x_scale") != std::string::npos);
  CHECK(qk_use_isa("no such tier") == QK_INVALID_ARGUMENT);
  CHECK(qk_set_num_threads(0) == QK_INVALID_ARGUMENT);
  CHECK(qk_isa_name(1000) == nullptr);
}

}  // namespace
}  // namespace qk::test
