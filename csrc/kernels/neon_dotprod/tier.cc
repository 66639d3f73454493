// SPDX-License-Identifier: Apache-2.0
#include "kernels/tier_decl.h"

#define QK_STRING_(x) #x
#define QK_STRING(x) QK_STRING_(x)

namespace qk::QK_TIER {

// Data alone, so that nothing of this folder runs before the CPU check.
constexpr uint32_t kGemmKernels = 1;

constexpr Tier kTier = {
    QK_STRING(QK_TIER),
    gemm_kernels,
    kGemmKernels,
    nullptr,
    0,
    nullptr,
    nullptr,
    nullptr,
    {nullptr, nullptr, nullptr, nullptr, nullptr},
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

const Tier tier = kTier;

}  // namespace qk::QK_TIER
