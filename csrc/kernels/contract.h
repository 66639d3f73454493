// SPDX-License-Identifier: Apache-2.0
//
// What ops/ and a tier's kernels agree on: plain data, nothing else. A kernel gets one struct
// pointer, returns nothing, allocates nothing, keeps no state and cannot fail: ops/ has checked.
// Everything a caller must know about a kernel is in its descriptor; if code outside kernels/
// ever needs `if (tier == ...)`, a field is missing here.
//
// Words: a/x = activations (left side), w = weights, acc = int32 sums, m n k sizes, mr nr kr tile,
// `_stride` = bytes from one row to the next, zp = zero point.
#ifndef QKERNELS_KERNELS_CONTRACT_H
#define QKERNELS_KERNELS_CONTRACT_H

#include <stddef.h>
#include <stdint.h>

namespace qk {

// How packed weights lie in memory. The name is the geometry; docs/kernels/README.md draws each.
enum class LayoutId : uint16_t {
  kNone = 0,
  k_k4n16 = 1,     // int8 [panel of 16 columns][k / 4][16][4]: dot-product and AMX tile order
  k_t2c16s16 = 2,  // int16 [panel of 16 channels][tap / 2][16][2]: depthwise, zero point removed
};

constexpr uint32_t kPanel = 16;  // columns (or channels) in a panel of either layout

// The form in which a kernel reads activations.
enum class Lhs : uint8_t { kS8, kU8, kS16 };

// ---------------------------------------------------------------------------------------------
// GEMM and convolution: acc[m, n] (+)= sum over taps t and k of a[m, t, k] * w[t, k, n].

struct TileArgs {
  const void* a;           // row 0 of tap 0
  ptrdiff_t a_stride;      // bytes
  const ptrdiff_t* taps;   // n_taps byte offsets added to a: 0 alone for GEMM
  uint32_t n_taps;         // at least 1
  uint32_t k;              // elements a tap, a multiple of the kernel's kr
  const void* w;           // first panel; the taps of a panel follow each other
  ptrdiff_t w_stride;      // bytes from a panel to the next
  ptrdiff_t w_tap_stride;  // bytes from a tap's weights to the next tap's in one panel
  int32_t* acc;            // 64-byte aligned, room for mr rows of nr
  ptrdiff_t acc_stride;    // bytes
  uint32_t m;              // rows, 1..mr
  uint32_t n;              // columns, a multiple of kPanel, kPanel..nr
  bool accumulate;         // add to acc instead of overwriting it
  void (*between)(void*);  // null, or work of others to be called between steps (overlaps)
  void* between_context;
};

// A panel of weights in the order in which one kernel reads it, where that is not the layout's.
struct ArrangeArgs {
  const void* w;  // taps and all
  void* dst;      // as many bytes, depth rounded up to the kernel's kr
  uint32_t k;     // depth, all taps together
};

struct GemmKernel {
  const char* name;  // op_types_MRxNRxKR_tier
  LayoutId layout;
  Lhs lhs;
  uint16_t mr, nr, kr;
  uint16_t nr_row = 0;    // if more: columns of a tile of one row (a call then costs less a column)
  uint16_t row_unit = 1;  // rows of a must be readable up to a multiple of this (AMX: whole tiles)
  uint16_t m_min = 1;     // fewer rows than this are better served by the parent's kernel
  uint16_t row_align = 1;  // bytes: rows that start at multiples of it are read at full speed
  uint16_t gmacs;          // GMAC/s of a core, roughly: whether threads pay
  bool overlaps;           // calls `between` once a step: the vector units are idle meanwhile
  void (*run)(const TileArgs*);
  void (*arrange)(const ArrangeArgs*);  // null, or: once a panel, before all its tiles
};

// ---------------------------------------------------------------------------------------------
// Depthwise convolution: acc[m, c] = sum over taps of x[m, tap, c] * w[tap, c], kPanel channels.

struct DepthwiseArgs {
  const uint8_t* x;       // first tap of the first pixel, int8 or uint8 as x_signed says
  ptrdiff_t x_stride;     // bytes from one output pixel's input to the next one's
  const ptrdiff_t* taps;  // byte offsets; an even count: the last may repeat, its weights are 0
  uint32_t n_taps;
  const int16_t* w;  // one panel, k_t2c16s16
  int32_t* acc;      // 64-byte aligned, rows of kPanel
  uint32_t m;        // pixels, 1..mr
  bool x_signed;
};

struct DepthwiseKernel {
  const char* name;
  LayoutId layout;
  uint16_t mr, nr, kr;  // kr: taps a step
  void (*run)(const DepthwiseArgs*);
};

// ---------------------------------------------------------------------------------------------
// Left rows into the form a kernel reads: copied, sign-flipped (x ^ 0x80) or widened.

struct PackLhsArgs {
  const void* src;  // int8 or uint8
  ptrdiff_t src_stride;
  void* dst;             // elements of the form `to`
  ptrdiff_t dst_stride;  // bytes
  uint32_t rows, k;
  uint32_t k_pad;  // elements k..k_pad of each row are set to 0
  bool src_signed;
  Lhs to;             // kS16 keeps the value; kU8 from int8 and kS8 from uint8 flip the sign bit
  int32_t* row_sums;  // null, or rows sums of the source values (before any flip)
};

// ---------------------------------------------------------------------------------------------
// Right side: weights w[n][k], int8 or uint8, to panels of k4n16 and back. uint8 flips its sign bit.

struct PackRhsArgs {
  const uint8_t* src;            // column 0, k = 0
  ptrdiff_t n_stride, k_stride;  // bytes from a column to the next, from a k to the next
  size_t n, k;                   // any number of panels
  uint8_t* dst;                  // the first panel; padding, columns and k, is set to 0
  ptrdiff_t dst_stride;          // bytes from a panel to the next
  int32_t* sums;  // of the stored values, wrapping: kPanel a panel, those of padding 0
  bool flip;
  bool stream;  // dst, 64-byte aligned, is more than the caches hold: a hint
};

struct UnpackRhsArgs {
  const uint8_t* src;  // the first panel
  ptrdiff_t src_stride;
  uint8_t* dst;  // column 0, k = 0
  ptrdiff_t n_stride, k_stride;
  size_t n, k;
  bool flip;
};

// The checksum of packed bytes: four lanes, a 64-bit word of each 32-byte block into each (the
// definition is in pack/checksum.h).
struct ChecksumArgs {
  const uint8_t* data;
  size_t blocks;
  uint64_t* lanes;  // four, updated
};

constexpr uint64_t kChecksumMix = 0x9e3779b97f4a7c15u;

// ---------------------------------------------------------------------------------------------
// Epilogue: an int32 tile to its output, one text for all tiers (simd/epilogue.h).
// v = sat(acc + offset[n] (wrapping) + bias[n] (saturating)), then by kind:
//   kInt32        v
//   kFloat        float(v) * (row_scale[m] * scale[n]) (+ bias_f[n]), clamped to [lo_f, hi_f]
//   kNearest      rint(clamp(float(v) * scale[n], lo_f, hi_f)) + zero_point
//   kFixed        clamp(rdbypot(srdhm(v << left, mantissa[n]), right), lo, hi) + zero_point
//   kFixedSingle  clamp((v * mantissa[n] + 2^(s-1)) >> s, lo, hi) + zero_point
// lo and hi exclude the zero point. The last three store the low byte: int8 or uint8 alike.

enum class Epilogue : uint8_t { kInt32, kFloat, kNearest, kFixed, kFixedSingle, kCount };

struct EpilogueArgs {
  const int32_t* acc;
  ptrdiff_t acc_stride;  // bytes
  void* out;             // int32, float or bytes, columns contiguous
  ptrdiff_t out_stride;  // bytes
  uint32_t m, n;
  // Per column, readable up to n rounded up to kPanel (the out row is not).
  const int32_t* offset;    // never null
  const int32_t* bias;      // null or saturating addend
  const float* scale;       // kFloat, kNearest
  const float* bias_f;      // kFloat: null or addend
  const int32_t* mantissa;  // kFixed*
  const int32_t* shift;     // kFixed*: TFLite's sense, positive is left
  const float* row_scale;   // kFloat: m factors (never null for kFloat)
  float lo_f, hi_f;
  int32_t lo, hi, zero_point;
};

// acc[m, n] += row[m] * col[n], wrapping: the zero-point terms that are no per-column constant.
struct OuterArgs {
  int32_t* acc;
  ptrdiff_t acc_stride;  // bytes
  uint32_t m, n;         // n may be rounded up to kPanel by the kernel: acc and col have room
  const int32_t* row;
  const int32_t* col;
};

// ---------------------------------------------------------------------------------------------
// Element-wise: quantization of contiguous runs.

enum class Real : uint8_t { kFloat32, kFloat16, kBFloat16 };

// dst = clamp(rint(x / scale) + zp, lo, hi) as bytes. Sets *nan to 1 when an x is NaN.
struct QuantizeArgs {
  const void* src;
  Real type;
  void* dst;
  size_t n;
  const float* scale;         // one, or n when per_element
  const int32_t* zero_point;  // likewise
  bool per_element;
  int32_t lo, hi;  // bounds of the result, zero point included
  uint32_t* nan;   // never null; only ever set
};

enum class Code : uint8_t { kInt8, kUInt8, kInt32 };

// dst = float32(q - zp) * scale; for int32 q the difference is taken in int64.
struct DequantizeArgs {
  const void* src;
  Code type;
  float* dst;
  size_t n;
  const float* scale;
  const int32_t* zero_point;
  bool per_element;
};

// Smallest, largest and largest absolute value of n >= 1 elements (of 0 elements: 0, 0, 0).
struct RangeArgs {
  const void* src;
  Real type;
  size_t n;
  float min, max, amax;  // results
  bool finite;           // result: no NaN, no infinity among them
};

// The dynamic symmetric row formula in two steps, between which ops/ derives inv from amax.
// Largest |x| of each row; infinite or NaN where the row holds an infinity or NaN.
struct AmaxArgs {
  const void* src;
  ptrdiff_t src_stride;  // bytes
  Real type;
  uint32_t rows;
  size_t k;
  float* amax;  // rows results
};

// rint(x * inv[row]) in the form that a kernel reads (kU8: sign bit flipped); |x * inv| < 127.5.
struct ScaleRoundArgs {
  const void* src;
  ptrdiff_t src_stride;  // bytes
  Real type;
  void* dst;             // elements of the form `to`
  ptrdiff_t dst_stride;  // bytes
  uint32_t rows;
  size_t k;
  size_t k_pad;  // elements k..k_pad of each row are set to 0
  Lhs to;
  const float* inv;  // one a row
};

// y = f(y) in place; |error| <= 1e-5 * max(1, |y|) against float64, same bits on every tier.
enum class Curve : uint8_t { kNone, kGelu, kSilu, kTanh, kSigmoid, kHardswish };

struct ActivateArgs {
  float* y;
  size_t n;
  Curve curve;
};

// ---------------------------------------------------------------------------------------------
// Probes: what a core gives at most, for rooflines. `dots` and `fma` touch no memory and add 1 * 1
// to independent accumulators, so that `sum` equals `work` modulo 2^32; `read` adds up the words.

constexpr size_t kProbeBlock = 1024;              // bytes: a read is a multiple of it
constexpr size_t kProbeRounds = size_t{1} << 19;  // at most: float32 sums stay exact

struct ProbeArgs {
  const void* src;  // read: 64-byte aligned
  size_t n;         // rounds (dots, fma) or bytes (read)
  uint64_t work;    // result: multiply-adds done, or bytes read
  uint32_t sum;     // result: of all accumulators, or of the 32-bit words, modulo 2^32
};

// ---------------------------------------------------------------------------------------------
// A tier: what its folder exports, constant-initialised. A null or empty entry is inherited.

struct Tier {
  const char* name;
  const GemmKernel* gemm;  // best first; the parent's follow
  uint32_t gemm_count;
  const DepthwiseKernel* depthwise;
  uint32_t depthwise_count;
  void (*enter)();  // once at the start and end of a thread's task that runs this tier's GEMM
  void (*leave)();
  void (*pack_lhs)(const PackLhsArgs*);
  void (*pack_rhs)(const PackRhsArgs*);
  void (*unpack_rhs)(const UnpackRhsArgs*);
  void (*checksum)(const ChecksumArgs*);
  void (*epilogue[static_cast<int>(Epilogue::kCount)])(const EpilogueArgs*);
  void (*outer)(const OuterArgs*);
  void (*quantize)(const QuantizeArgs*);
  void (*dequantize)(const DequantizeArgs*);
  void (*range)(RangeArgs*);
  void (*amax)(const AmaxArgs*);
  void (*scale_round)(const ScaleRoundArgs*);
  void (*activate)(const ActivateArgs*);
  void (*probe_dots)(ProbeArgs*);  // the dot instruction of the tier's GEMM
  void (*probe_fma)(ProbeArgs*);   // float32
  void (*probe_read)(ProbeArgs*);
};

}  // namespace qk

#endif  // QKERNELS_KERNELS_CONTRACT_H
