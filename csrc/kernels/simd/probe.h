// SPDX-License-Identifier: Apache-2.0
//
// What the probes of the vector tiers share, on the vocabulary: sums that stay in registers, and
// values that the compiler knows nothing about.
#ifndef QKERNELS_KERNELS_SIMD_PROBE_H
#define QKERNELS_KERNELS_SIMD_PROBE_H

#include "kernels/contract.h"

#if defined(_MSC_VER) && !defined(__clang__)
extern "C" void _ReadWriteBarrier(void);
#pragma intrinsic(_ReadWriteBarrier)
#endif

namespace qk::QK_TIER {

// What is at `p`, and all other memory, may have changed.
inline void clobber(const void* p) {
#if defined(__GNUC__)
  __asm__ volatile("" : : "r"(p) : "memory");
#else
  static const void* volatile sink;
  sink = p;
  _ReadWriteBarrier();
#endif
}

inline int32_t opaque(int32_t v) {
  clobber(&v);
  return v;
}

struct Int32s {
  VI v;
};
struct Float32s {
  VF v;
};

// N vectors as members, not as an array: gcc keeps an array that is looped over in memory.
template <class Vector, uint32_t N>
struct Registers {
  Vector last;
  Registers<Vector, N - 1> rest;
  template <class F>
  void each(const F& f) {
    f(N - 1, last.v);
    rest.each(f);
  }
};
template <class Vector>
struct Registers<Vector, 0> {
  template <class F>
  void each(const F&) {}
};

// n rounds of step(sum) on N independent sums. They start from 0, 1, ...: of equal ones the compiler
// would compute one. They end in memory one by one, because gcc 12 copies registers that it adds up.
template <uint32_t N, class Step>
void run_dots(ProbeArgs* args, uint32_t macs_a_step, const Step& step) {
  Registers<Int32s, N> sums;
  sums.each([](uint32_t i, VI& sum) { sum = splat_i(static_cast<int32_t>(i)); });
  for (size_t round = 0; round < args->n; ++round) {
    sums.each([&](uint32_t, VI& sum) { sum = step(sum); });
  }
  uint32_t lanes[N * kLanes];
  sums.each([&](uint32_t i, VI& sum) { store_i(lanes + i * kLanes, sum); });
  args->sum = 0;
  for (uint32_t j = 0; j < N * kLanes; ++j) args->sum += lanes[j] - j / kLanes;
  args->work = uint64_t{args->n} * N * macs_a_step;
}

template <uint32_t N, class Step>
void run_fma(ProbeArgs* args, const Step& step) {
  Registers<Float32s, N> sums;
  sums.each([](uint32_t i, VF& sum) { sum = splat_f(static_cast<float>(i)); });
  for (size_t round = 0; round < args->n; ++round) {
    sums.each([&](uint32_t, VF& sum) { sum = step(sum); });
  }
  float lanes[N * kLanes];
  sums.each([&](uint32_t i, VF& sum) { store_f(lanes + i * kLanes, sum); });
  args->sum = 0;
  for (uint32_t j = 0; j < N * kLanes; ++j) {
    args->sum += static_cast<uint32_t>(lanes[j]) - j / kLanes;
  }
  args->work = uint64_t{args->n} * N * kLanes;
}

inline void run_read(ProbeArgs* args) {
  constexpr uint32_t kSums = 8;
  constexpr size_t kStep = size_t{kSums} * kLanes * sizeof(uint32_t);
  static_assert(kProbeBlock % kStep == 0, "a read ends with a whole step");
  const char* p = static_cast<const char*>(args->src);
  Registers<Int32s, kSums> sums;
  sums.each([](uint32_t, VI& sum) { sum = splat_i(0); });
  for (const char* const end = p + args->n; p != end; p += kStep) {
    sums.each(
        [&](uint32_t i, VI& sum) { sum = add(sum, load_i(p + i * kLanes * sizeof(uint32_t))); });
  }
  uint32_t lanes[kSums * kLanes];
  sums.each([&](uint32_t i, VI& sum) { store_i(lanes + i * kLanes, sum); });
  args->sum = 0;
  for (const uint32_t lane : lanes) args->sum += lane;
  args->work = args->n;
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_PROBE_H
