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
  t.depthwise = depthwise_kernels;
  t.depthwise_count = 1;
  t.pack_lhs = pack_lhs;
  t.pack_rhs = pack_rhs;
  t.unpack_rhs = unpack_rhs;
  t.checksum = checksum;
  t.epilogue[static_cast<int>(Epilogue::kInt32)] = epilogue_int32;
  t.epilogue[static_cast<int>(Epilogue::kFloat)] = epilogue_float;
  t.epilogue[static_cast<int>(Epilogue::kNearest)] = epilogue_nearest;
  t.epilogue[static_cast<int>(Epilogue::kFixed)] = epilogue_fixed;
  t.epilogue[static_cast<int>(Epilogue::kFixedSingle)] = epilogue_fixed_single;
  t.outer = outer;
  t.quantize = quantize;
  t.dequantize = dequantize;
  t.range = range;
  t.amax = amax;
  t.scale_round = scale_round;
  t.activate = activate;
  t.probe_dots = probe_dots;
  t.probe_fma = probe_fma;
  t.probe_read = probe_read;
  return t;
}

// Data alone, so that nothing of this folder runs before the CPU check.
constexpr Tier kTier = make_tier();

}  // namespace

const Tier tier = kTier;

}  // namespace qk::QK_TIER
