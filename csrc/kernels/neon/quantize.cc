// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_neon.h"
#include "kernels/simd/quantize.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void quantize(const QuantizeArgs* args) { run_quantize(*args); }

void dequantize(const DequantizeArgs* args) { run_dequantize(*args); }

void range(RangeArgs* args) { run_range(*args); }

void amax(const AmaxArgs* args) { run_amax(*args); }
void scale_round(const ScaleRoundArgs* args) { run_scale_round(*args); }

}  // namespace qk::QK_TIER
