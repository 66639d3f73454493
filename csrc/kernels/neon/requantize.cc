// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vocabulary comes before what is written on it
#include "kernels/simd/vec_neon.h"
#include "kernels/simd/epilogue.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void epilogue_int32(const EpilogueArgs* args) { run_epilogue<KindInt32>(*args); }

void epilogue_float(const EpilogueArgs* args) { run_float(*args); }

void epilogue_nearest(const EpilogueArgs* args) { run_epilogue<KindNearest>(*args); }

void epilogue_fixed(const EpilogueArgs* args) { run_epilogue<KindFixed>(*args); }

void epilogue_fixed_single(const EpilogueArgs* args) { run_epilogue<KindFixedSingle>(*args); }

void outer(const OuterArgs* args) { run_outer(*args); }

}  // namespace qk::QK_TIER
