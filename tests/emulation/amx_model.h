// SPDX-License-Identifier: Apache-2.0
//
// A model of AMX-INT8 in portable C++: eight tiles of 16 rows x 64 bytes a thread, and the
// operations on them as the Intel 64 and IA-32 Architectures Software Developer's Manual defines
// them (volume 1 chapter "Programming with Intel AMX"; volume 2: LDTILECFG, STTILECFG, TILELOADD,
// TILESTORED, TILEZERO, TILERELEASE, TDPBSSD and its siblings).
//
// What raises #GP or #UD on a CPU ends the process here, with a sentence on stderr. Two rules are
// stricter than the manual's: a configuration may not start at a row other than 0 (that is for the
// operating system), and a configuration may not replace one that was not released.
#ifndef QKERNELS_TESTS_EMULATION_AMX_MODEL_H
#define QKERNELS_TESTS_EMULATION_AMX_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace qk::amx_model {

constexpr int kTiles = 8;
constexpr int kMaxRows = 16;
constexpr int kMaxRowBytes = 64;
constexpr int kConfigBytes = 64;  // palette, start row, 14 reserved, 16 x uint16 bytes, 16 x rows

struct Tile {
  int rows, row_bytes;  // 0, 0: not configured
  alignas(64) uint8_t data[kMaxRows][kMaxRowBytes];
};

struct State {
  bool configured;
  Tile tiles[kTiles];
};

// One per thread, shared by all files of the tier.
inline thread_local State state;

[[noreturn]] inline void illegal(const char* instruction, const char* reason) {
  fprintf(stderr, "AMX model: %s: %s\n", instruction, reason);
  abort();
}

inline void require(bool holds, const char* instruction, const char* reason) {
  if (!holds) illegal(instruction, reason);
}

inline Tile& tile_of(int name, const char* instruction) {
  require(state.configured, instruction, "no tile configuration is loaded (#UD)");
  require(name >= 0 && name < kTiles, instruction, "no such tile (#UD)");
  Tile& tile = state.tiles[name];
  require(tile.rows != 0, instruction, "the configuration leaves this tile out (#UD)");
  return tile;
}

inline void release() { memset(&state, 0, sizeof(state)); }

inline void load_config(const void* memory) {
  const char* const op = "LDTILECFG";
  uint8_t config[kConfigBytes];
  memcpy(config, memory, kConfigBytes);
  if (config[0] == 0) return release();
  require(config[0] == 1, op, "the palette is neither 0 nor 1 (#GP)");
  require(!state.configured, op, "the previous configuration was not released");
  require(config[1] == 0, op, "the start row is not 0");
  for (int i = 2; i < 16; ++i) require(config[i] == 0, op, "a reserved byte is not 0 (#GP)");
  release();
  for (int i = 0; i < 16; ++i) {
    uint16_t row_bytes;
    memcpy(&row_bytes, config + 16 + 2 * i, sizeof(row_bytes));
    const uint8_t rows = config[48 + i];
    if (i >= kTiles) {
      require(row_bytes == 0 && rows == 0, op, "a tile above 7 is configured (#GP)");
      continue;
    }
    require(rows <= kMaxRows, op, "a tile of more than 16 rows (#GP)");
    require(row_bytes <= kMaxRowBytes, op, "a tile of more than 64 bytes a row (#GP)");
    require((rows == 0) == (row_bytes == 0), op, "a tile with rows or bytes alone (#GP)");
    state.tiles[i].rows = rows;
    state.tiles[i].row_bytes = row_bytes;
  }
  state.configured = true;
}

inline void store_config(void* memory) {
  uint8_t config[kConfigBytes] = {};
  config[0] = state.configured;
  for (int i = 0; i < kTiles; ++i) {
    const uint16_t row_bytes = static_cast<uint16_t>(state.tiles[i].row_bytes);
    memcpy(config + 16 + 2 * i, &row_bytes, sizeof(row_bytes));
    config[48 + i] = static_cast<uint8_t>(state.tiles[i].rows);
  }
  memcpy(memory, config, kConfigBytes);
}

inline void zero(int name) {
  Tile& tile = tile_of(name, "TILEZERO");
  memset(tile.data, 0, sizeof(tile.data));
}

