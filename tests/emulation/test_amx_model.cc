// SPDX-License-Identifier: Apache-2.0
//
// Tile operations against their definition for 60 shapes of tiles, and
// (for the model) the end of the process on each illegal use. Compiled for a CPU with AMX, the same
// checks test the instructions.
#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "check.h"

#if !defined(QKERNELS_EMULATED)
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#endif

namespace qk::emulation_test {
namespace {

struct alignas(64) Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
  Config& tile(int i, int tile_rows, int row_bytes) {
    rows[i] = static_cast<uint8_t>(tile_rows);
    bytes[i] = static_cast<uint16_t>(row_bytes);
    return *this;
  }
};

void load_config(const Config& config) {
#if defined(__GNUC__)
  __asm__ volatile("" : : "r"(&config) : "memory");  // see csrc/kernels/amx/gemm.cc
#endif
  _tile_loadconfig(&config);
}

struct Shape {
  int m, n, k;  // rows, columns of 4 bytes, depth in steps of 4 bytes
};

// Tiles 0..3 += 4 x 5 by the four signs; sums begin near the limits of int32, so that some wrap.
void check_products(Shape s, Random& random) {
  constexpr int kStride = 80;  // bytes; not the width of a tile
  alignas(64) static uint8_t a[16][kStride], b[16][kStride];
  static int32_t c[16][kStride / 4], out[4][16][kStride / 4];
  for (auto& row : a)
    for (uint8_t& v : row) v = static_cast<uint8_t>(random.extreme_byte());
  for (auto& row : b)
    for (uint8_t& v : row) v = static_cast<uint8_t>(random.extreme_byte());
  for (auto& row : c)
    for (int32_t& v : row) v = static_cast<int32_t>(random.next());
  memset(out, 0x55, sizeof(out));

  Config config;
  for (int i = 0; i < 4; ++i) config.tile(i, s.m, 4 * s.n);
  config.tile(4, s.m, 4 * s.k).tile(5, s.k, 4 * s.n);
  load_config(config);
  _tile_loadd(0, c, kStride);
  _tile_stream_loadd(1, c, kStride);
  _tile_loadd(2, c, kStride);
  _tile_zero(3);
  _tile_loadd(4, a, kStride);
  _tile_loadd(5, b, kStride);
  _tile_dpbssd(0, 4, 5);
  _tile_dpbsud(1, 4, 5);
  _tile_dpbusd(2, 4, 5);
  _tile_dpbuud(3, 4, 5);
  _tile_stored(0, out[0], kStride);
  _tile_stored(1, out[1], kStride);
  _tile_stored(2, out[2], kStride);
  _tile_stored(3, out[3], kStride);
  _tile_release();

  for (int kind = 0; kind < 4; ++kind) {
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < kStride / 4; ++n) {
        int64_t expected = 0x55555555;
        if (m < s.m && n < s.n) {
          expected = kind == 3 ? 0 : c[m][n];
          for (int k = 0; k < 4 * s.k; ++k) {
            const int x = a[m][k], y = b[k / 4][4 * n + k % 4];
            expected += (kind < 2 ? static_cast<int8_t>(x) : x) *
                        (kind % 2 == 0 ? static_cast<int8_t>(y) : y);
          }
        }
        check(out[kind][m][n] == static_cast<int32_t>(expected),
              "product %d of %dx%dx%d: row %d column %d: got %d, expected %d", kind, s.m, s.n,
              4 * s.k, m, n, out[kind][m][n], static_cast<int32_t>(expected));
      }
    }
  }
}

void test_products() {
  Random random(1);
  for (int m : {1, 2, 7, 15, 16}) {
    for (int n : {1, 3, 15, 16}) {
      for (int k : {1, 5, 16}) check_products({m, n, k}, random);
    }
  }
}

#if defined(QKERNELS_EMULATED)

void test_config_is_stored_and_released() {
  Config config, stored;
  config.tile(0, 3, 20).tile(7, 16, 64);
  load_config(config);
  _tile_storeconfig(&stored);
  check(memcmp(&config, &stored, sizeof(config)) == 0, "STTILECFG returns what was loaded");
  _tile_release();
  _tile_storeconfig(&stored);
  const Config empty;
  check(stored.palette == 0 && memcmp(stored.bytes, empty.bytes, sizeof(stored.bytes)) == 0 &&
            memcmp(stored.rows, empty.rows, sizeof(stored.rows)) == 0,
        "TILERELEASE returns to the initial state");
}

Config usual() {
  Config config;
  for (int i = 0; i < 6; ++i) config.tile(i, 16, 64);
  return config;
}

template <class F>
void check_aborts(const char* what, F illegal_use) {
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(2);
    illegal_use();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s must abort", what);
}

void check_config_aborts(const char* what, Config config) {
  check_aborts(what, [&] { load_config(config); });
}

void test_illegal_use_aborts() {
  static int32_t memory[16][16];
  check_aborts("a load without a configuration", [] { _tile_loadd(0, memory, 64); });
  check_aborts("a product without a configuration", [] { _tile_dpbssd(0, 1, 2); });
  check_aborts("use after release", [] {
    load_config(usual());
    _tile_release();
    _tile_zero(0);
  });
  check_aborts("a tile that is not configured", [] {
    load_config(usual());
    _tile_zero(6);
  });
  check_aborts("a configuration over another", [] {
    load_config(usual());
    load_config(usual());
  });
  check_aborts("a product onto its own source", [] {
    load_config(usual());
    _tile_dpbssd(0, 0, 1);
  });

  Config config = usual();
  config.palette = 2;
  check_config_aborts("an unknown palette", config);
  config = usual();
  config.reserved[3] = 1;
  check_config_aborts("a reserved byte", config);
  config = usual();
  config.start_row = 1;
  check_config_aborts("a start row", config);
  check_config_aborts("17 rows", usual().tile(1, 17, 64));
  check_config_aborts("68 bytes a row", usual().tile(1, 16, 68));
  check_config_aborts("rows without bytes", usual().tile(1, 16, 0));
  check_config_aborts("bytes without rows", usual().tile(1, 0, 64));
  check_config_aborts("tile 8", usual().tile(8, 16, 64));

  const auto product_of = [](Config shapes) {
    return [shapes] {
      load_config(shapes);
      _tile_dpbssd(0, 1, 2);
    };
  };
  check_aborts("sources of other rows than the sum", product_of(usual().tile(1, 15, 64)));
  check_aborts("sources of other columns than the sum", product_of(usual().tile(2, 16, 60)));
  check_aborts("sources of different depth", product_of(usual().tile(1, 16, 60)));
  check_aborts("rows of 62 bytes",
               product_of(usual().tile(0, 16, 62).tile(1, 16, 62).tile(2, 16, 62)));
}

#endif

}  // namespace

void test_amx() {
#if defined(QKERNELS_EMULATED)
  test_config_is_stored_and_released();
  test_illegal_use_aborts();
#else
  // Linux grants tile data on request: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  check(syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0, "no permission for AMX");
#endif
  test_products();
}

}  // namespace qk::emulation_test
