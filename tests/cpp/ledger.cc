// SPDX-License-Identifier: Apache-2.0
//
// Which functions of the tiers' tables this run has executed. A kernel that no CPU at hand can run,
// or that no test calls, would otherwise look like one that passed.
#include <algorithm>
#include <string>
#include <vector>

#include "test.h"

namespace qk::test {
namespace {

std::vector<void (*)()>& executed() {
  static std::vector<void (*)()> functions;
  return functions;
}

const char* epilogue_name(int kind) {
  switch (static_cast<Epilogue>(kind)) {
    case Epilogue::kInt32:
      return "epilogue_int32";
    case Epilogue::kFloat:
      return "epilogue_float";
    case Epilogue::kNearest:
      return "epilogue_nearest";
    case Epilogue::kFixed:
      return "epilogue_fixed";
    case Epilogue::kFixedSingle:
      return "epilogue_fixed_single";
    case Epilogue::kCount:
      break;
  }
  return "epilogue";
}

// f(name, function) for each function that the tier's own folder defines.
template <class F>
void for_each_function(const TierInfo& info, F f) {
  const Tier& own = *info.own;
  const auto named = [&](const char* name, auto* function) {
    if (function == nullptr) return;
    f(std::string(name) + "_" + info.name, reinterpret_cast<void (*)()>(function));
  };
  for (uint32_t k = 0; k < own.gemm_count; ++k) {
    const GemmKernel& kernel = own.gemm[k];
    f(kernel.name, reinterpret_cast<void (*)()>(kernel.run));
    if (kernel.arrange == nullptr) continue;
    f("arrange_" + std::string(kernel.name), reinterpret_cast<void (*)()>(kernel.arrange));
  }
  for (uint32_t k = 0; k < own.depthwise_count; ++k) {
    f(own.depthwise[k].name, reinterpret_cast<void (*)()>(own.depthwise[k].run));
  }
  for (int i = 0; i < static_cast<int>(Epilogue::kCount); ++i) {
    named(epilogue_name(i), own.epilogue[i]);
  }
  named("pack_lhs", own.pack_lhs);
  named("pack_rhs", own.pack_rhs);
  named("unpack_rhs", own.unpack_rhs);
  named("checksum", own.checksum);
  named("outer", own.outer);
  named("quantize", own.quantize);
  named("dequantize", own.dequantize);
  named("range", own.range);
  named("amax", own.amax);
  named("scale_round", own.scale_round);
  named("activate", own.activate);
  named("probe_dots", own.probe_dots);
  named("probe_fma", own.probe_fma);
  named("probe_read", own.probe_read);
}

void print(const char* title, const std::string& names) {
  std::printf("%s:%s\n", title, names.empty() ? " none" : names.c_str());
}

}  // namespace

void remember(void (*function)()) {
  std::vector<void (*)()>& known = executed();
  if (std::find(known.begin(), known.end(), function) == known.end()) known.push_back(function);
}

void print_ledger() {
  std::string done, idle;
  for (size_t i = 0; i < tier_count(); ++i) {
    for_each_function(tier_info(i), [&](const std::string& name, void (*function)()) {
      const auto& known = executed();
      const bool ran = std::find(known.begin(), known.end(), function) != known.end();
      (ran ? done : idle) += " " + name;
    });
  }
  print("kernels executed", done);
  print("kernels not executed", idle);
}

}  // namespace qk::test