// Bytes beyond the configured row and rows beyond the configured count become 0.
inline void load(int name, const void* base, ptrdiff_t stride) {
  Tile& tile = tile_of(name, "TILELOADD");
  memset(tile.data, 0, sizeof(tile.data));
  for (int r = 0; r < tile.rows; ++r) {
    memcpy(tile.data[r], static_cast<const char*>(base) + r * stride,
           static_cast<size_t>(tile.row_bytes));
  }
}

inline void store(int name, void* base, ptrdiff_t stride) {
  const Tile& tile = tile_of(name, "TILESTORED");
  for (int r = 0; r < tile.rows; ++r) {
    memcpy(static_cast<char*>(base) + r * stride, tile.data[r],
           static_cast<size_t>(tile.row_bytes));
  }
}

// c[m][n] += sum over i < 4 of a[m][4 k + i] * b[k][4 n + i], for k in order; sums wrap at 32 bits.
template <class A, class B>
void dot(const char* op, int c_name, int a_name, int b_name) {
  Tile& c = tile_of(c_name, op);
  const Tile& a = tile_of(a_name, op);
  const Tile& b = tile_of(b_name, op);
  require(c_name != a_name && c_name != b_name && a_name != b_name, op,
          "two operands are the same tile (#UD)");
  require(c.row_bytes % 4 == 0 && a.row_bytes % 4 == 0 && b.row_bytes % 4 == 0, op,
          "a row is no multiple of 4 bytes (#UD)");
  require(c.rows == a.rows, op, "the first source has other rows than the sum (#UD)");
  require(c.row_bytes == b.row_bytes, op, "the second source has other columns than the sum (#UD)");
  require(a.row_bytes == 4 * b.rows, op, "the sources differ in depth (#UD)");
  for (int m = 0; m < c.rows; ++m) {
    uint32_t sums[kMaxRowBytes / 4];
    memcpy(sums, c.data[m], sizeof(sums));
    for (int k = 0; k < b.rows; ++k) {
      for (int n = 0; n < c.row_bytes / 4; ++n) {
        int32_t sum = 0;
        for (int i = 0; i < 4; ++i) {
          sum += static_cast<A>(a.data[m][4 * k + i]) * static_cast<B>(b.data[k][4 * n + i]);
        }
        sums[n] += static_cast<uint32_t>(sum);
      }
    }
    memset(c.data[m], 0, kMaxRowBytes);
    memcpy(c.data[m], sums, static_cast<size_t>(c.row_bytes));
  }
  for (int m = c.rows; m < kMaxRows; ++m) memset(c.data[m], 0, kMaxRowBytes);
}

}  // namespace qk::amx_model

// The compiler's own are macros around the instructions.
#undef _tile_loadconfig
#undef _tile_storeconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbusd
#undef _tile_dpbuud

// Callers in namespace qk find these before the compiler's functions of the same names.
namespace qk {

static inline void _tile_loadconfig(const void* config) { amx_model::load_config(config); }
static inline void _tile_storeconfig(void* config) { amx_model::store_config(config); }
static inline void _tile_release() { amx_model::release(); }
static inline void _tile_zero(int tile) { amx_model::zero(tile); }
static inline void _tile_loadd(int tile, const void* base, ptrdiff_t stride) {
  amx_model::load(tile, base, stride);
}
static inline void _tile_stream_loadd(int tile, const void* base, ptrdiff_t stride) {
  amx_model::load(tile, base, stride);
}
static inline void _tile_stored(int tile, void* base, ptrdiff_t stride) {
  amx_model::store(tile, base, stride);
}
static inline void _tile_dpbssd(int c, int a, int b) {
  amx_model::dot<int8_t, int8_t>("TDPBSSD", c, a, b);
}
static inline void _tile_dpbsud(int c, int a, int b) {
  amx_model::dot<int8_t, uint8_t>("TDPBSUD", c, a, b);
}
static inline void _tile_dpbusd(int c, int a, int b) {
  amx_model::dot<uint8_t, int8_t>("TDPBUSD", c, a, b);
}
static inline void _tile_dpbuud(int c, int a, int b) {
  amx_model::dot<uint8_t, uint8_t>("TDPBUUD", c, a, b);
}

}  // namespace qk

#endif  // QKERNELS_TESTS_EMULATION_AMX_MODEL_H
