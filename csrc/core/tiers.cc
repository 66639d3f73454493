// SPDX-License-Identifier: Apache-2.0
#include "core/tiers.h"

#include <atomic>
#include <cstring>
#include <string>

#include "core/cpu.h"
#include "core/status.h"
#include "qkernels/qkernels.h"

// Each folder of csrc/kernels exports one symbol.
#define QK_TIER_ENTRY(name, parent, mask) \
  namespace qk::name {                    \
  extern const Tier tier;                 \
  }
#include "tiers.inc"
#undef QK_TIER_ENTRY

namespace qk {
namespace {

// An entry of the child, where it has one, hides the parent's.
template <typename Function>
void inherit(Function& own, const Function& parent) {
  if (own == nullptr) own = parent;
}

void inherit_all(Tier& own, const Tier& parent) {
  inherit(own.pack_lhs, parent.pack_lhs);
  inherit(own.pack_rhs, parent.pack_rhs);
  inherit(own.unpack_rhs, parent.unpack_rhs);
  inherit(own.checksum, parent.checksum);
  for (int i = 0; i < static_cast<int>(Epilogue::kCount); ++i) {
    inherit(own.epilogue[i], parent.epilogue[i]);
  }
  inherit(own.outer, parent.outer);
  inherit(own.quantize, parent.quantize);
  inherit(own.dequantize, parent.dequantize);
  inherit(own.range, parent.range);
  inherit(own.amax, parent.amax);
  inherit(own.scale_round, parent.scale_round);
  inherit(own.activate, parent.activate);
  inherit(own.probe_dots, parent.probe_dots);
  inherit(own.probe_fma, parent.probe_fma);
  inherit(own.probe_read, parent.probe_read);
}

struct Registry {
  std::vector<TierInfo> infos;
  std::vector<ResolvedTier> tiers;
  size_t best = 0;

  Registry() {
    const uint64_t found = cpu_features();
#define QK_TIER_ENTRY(name, parent, mask)                                                \
  infos.push_back({#name, #parent, static_cast<uint64_t>(mask),                          \
                   (found & static_cast<uint64_t>(mask)) == static_cast<uint64_t>(mask), \
                   &qk::name::tier});
#include "tiers.inc"
#undef QK_TIER_ENTRY
    for (size_t i = 0; i < infos.size(); ++i) {
      // A tier needs all that its ancestors need: their kernels run in it.
      for (size_t p = parent_of(i); p != i; p = parent_of(p)) {
        infos[i].features |= infos[p].features;
        infos[i].available = infos[i].available && infos[p].available;
        if (parent_of(p) == p) break;
      }
      tiers.push_back(resolve(i));
      if (infos[i].available) best = i;
    }
  }

  size_t parent_of(size_t index) const {
    for (size_t p = 0; p < infos.size(); ++p) {
      if (std::strcmp(infos[p].name, infos[index].parent) == 0) return p;
    }
    return index;
  }

  ResolvedTier resolve(size_t index) const {
    ResolvedTier out;
    out.table = *infos[index].own;
    uint32_t rank = 0;
    for (size_t i = index;; i = parent_of(i), ++rank) {
      const Tier& own = *infos[i].own;
      for (uint32_t k = 0; k < own.gemm_count; ++k) {
        out.gemm.push_back({&own.gemm[k], own.enter, own.leave, rank});
      }
      for (uint32_t k = 0; k < own.depthwise_count; ++k) out.depthwise.push_back(&own.depthwise[k]);
      if (i != index) inherit_all(out.table, own);
      if (parent_of(i) == i) return out;
    }
  }
};

const Registry& registry() {
  static const Registry instance;
  return instance;
}

std::atomic<size_t>& active_index() {
  static std::atomic<size_t> index{registry().best};
  return index;
}

bool reads_as_it_is(Lhs lhs, bool x_signed) {
  return lhs == Lhs::kS16 || lhs == (x_signed ? Lhs::kS8 : Lhs::kU8);
}

const char* layout_name(LayoutId layout) {
  switch (layout) {
    case LayoutId::k_k4n16:
      return "k4n16";
    case LayoutId::k_t2c16s16:
      return "t2c16s16";
    case LayoutId::kNone:
      break;
  }
  return "none";
}

const char* lhs_name(Lhs lhs) {
  switch (lhs) {
    case Lhs::kS8:
      return "s8";
    case Lhs::kU8:
      return "u8";
    case Lhs::kS16:
      break;
  }
  return "s16";
}

}  // namespace

size_t tier_count() { return registry().infos.size(); }
const TierInfo& tier_info(size_t index) { return registry().infos[index]; }
const ResolvedTier& resolved(size_t index) { return registry().tiers[index]; }
size_t active_tier_index() { return active_index().load(std::memory_order_relaxed); }

const GemmEntry* select_gemm(const ResolvedTier& tier, LayoutId layout, bool x_signed, int64_t m) {
  const GemmEntry* choice = nullptr;
  for (const GemmEntry& entry : tier.gemm) {
    if (entry.kernel->layout != layout || m < entry.kernel->m_min) continue;
    if (choice != nullptr && entry.rank != choice->rank) break;
    if (reads_as_it_is(entry.kernel->lhs, x_signed)) return &entry;
    if (choice == nullptr) choice = &entry;
  }
  return choice;
}

const DepthwiseKernel* select_depthwise(const ResolvedTier& tier, LayoutId layout) {
  for (const DepthwiseKernel* kernel : tier.depthwise) {
    if (kernel->layout == layout) return kernel;
  }
  return nullptr;
}

}  // namespace qk

