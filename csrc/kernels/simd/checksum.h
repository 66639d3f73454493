// SPDX-License-Identifier: Apache-2.0
//
// Word w meets lane l as l = rotate((l ^ mix(w)) * M, 31), where mix(w) = (v ^ (v >> 32)) * M and
// v = w * M. The three products a word would fill the scalar multiplier for twelve cycles a block
// of 32 bytes. Mixing knows no lane, so it is done on vectors, a batch ahead of the lanes; what is
// left is the chain of a lane, five cycles a block, and with it 6.4 bytes a cycle at best.
//
// The tier's checksum.cc defines `mix`, a vector of words: kMixed blocks from data to mixed.
#ifndef QKERNELS_KERNELS_SIMD_CHECKSUM_H
#define QKERNELS_KERNELS_SIMD_CHECKSUM_H

#include <string.h>

#include "kernels/contract.h"

namespace qk::QK_TIER {

struct Lanes {
  uint64_t a, b, c, d;
};

inline uint64_t step(uint64_t lane, uint64_t mixed) {
  lane ^= mixed;
#if defined(__GNUC__)
  __asm__("" : "+r"(lane));  // a scalar: as a vector of lanes the chain is twice as long
#endif
  lane *= kChecksumMix;
  return (lane << 31) | (lane >> 33);
}

inline void take(Lanes* lanes, const uint64_t* mixed) {
  lanes->a = step(lanes->a, mixed[0]);
  lanes->b = step(lanes->b, mixed[1]);
  lanes->c = step(lanes->c, mixed[2]);
  lanes->d = step(lanes->d, mixed[3]);
}

template <size_t kMixed, typename Mix>
inline void run_checksum(const ChecksumArgs& a, Mix mix) {
  constexpr size_t kBatch = 16;  // blocks
  constexpr size_t kBytes = 32;  // of a block
  static_assert(kBatch % kMixed == 0, "whole vectors");
  const uint8_t* data = a.data;
  Lanes lanes;
  memcpy(&lanes, a.lanes, sizeof(lanes));
  alignas(64) uint64_t mixed[2][4 * kBatch];
  const auto mix_at = [&](size_t block, uint64_t* to) {
    mix(data + kBytes * block, to + 4 * block);
  };
  size_t batches = a.blocks / kBatch;
  if (batches > 0) {
    for (size_t i = 0; i < kBatch; i += kMixed) mix_at(i, mixed[0]);
  }
  for (size_t now = 0; batches > 0; --batches, now ^= 1) {
    data += kBytes * kBatch;
    for (size_t i = 0; i < kBatch; i += kMixed) {
      if (batches > 1) mix_at(i, mixed[now ^ 1]);  // between the links of the chain
      for (size_t j = 0; j < kMixed; ++j) take(&lanes, mixed[now] + 4 * (i + j));
    }
  }
  const size_t rest = a.blocks % kBatch;
  alignas(64) uint8_t last[kBytes * kBatch] = {};
  memcpy(last, data, kBytes * rest);
  data = last;
  for (size_t i = 0; i < rest; i += kMixed) mix_at(i, mixed[0]);
  for (size_t i = 0; i < rest; ++i) take(&lanes, mixed[0] + 4 * i);
  memcpy(a.lanes, &lanes, sizeof(lanes));
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_CHECKSUM_H
