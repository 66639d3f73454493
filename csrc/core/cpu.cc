// SPDX-License-Identifier: Apache-2.0
#include "core/cpu.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

#include "qkernels/qkernels.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#define QK_X86 1
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace qk {
namespace {

#if defined(QK_X86)

struct Registers {
  uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r{};
#if defined(_MSC_VER)
  int out[4];
  __cpuid(out, 0);  // a leaf beyond the last repeats another: read as absent, as __get_cpuid_count
  if (static_cast<uint32_t>(out[0]) < leaf) return r;
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<uint32_t>(out[0]), static_cast<uint32_t>(out[1]), static_cast<uint32_t>(out[2]),
       static_cast<uint32_t>(out[3])};
#else
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
#endif
  return r;
}

// XCR0: the register state that the operating system saves.
uint64_t saved_state() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
#endif
}

// Linux hands out the 8 KiB of tile state on request only (Documentation/arch/x86/xstate.rst).
bool request_tile_state() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return true;  // Windows grants it to every process; macOS never sets the bits in XCR0
#endif
}

bool bit(uint32_t word, unsigned index) { return ((word >> index) & 1u) != 0; }

uint64_t detect() {
  const Registers basic = cpuid(1, 0);
  if (!bit(basic.c, 27)) return 0;  // OSXSAVE: without it no state beyond SSE
  const uint64_t state = saved_state();
  const bool os_avx = (state & 0x6) == 0x6;
  const bool os_avx512 = os_avx && (state & 0xe0) == 0xe0;
  const bool os_amx = (state & 0x60000) == 0x60000;
  const Registers extended = cpuid(7, 0);
  const Registers extended1 = cpuid(7, 1);
  uint64_t found = 0;
  const auto add = [&found](bool present, uint64_t feature) {
    if (present) found |= feature;
  };
  add(os_avx && bit(basic.c, 12), kFeature_fma);
  add(os_avx && bit(basic.c, 29), kFeature_f16c);
  add(os_avx && bit(extended.b, 5), kFeature_avx2);
  add(os_avx && bit(extended1.a, 4), kFeature_avx_vnni);
  add(os_avx512 && bit(extended.b, 16), kFeature_avx512f);
  add(os_avx512 && bit(extended.b, 17), kFeature_avx512dq);
  add(os_avx512 && bit(extended.b, 30), kFeature_avx512bw);
  add(os_avx512 && bit(extended.b, 31), kFeature_avx512vl);
  add(os_avx512 && bit(extended.c, 11), kFeature_avx512vnni);
  if (os_amx && bit(extended.d, 24) && request_tile_state()) {
    add(true, kFeature_amx_tile);
    add(bit(extended.d, 25), kFeature_amx_int8);
  }
  return found;
}

#elif defined(__aarch64__)

uint64_t detect() {
  uint64_t found = kFeature_asimd;  // part of the AArch64 baseline
#if defined(__linux__)
  if ((getauxval(AT_HWCAP) & (1ul << 20)) != 0) found |= kFeature_asimddp;  // HWCAP_ASIMDDP
  if ((getauxval(AT_HWCAP2) & (1ul << 13)) != 0) found |= kFeature_i8mm;    // HWCAP2_I8MM
#endif
  return found;
}

#else
uint64_t detect() { return 0; }
#endif

#if defined(__linux__)
// cgroup v2 "quota period" or v1 files; 0 when there is no limit.
int quota_cpus() {
  double quota = -1;
  double period = 0;
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    if (std::fscanf(file, "%lf %lf", &quota, &period) != 2) quota = -1;
    std::fclose(file);
  } else {
    const auto read = [](const char* path) {
      double value = -1;
      if (std::FILE* v1 = std::fopen(path, "r")) {
        if (std::fscanf(v1, "%lf", &value) != 1) value = -1;
        std::fclose(v1);
      }
      return value;
    };
    quota = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    period = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  }
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>((quota + period - 1) / period);
}

size_t cache_bytes(int name, size_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<size_t>(bytes) : otherwise;
}
#endif

}  // namespace

uint64_t cpu_features() {
  static const uint64_t found = detect();
  return found;
}

const char* feature_name(unsigned index) {
  static const char* const names[] = {
#define QK_FEATURE_NAME(name) #name,
      QK_FEATURES(QK_FEATURE_NAME)
#undef QK_FEATURE_NAME
  };
  return index < kFeatureCount ? names[index] : nullptr;
}

const CacheSizes& cache_sizes() {
  static const CacheSizes sizes = [] {
    CacheSizes found;
#if defined(__linux__) && defined(_SC_LEVEL1_DCACHE_SIZE)
    found.l1 = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, found.l1);
    found.l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, found.l2);
#endif
    return found;
  }();
  return sizes;
}

int affinity_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(CPU_COUNT(&set), 1);
#endif
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

int usable_cpus() {
  int count = affinity_cpus();
#if defined(__linux__)
  if (const int quota = quota_cpus(); quota > 0) count = std::min(count, quota);
#endif
  return std::max(count, 1);
}

}  // namespace qk

const char* qk_cpu_features(void) {
  static const std::string text = [] {
    std::string joined;
    for (unsigned i = 0; i < qk::kFeatureCount; ++i) {
      if (((qk::cpu_features() >> i) & 1) == 0) continue;
      if (!joined.empty()) joined += ' ';
      joined += qk::feature_name(i);
    }
    return joined;
  }();
  return text.c_str();
}

int qk_cpu_count(void) { return qk::usable_cpus(); }
