// SPDX-License-Identifier: Apache-2.0
//
// The tiers built in, what each resolves to after inheritance, and which one is active.
#ifndef QKERNELS_CORE_TIERS_H
#define QKERNELS_CORE_TIERS_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/contract.h"

namespace qk {

struct TierInfo {
  const char* name;
  const char* parent;  // "none" for the root
  uint64_t features;   // all needed
  bool available;      // on this CPU
  const Tier* own;     // the folder's table
};

// A GEMM kernel with the hooks of the tier that it comes from (null where it has none).
struct GemmEntry {
  const GemmKernel* kernel;
  void (*enter)();
  void (*leave)();
  uint32_t rank;  // 0 for the tier itself, 1 for its parent, ...
};

// A tier after inheritance: no function is null; kernel lists run from the tier to the root.
struct ResolvedTier {
  Tier table;  // its gemm and depthwise lists are superseded by the two below
  std::vector<GemmEntry> gemm;
  std::vector<const DepthwiseKernel*> depthwise;
};

size_t tier_count();
const TierInfo& tier_info(size_t index);
const ResolvedTier& resolved(size_t index);

size_t active_tier_index();
inline const ResolvedTier& active_tier() { return resolved(active_tier_index()); }

// The kernel for m rows of int8 (x_signed) or uint8 activations over weights in `layout`: the
// highest-ranking that is worth it at this m, and among its siblings the one that reads x as it is.
// Null when no kernel of the tier knows the layout.
const GemmEntry* select_gemm(const ResolvedTier& tier, LayoutId layout, bool x_signed, int64_t m);
const DepthwiseKernel* select_depthwise(const ResolvedTier& tier, LayoutId layout);

}  // namespace qk

#endif  // QKERNELS_CORE_TIERS_H