size_t qk_isa_count(void) { return qk::tier_count(); }

const char* qk_isa_name(size_t index) {
  return index < qk::tier_count() ? qk::tier_info(index).name : nullptr;
}

const char* qk_isa_parent(size_t index) {
  return index < qk::tier_count() ? qk::tier_info(index).parent : nullptr;
}

int qk_isa_available(size_t index) {
  return index < qk::tier_count() && qk::tier_info(index).available ? 1 : 0;
}

const char* qk_isa_missing(size_t index) {
  static const std::vector<std::string> missing = [] {
    std::vector<std::string> texts;
    for (size_t i = 0; i < qk::tier_count(); ++i) {
      std::string text;
      for (unsigned f = 0; f < qk::kFeatureCount; ++f) {
        if (((qk::tier_info(i).features & ~qk::cpu_features()) >> f & 1) == 0) continue;
        if (!text.empty()) text += ' ';
        text += qk::feature_name(f);
      }
      texts.push_back(text);
    }
    return texts;
  }();
  return index < missing.size() ? missing[index].c_str() : nullptr;
}

const char* qk_isa(void) { return qk::tier_info(qk::active_tier_index()).name; }

qk_status qk_use_isa(const char* name) {
  for (size_t i = 0; name != nullptr && i < qk::tier_count(); ++i) {
    if (std::strcmp(qk::tier_info(i).name, name) != 0) continue;
    if (!qk::tier_info(i).available) {
      return qk::fail(QK_UNSUPPORTED, "tier '%s' is not supported by this CPU: it lacks %s", name,
                      qk_isa_missing(i));
    }
    qk::active_index().store(i, std::memory_order_relaxed);
    return QK_OK;
  }
  return qk::fail(QK_INVALID_ARGUMENT, "tier '%s' is not built into this library",
                  name == nullptr ? "" : name);
}

size_t qk_kernel_count(void) {
  size_t count = 0;
  for (size_t i = 0; i < qk::tier_count(); ++i) {
    count += qk::tier_info(i).own->gemm_count + qk::tier_info(i).own->depthwise_count;
  }
  return count;
}

qk_status qk_kernel(size_t index, qk_kernel_info* info) {
  for (size_t i = 0; i < qk::tier_count(); ++i) {
    const qk::TierInfo& tier = qk::tier_info(i);
    if (index < tier.own->gemm_count) {
      const qk::GemmKernel& k = tier.own->gemm[index];
      *info = {k.name, tier.name, "gemm", qk::layout_name(k.layout), qk::lhs_name(k.lhs),
               k.mr,   k.nr,      k.kr,   tier.available ? 1 : 0};
      return QK_OK;
    }
    index -= tier.own->gemm_count;
    if (index < tier.own->depthwise_count) {
      const qk::DepthwiseKernel& k = tier.own->depthwise[index];
      *info = {k.name, tier.name, "depthwise", qk::layout_name(k.layout), "x8",
               k.mr,   k.nr,      k.kr,        tier.available ? 1 : 0};
      return QK_OK;
    }
    index -= tier.own->depthwise_count;
  }
  return qk::fail(QK_INVALID_ARGUMENT, "kernel index out of range");
}
