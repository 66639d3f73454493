// SPDX-License-Identifier: Apache-2.0
//
// Packing and unpacking: every tier's kernels against the drawing of the layout, on guarded buffers,
// for all orders in memory; the checksum against its definition; and one set of packed bytes
// whatever the tier, the threads and the order.
#include <algorithm>
#include <initializer_list>
#include <vector>

#include "core/memory.h"
#include "core/thread_pool.h"
#include "core/tiers.h"
#include "qkernels/qkernels.h"
#include "test.h"

namespace qk::test {
namespace {

constexpr size_t kSizes[] = {1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 129};

std::vector<uint8_t> random_bytes(size_t size, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
  return bytes;
}

// One n x k matrix in a guarded buffer: rows of n (n_stride 1), of k, or with gaps everywhere.
struct Matrix {
  Matrix(size_t n, size_t k, int order)
      : n_stride(order == 0   ? static_cast<ptrdiff_t>(k)
                 : order == 1 ? 1
                              : 3 * static_cast<ptrdiff_t>(k)),
        k_stride(order == 0   ? 1
                 : order == 1 ? static_cast<ptrdiff_t>(n)
                              : 3),
        buffer(order == 2 ? 3 * n * k - 2 : n * k) {}
  uint8_t* at(size_t n, size_t k) const {
    return buffer.data() + static_cast<ptrdiff_t>(n) * n_stride +
           static_cast<ptrdiff_t>(k) * k_stride;
  }
  ptrdiff_t n_stride, k_stride;
  Guarded buffer;
};

void check_matrix(const Tier& tier, size_t n, size_t k, int order, bool flip, bool stream) {
  const size_t panels = ceil_div<size_t>(n, kPanel);
  const size_t panel_bytes = round_up<size_t>(k, 4) * kPanel;
  const std::vector<uint8_t> values = random_bytes(n * k, n * 1000 + k);
  const Matrix src(n, k, order);
  for (size_t i = 0; i < n * k; ++i) *src.at(i / k, i % k) = values[i];
  const Guarded dst(panels * panel_bytes, true);  // aligned as packed weights are
  std::vector<int32_t> sums(panels * kPanel, 12345);
  const PackRhsArgs pack{src.buffer.data(),
                         src.n_stride,
                         src.k_stride,
                         n,
                         k,
                         dst.data(),
                         static_cast<ptrdiff_t>(panel_bytes),
                         sums.data(),
                         flip,
                         stream};
  call(tier.pack_rhs, &pack);
  bool right = true;
  for (size_t column = 0; column < panels * kPanel; ++column) {
    int32_t sum = 0;
    for (size_t depth = 0; depth < round_up<size_t>(k, 4); ++depth) {
      const bool inside = column < n && depth < k;
      const uint8_t want =
          inside ? static_cast<uint8_t>(values[column * k + depth] ^ (flip ? 0x80 : 0)) : 0;
      const uint8_t got = dst.data()[column / kPanel * panel_bytes + depth / 4 * 64 +
                                     column % kPanel * 4 + depth % 4];
      right = right && got == want;
      sum += static_cast<int8_t>(want);
    }
    right = right && sums[column] == sum;
  }
  CHECK(right);
  const Matrix back(n, k, order);
  const UnpackRhsArgs unpack{dst.data(),
                             static_cast<ptrdiff_t>(panel_bytes),
                             back.buffer.data(),
                             back.n_stride,
                             back.k_stride,
                             n,
                             k,
                             flip};
  call(tier.unpack_rhs, &unpack);
  for (size_t i = 0; i < n * k; ++i) right = right && *back.at(i / k, i % k) == values[i];
  CHECK(right);
  const std::vector<uint8_t> gaps(back.buffer.size(), Guarded::kFill);
  size_t touched = 0;
  for (size_t i = 0; order == 2 && i < gaps.size(); ++i) {
    touched += i % 3 != 0 && back.buffer.data()[i] != gaps[i];
  }
  CHECK_EQUAL(touched, size_t{0});
}

QK_TEST(pack_rhs_and_unpack_rhs) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    for (const size_t n : kSizes) {
      for (const size_t k : kSizes) {
        for (int order = 0; order < 3; ++order) {
          for (const bool flip : {false, true}) {
            set_context("%s n=%zu k=%zu order=%d flip=%d", name, n, k, order, flip);
            check_matrix(tier.table, n, k, order, flip, (n + k) % 2 == 0);
          }
        }
      }
    }
  });
}

QK_TEST(checksum_of_every_tier) {
  const std::vector<uint8_t> bytes = random_bytes(32 * 100, 9);
  for (size_t blocks = 0; blocks <= 100; ++blocks) {
    const Guarded data(32 * blocks);
    if (blocks > 0) std::memcpy(data.data(), bytes.data(), data.size());
    uint64_t want[4] = {1, 2, 3, 77};
    for (size_t i = 0; i < 4 * blocks; ++i) {
      uint64_t word = 0;
      std::memcpy(&word, bytes.data() + 8 * i, 8);
      word *= kChecksumMix;
      word = (word ^ (word >> 32)) * kChecksumMix;
      word = (want[i % 4] ^ word) * kChecksumMix;
      want[i % 4] = (word << 31) | (word >> 33);
    }
    for_each_tier([&](const char* name, const ResolvedTier& tier) {
      set_context("%s blocks=%zu", name, blocks);
      uint64_t lanes[4] = {1, 2, 3, 77};
      const ChecksumArgs args{data.data(), blocks, lanes};
      call(tier.table.checksum, &args);
      CHECK(std::equal(lanes, lanes + 4, want));
    });
  }
}

