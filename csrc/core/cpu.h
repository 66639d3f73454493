// SPDX-License-Identifier: Apache-2.0
//
// What this CPU and operating system let us execute, and the sizes of its caches.
#ifndef QKERNELS_CORE_CPU_H
#define QKERNELS_CORE_CPU_H

#include <cstddef>
#include <cstdint>

namespace qk {

// One bit a feature that a tier may ask for. The names are those of /proc/cpuinfo.
#define QK_FEATURES(X) \
  X(avx2)              \
  X(f16c)              \
  X(fma)               \
  X(avx_vnni)          \
  X(avx512f)           \
  X(avx512bw)          \
  X(avx512vl)          \
  X(avx512dq)          \
  X(avx512vnni)        \
  X(amx_tile)          \
  X(amx_int8)          \
  X(asimd)             \
  X(asimddp)           \
  X(i8mm)

enum FeatureIndex : unsigned {
#define QK_FEATURE_INDEX(name) kFeatureIndex_##name,
  QK_FEATURES(QK_FEATURE_INDEX)
#undef QK_FEATURE_INDEX
      kFeatureCount
};

enum Feature : uint64_t {
#define QK_FEATURE_BIT(name) kFeature_##name = uint64_t{1} << kFeatureIndex_##name,
  QK_FEATURES(QK_FEATURE_BIT)
#undef QK_FEATURE_BIT
};

// Detected once. AMX counts only when the kernel has granted this process its tile state.
uint64_t cpu_features();
const char* feature_name(unsigned index);

struct CacheSizes {
  size_t l1 = size_t{32} << 10;
  size_t l2 = size_t{512} << 10;
};
const CacheSizes& cache_sizes();

// CPUs in the affinity mask of the calling thread, which the threads that it starts inherit; one
// system call.
int affinity_cpus();

// CPUs that this process may use: affinity mask, cgroup quota, at least 1.
int usable_cpus();

}  // namespace qk

#endif  // QKERNELS_CORE_CPU_H
