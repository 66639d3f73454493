// SPDX-License-Identifier: Apache-2.0
#include "core/cpu.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
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
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define QK_ARM 1
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#endif
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace qk {
namespace {

#if defined(__APPLE__)
// An integer of the system's by name; 0 where there is none.
uint64_t sysctl_value(const char* name) {
  uint64_t value = 0;  // a 32-bit one fills the low half: both architectures are little-endian
  size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? value : 0;
}
#endif

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

#elif defined(QK_ARM)

// What every core of the machine has: an operating system reports no feature of some cores alone.
uint64_t detect() {
  bool dot_products = false;
  bool matrix_products = false;
#if defined(__linux__)
  // Documentation/arch/arm64/elf_hwcaps.rst; headers older than a feature lack its name.
  constexpr unsigned long kHwcapAsimddp = 1ul << 20;
  constexpr unsigned long kHwcap2I8mm = 1ul << 13;
  dot_products = (getauxval(AT_HWCAP) & kHwcapAsimddp) != 0;
  matrix_products = (getauxval(AT_HWCAP2) & kHwcap2I8mm) != 0;
#elif defined(__APPLE__)
  dot_products = sysctl_value("hw.optional.arm.FEAT_DotProd") != 0;
  matrix_products = sysctl_value("hw.optional.arm.FEAT_I8MM") != 0;
#elif defined(_WIN32)
  constexpr DWORD kDotProducts = 43;     // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
  constexpr DWORD kMatrixProducts = 66;  // PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE
  dot_products = IsProcessorFeaturePresent(kDotProducts) != 0;
  matrix_products = IsProcessorFeaturePresent(kMatrixProducts) != 0;
#endif
  uint64_t found = kFeature_asimd;  // part of the AArch64 baseline
  if (dot_products) found |= kFeature_asimddp;
  if (matrix_products) found |= kFeature_i8mm;
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

// A text file of one line without spaces; empty when there is none.
std::string read_word(const std::string& path) {
  char text[64] = "";
  if (std::FILE* file = std::fopen(path.c_str(), "r")) {
    if (std::fscanf(file, "%63s", text) != 1) text[0] = '\0';
    std::fclose(file);
  }
  return text;
}

// Data cache of a level of the first CPU, from sysfs: "32K", "1M". 0 when it does not say.
size_t sysfs_cache_bytes(int level) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder =
        "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    if (read_word(folder + "level") != std::to_string(level)) continue;
    if (read_word(folder + "type") == "Instruction") continue;
    const std::string size = read_word(folder + "size");
    char* unit = nullptr;
    const auto number = static_cast<size_t>(std::strtoul(size.c_str(), &unit, 10));
    return *unit == 'M' ? number << 20 : *unit == 'K' ? number << 10 : number;
  }
  return 0;
}

size_t cache_bytes(int level) {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  const long bytes = sysconf(level == 1 ? _SC_LEVEL1_DCACHE_SIZE : _SC_LEVEL2_CACHE_SIZE);
  if (bytes > 0) return static_cast<size_t>(bytes);
#endif
  return sysfs_cache_bytes(level);  // glibc knows them on x86 alone, musl nowhere
}
#elif defined(__APPLE__)
// Of the fast cores where there are two kinds.
size_t cache_bytes(int level) {
  const uint64_t fast =
      sysctl_value(level == 1 ? "hw.perflevel0.l1dcachesize" : "hw.perflevel0.l2cachesize");
  return static_cast<size_t>(
      fast != 0 ? fast : sysctl_value(level == 1 ? "hw.l1dcachesize" : "hw.l2cachesize"));
}
#else
size_t cache_bytes(int) { return 0; }
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
    if (const size_t bytes = cache_bytes(1); bytes > 0) found.l1 = bytes;
    if (const size_t bytes = cache_bytes(2); bytes > 0) found.l2 = bytes;
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
