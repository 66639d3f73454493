// SPDX-License-Identifier: Apache-2.0
#include "kernels/simd/vec_scalar.h"

#include "kernels/simd/curves.h"
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void activate(const ActivateArgs* args) { run_activate(*args); }

}  // namespace qk::QK_TIER
