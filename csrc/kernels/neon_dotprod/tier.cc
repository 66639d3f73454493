// SPDX-License-Identifier: Apache-2.0
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

// What is not set is inherited.
constexpr Tier make_tier() {
  Tier t{};
  t.name = QK_TIER_NAME;
  t.gemm = gemm_kernels;
  t.gemm_count = 1;
  t.probe_dots = probe_dots;
  return t;
}

// Data alone, so that nothing of this folder runs before the CPU check.
constexpr Tier kTier = make_tier();

}  // namespace

const Tier tier = kTier;

}  // namespace qk::QK_TIER