struct Owned {
  qk_packed* packed = nullptr;
  ~Owned() { qk_packed_free(packed); }
  std::vector<uint8_t> bytes() const {
    qk_packed_info info{};
    qk_packed_describe(packed, &info);
    const auto* data = static_cast<const uint8_t*>(qk_packed_bytes(packed));
    return {data, data + info.size};
  }
};

// Packs w[o][kh][kw][i] from each order of its axes in memory, on every tier and thread count.
void check_one_set_of_bytes(const int64_t (&shape)[4], int64_t groups, qk_dtype dtype) {
  const auto size = static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]);
  const std::vector<uint8_t> values = random_bytes(size, size);
  const bool depthwise = groups > 1 && shape[3] == 1;
  const int32_t zero = 7;
  std::vector<uint8_t> first;
  int axes[4] = {0, 1, 2, 3};
  do {
    ptrdiff_t strides[4];
    ptrdiff_t stride = 1;
    for (int i = 3; i >= 0; --i) {
      strides[axes[i]] = stride;
      stride *= shape[axes[i]];
    }
    const Guarded w(size);
    const auto visit = [&](auto body) {
      size_t index = 0;
      for (int64_t o = 0; o < shape[0]; ++o) {
        for (int64_t y = 0; y < shape[1]; ++y) {
          for (int64_t x = 0; x < shape[2]; ++x) {
            for (int64_t i = 0; i < shape[3]; ++i, ++index) {
              body(index, o * strides[0] + y * strides[1] + x * strides[2] + i * strides[3]);
            }
          }
        }
      }
    };
    visit([&](size_t index, ptrdiff_t at) { w.data()[at] = values[index]; });
    for (size_t isa = 0; isa < qk_isa_count(); ++isa) {
      if (qk_isa_available(isa) == 0) continue;
      qk_use_isa(qk_isa_name(isa));
      for (const int threads : {1, 3}) {
        qk_set_num_threads(threads);
        set_context("%s threads=%d groups=%d axes=%d%d%d%d", qk_isa(), threads,
                    static_cast<int>(groups), axes[0], axes[1], axes[2], axes[3]);
        Owned own;
        if (!CHECK(qk_pack_conv(w.data(), dtype, shape, strides, groups,
                                depthwise ? &zero : nullptr, depthwise ? 1 : 0,
                                &own.packed) == QK_OK)) {
          return;
        }
        if (first.empty()) first = own.bytes();
        CHECK(own.bytes() == first);
        const Guarded back(size);
        CHECK(qk_unpack_strided(own.packed, back.data(), strides) == QK_OK);
        CHECK(std::memcmp(back.data(), w.data(), size) == 0);
        std::vector<uint8_t> contiguous(size);
        CHECK(qk_unpack(own.packed, contiguous.data()) == QK_OK);
        CHECK(contiguous == values);
        qk_packed* again = nullptr;
        CHECK(qk_packed_from_bytes(first.data(), first.size(), &again) == QK_OK);
        qk_packed_free(again);
      }
    }
  } while (std::next_permutation(axes, axes + 4));
}

QK_TEST(packed_bytes_are_one_set_for_all_tiers_threads_and_orders) {
  const int before = qk_get_process_threads();
  const std::string isa = qk_isa();
  assume_cpus(3);
  for (const qk_dtype dtype : {QK_INT8, QK_UINT8}) {
    check_one_set_of_bytes({20, 3, 3, 5}, 1, dtype);
    check_one_set_of_bytes({33, 1, 1, 70}, 1, dtype);
    check_one_set_of_bytes({36, 2, 3, 4}, 3, dtype);
    check_one_set_of_bytes({35, 5, 3, 1}, 35, dtype);
    check_one_set_of_bytes({192, 3, 3, 320}, 1, dtype);  // on threads
  }
  assume_cpus(0);
  qk_use_isa(isa.c_str());
  qk_set_num_threads(before);
}

QK_TEST(large_panels_are_streamed_to_the_same_bytes) {
  const int before = qk_get_process_threads();
  const int64_t n = 1040;
  const int64_t k = 8201;  // 8.5 MB
  const std::vector<uint8_t> by_n = random_bytes(static_cast<size_t>(n * k), 3);
  std::vector<uint8_t> by_k(by_n.size());
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      by_k[static_cast<size_t>(j * n + i)] = by_n[static_cast<size_t>(i * k + j)];
    }
  }
  assume_cpus(3);
  std::vector<uint8_t> first;
  for (const int threads : {1, 3}) {
    qk_set_num_threads(threads);
    set_context("threads=%d", threads);
    Owned rows;
    Owned columns;
    CHECK(qk_pack_matrix(by_n.data(), QK_UINT8, n, k, k, 1, &rows.packed) == QK_OK);
    CHECK(qk_pack_matrix(by_k.data(), QK_UINT8, n, k, 1, n, &columns.packed) == QK_OK);
    if (first.empty()) first = rows.bytes();
    CHECK(rows.bytes() == first);
    CHECK(columns.bytes() == first);
    std::vector<uint8_t> back(by_n.size());
    CHECK(qk_unpack(rows.packed, back.data()) == QK_OK);
    CHECK(back == by_n);
  }
  qk_packed* again = nullptr;  // the checksum made in pieces is that of the whole
  CHECK(qk_packed_from_bytes(first.data(), first.size(), &again) == QK_OK);
  qk_packed_free(again);
  assume_cpus(0);
  qk_set_num_threads(before);
}

}  // namespace
}  // namespace qk::test
