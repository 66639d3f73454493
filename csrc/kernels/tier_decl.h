// SPDX-License-Identifier: Apache-2.0
//
// What the files of one tier's folder offer each other: every function a tier may have, in the
// tier's own namespace (QK_TIER is a compile definition of the folder). A folder defines those it
// is better at than its parent; its tier.cc lists them in `tier`, the one symbol used from outside.
#ifndef QKERNELS_KERNELS_TIER_DECL_H
#define QKERNELS_KERNELS_TIER_DECL_H

#include "kernels/contract.h"

#ifndef QK_TIER
#error "QK_TIER must name the tier that this file is compiled for"
#endif

#define QK_TIER_NAME QK_STRING(QK_TIER)
#define QK_STRING(x) QK_STRING_(x)
#define QK_STRING_(x) #x

// Before a loop over an array of vectors that must live in registers.
#if defined(__clang__)
#define QK_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define QK_UNROLL _Pragma("GCC unroll 32")
#else
#define QK_UNROLL
#endif

namespace qk::QK_TIER {

extern const Tier tier;

// gemm.cc, depthwise.cc: best first. tier.cc states how many there are, because a constant table
// cannot take a count from another file.
extern const GemmKernel gemm_kernels[];
extern const DepthwiseKernel depthwise_kernels[];
void enter();
void leave();

// pack_lhs.cc
void pack_lhs(const PackLhsArgs* args);

// pack_rhs.cc
void pack_rhs(const PackRhsArgs* args);
void unpack_rhs(const UnpackRhsArgs* args);

// checksum.cc
void checksum(const ChecksumArgs* args);

// requantize.cc
void epilogue_int32(const EpilogueArgs* args);
void epilogue_float(const EpilogueArgs* args);
void epilogue_nearest(const EpilogueArgs* args);
void epilogue_fixed(const EpilogueArgs* args);
void epilogue_fixed_single(const EpilogueArgs* args);
void outer(const OuterArgs* args);

// quantize.cc
void quantize(const QuantizeArgs* args);
void dequantize(const DequantizeArgs* args);
void range(RangeArgs* args);
void amax(const AmaxArgs* args);
void scale_round(const ScaleRoundArgs* args);

// elementwise.cc
void activate(const ActivateArgs* args);

// probe.cc
void probe_dots(ProbeArgs* args);
void probe_fma(ProbeArgs* args);
void probe_read(ProbeArgs* args);

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_TIER_DECL_H
