// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_neon.h"
#include "kernels/simd/pack_lhs.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void pack_lhs(const PackLhsArgs* args) { run_pack_lhs(*args); }

}  // namespace qk::QK_TIER
