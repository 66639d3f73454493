// SPDX-License-Identifier: Apache-2.0
//
// Every GEMM and depthwise kernel of the registry on this CPU against its definition, computed here
// in int64 from the packed bytes. Shapes come from the descriptors; buffers end at a guard page.
#include <algorithm>
#include <initializer_list>
#include <vector>

#include "kernels/contract.h"
#include "test.h"

namespace qk::test {
namespace {

size_t element(Lhs lhs) { return lhs == Lhs::kS16 ? 2 : 1; }

int64_t lhs_value(const uint8_t* p, Lhs lhs) {
  if (lhs == Lhs::kU8) return *p;
  if (lhs == Lhs::kS8) return static_cast<int8_t>(*p);
  int16_t wide = 0;
  std::memcpy(&wide, p, sizeof(wide));
  return wide;
}

// A value of the kernel's domain, extremes more often than chance gives them.
void put_lhs(Random& random, uint8_t* p, Lhs lhs) {
  const bool extreme = random.next() % 3 == 0;
  if (lhs == Lhs::kS16) {
    const auto value = static_cast<int16_t>(extreme ? (random.next() % 2 == 0 ? -128 : 255)
                                                    : random.integer(-128, 255));
    std::memcpy(p, &value, sizeof(value));
  } else {
    *p = static_cast<uint8_t>(extreme ? (random.next() % 2 == 0 ? 0x80 : 0xff) : random.next());
  }
}

struct GemmCase {
  uint32_t m, n, k, taps;
  bool accumulate;
};

// The weights end in the slack that pack/ gives them: a kernel stepping by 64 k may read past its
// panel, where the activations are zero.
void run_gemm(const GemmEntry& entry, const GemmCase& c, Random& random) {
  const GemmKernel& kernel = *entry.kernel;
  set_context("%s m=%u n=%u k=%u taps=%u accumulate=%d", kernel.name, c.m, c.n, c.k, c.taps,
              c.accumulate);
  const size_t size = element(kernel.lhs);
  const uint32_t k_used = c.k;                                            // values that count
  const uint32_t k_step = (c.k + kernel.kr - 1) / kernel.kr * kernel.kr;  // zeros up to here
  const uint32_t k_packed = (c.k + 3) / 4 * 4;
  const uint32_t rows = (c.m + kernel.row_unit - 1) / kernel.row_unit * kernel.row_unit;
  const size_t row = k_step * size * c.taps;
  const Guarded a(rows * row);
  std::memset(a.data(), 0, a.size());
  for (uint32_t m = 0; m < rows; ++m) {
    for (uint32_t t = 0; t < c.taps; ++t) {
      for (uint32_t k = 0; k < k_used; ++k) {
        put_lhs(random, a.data() + m * row + (t * k_step + k) * size, kernel.lhs);
      }
    }
  }
  const size_t panel = size_t{k_packed} * kPanel * c.taps;
  const size_t panels = c.n / kPanel;
  const Guarded w(panel * panels + 1024);
  for (size_t i = 0; i < w.size(); ++i) {
    w.data()[i] = static_cast<uint8_t>(random.next() % 4 == 0 ? 0x80 : random.next());
  }
  std::vector<ptrdiff_t> taps;
  for (uint32_t t = 0; t < c.taps; ++t) taps.push_back(static_cast<ptrdiff_t>(t * k_step * size));

  // Whole tiles may be stored: room for mr rows, and nothing beyond.
  alignas(64) int32_t acc[64 * 64];
  int32_t before[64 * 64];
  for (int32_t& value : acc) value = random.integer(-1000000, 1000000);
  std::memcpy(before, acc, sizeof(acc));
  TileArgs args{};
  args.a = a.data();
  args.a_stride = static_cast<ptrdiff_t>(row);
  args.taps = taps.data();
  args.n_taps = c.taps;
  args.k = k_step;
  args.w = w.data();
  args.w_stride = static_cast<ptrdiff_t>(panel);
  args.w_tap_stride = static_cast<ptrdiff_t>(size_t{k_packed} * kPanel);
  const size_t depth = size_t{k_packed} * c.taps;
  const size_t arranged_panel = (depth + kernel.kr - 1) / kernel.kr * kernel.kr * kPanel;
  const Guarded arranged(kernel.arrange == nullptr ? 0 : arranged_panel * panels);
  if (kernel.arrange != nullptr) {
    for (size_t p = 0; p < panels; ++p) {
      const ArrangeArgs arrange{w.data() + p * panel, arranged.data() + p * arranged_panel,
                                static_cast<uint32_t>(depth)};
      call(kernel.arrange, &arrange);
    }
    args.w = arranged.data();
    args.w_stride = static_cast<ptrdiff_t>(arranged_panel);
  }
  args.acc = acc;
  args.acc_stride = static_cast<ptrdiff_t>(c.n * sizeof(int32_t));
  args.m = c.m;
  args.n = c.n;
  args.accumulate = c.accumulate;
  if (entry.enter != nullptr) entry.enter();
  call(kernel.run, &args);
  if (entry.leave != nullptr) entry.leave();

  for (uint32_t m = 0; m < c.m; ++m) {
    for (uint32_t n = 0; n < c.n; ++n) {
      int64_t sum = c.accumulate ? before[m * c.n + n] : 0;
      for (uint32_t t = 0; t < c.taps; ++t) {
        for (uint32_t k = 0; k < k_used; ++k) {
          const size_t at = n / kPanel * panel + t * size_t{k_packed} * kPanel +
                            k / 4 * 4 * kPanel + n % kPanel * 4 + k % 4;
          sum += lhs_value(a.data() + m * row + (t * k_step + k) * size, kernel.lhs) *
                 static_cast<int8_t>(w.data()[at]);
        }
      }
      if (!CHECK_EQUAL(acc[m * c.n + n], static_cast<int32_t>(sum))) return;
    }
  }
  for (size_t i = size_t{kernel.mr} * c.n; i < 64 * 64; ++i) {
    if (!CHECK_EQUAL(acc[i], before[i])) return;
  }
}

QK_TEST(gemm_kernels_equal_their_definition) {
  Random random(1);
  for_each_tier([&](const char*, const ResolvedTier& tier) {
    for (const GemmEntry& entry : tier.gemm) {
      if (entry.rank != 0) continue;  // the parent's own turn
      const GemmKernel& kernel = *entry.kernel;
      for (uint32_t m = 1; m <= kernel.mr; ++m) {
        for (uint32_t n = kPanel; n <= kernel.nr; n += kPanel) {
          run_gemm(entry, {m, n, 1u + random.next() % 150, 1, false}, random);
        }
      }
      for (uint32_t n = kernel.nr + kPanel; n <= kernel.nr_row; n += kPanel) {
        run_gemm(entry, {1, n, 1u + random.next() % 150, 1 + n / kPanel % 2, n % 3 == 0}, random);
      }
      for (const uint32_t k : {1, 3, 4, 5, 7, 8, 60, 63, 64, 65, 127, 128, 129, 191, 192, 509}) {
        for (const bool accumulate : {false, true}) {
          run_gemm(entry, {kernel.mr, kernel.nr, k, 1, accumulate}, random);
        }
      }
      // Taps are whole steps of the kernel, as ops/ guarantees.
      for (const uint32_t taps : {2, 3, 9}) {
        run_gemm(entry, {kernel.mr, kernel.nr, kernel.kr, taps, false}, random);
        run_gemm(entry, {1, kPanel, kernel.kr * 2u, taps, true}, random);
      }
    }
  });
}

QK_TEST(depthwise_kernels_equal_their_definition) {
  Random random(2);
  for_each_tier([&](const char*, const ResolvedTier& tier) {
    const DepthwiseKernel& kernel = *tier.depthwise.front();
    for (const uint32_t taps : {2u, 10u, 26u, 50u}) {
      for (uint32_t m = 1; m <= kernel.mr; ++m) {
        for (const bool x_signed : {false, true}) {
          set_context("%s m=%u taps=%u signed=%d", kernel.name, m, taps, x_signed);
          const ptrdiff_t pixel = 48;
          const Guarded x(static_cast<size_t>((m - 1 + taps - 1) * pixel) + kPanel);
          for (size_t i = 0; i < x.size(); ++i) {
            x.data()[i] = static_cast<uint8_t>(random.next() % 3 == 0 ? 0x80 : random.next());
          }
          const Guarded w(taps * kPanel * sizeof(int16_t));
          for (size_t i = 0; i < taps * kPanel; ++i) {
            w.as<int16_t>()[i] = static_cast<int16_t>(random.integer(-255, 255));
          }
          std::vector<ptrdiff_t> offsets;
          for (uint32_t t = 0; t < taps; ++t) offsets.push_back(t * pixel);
          alignas(64) int32_t acc[64 * kPanel] = {0};
          const DepthwiseArgs args{x.data(), pixel, offsets.data(), taps, w.as<int16_t>(),
                                   acc,      m,     x_signed};
          call(kernel.run, &args);
          for (uint32_t i = 0; i < m; ++i) {
            for (uint32_t c = 0; c < kPanel; ++c) {
              int64_t sum = 0;
              for (uint32_t t = 0; t < taps; ++t) {
                const uint8_t byte = x.data()[static_cast<ptrdiff_t>(i) * pixel + offsets[t] + c];
                sum += int64_t{x_signed ? static_cast<int8_t>(byte) : byte} *
                       w.as<int16_t>()[t / 2 * 2 * kPanel + c * 2 + t % 2];
              }
              if (!CHECK_EQUAL(acc[i * kPanel + c], static_cast<int32_t>(sum))) return;
            }
          }
          for (size_t i = size_t{m} * kPanel; i < 64 * kPanel; ++i) CHECK_EQUAL(acc[i], 0);
        }
      }
    }
  });
}

QK_TEST(registry_describes_kernels_as_their_names_say) {
  for (size_t i = 0; i < tier_count(); ++i) {
    const TierInfo& info = tier_info(i);
    for (uint32_t k = 0; k < info.own->gemm_count; ++k) {
      const GemmKernel& kernel = info.own->gemm[k];
      const char* lhs = kernel.lhs == Lhs::kS8 ? "s8" : kernel.lhs == Lhs::kU8 ? "u8" : "s16";
      char name[96];
      std::snprintf(name, sizeof(name), "gemm_%ss8_%ux%ux%u_%s", lhs, unsigned{kernel.mr},
                    unsigned{kernel.nr}, unsigned{kernel.kr}, info.name);
      set_context("%s", kernel.name);
      CHECK(std::string(kernel.name) == name);
      CHECK(kernel.mr <= 64 && kernel.mr * kernel.nr <= 32 * 48 && kernel.nr % kPanel == 0);
      CHECK(kernel.nr_row <= 32 * 48 && kernel.nr_row % kPanel == 0);
      CHECK(kernel.run != nullptr);
    }
    for (uint32_t k = 0; k < info.own->depthwise_count; ++k) {
      const DepthwiseKernel& kernel = info.own->depthwise[k];
      char name[96];
      std::snprintf(name, sizeof(name), "dwconv_x8s16_%ux%ux%u_%s", unsigned{kernel.mr},
                    unsigned{kernel.nr}, unsigned{kernel.kr}, info.name);
      CHECK(std::string(kernel.name) == name);
      CHECK(kernel.mr <= 32 && kernel.nr == kPanel && kernel.kr == 2);
    }
  }
}

}  // namespace
}  // namespace qk::test
