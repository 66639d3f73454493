// SPDX-License-Identifier: Apache-2.0
#include "kernels/simd/checksum.h"

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void checksum(const ChecksumArgs* args) { run_checksum(*args); }

}  // namespace qk::QK_TIER
