// SPDX-License-Identifier: Apache-2.0
//
// The checksum's lanes over 32-byte blocks, compiled for each tier that has its checksum.cc. A
// word is mixed on its own, which a compiler turns into vectors, and then meets its lane, a chain
// of five cycles a block that sets the speed: 6.4 bytes a cycle.
#ifndef QKERNELS_KERNELS_SIMD_CHECKSUM_H
#define QKERNELS_KERNELS_SIMD_CHECKSUM_H

#include <string.h>

#include "kernels/contract.h"

namespace qk::QK_TIER {

inline void run_checksum(const ChecksumArgs& a) {
  constexpr size_t kBatch = 16;  // blocks: words mixed before the lanes take them
  const uint8_t* data = a.data;
  uint64_t lane[4] = {a.lanes[0], a.lanes[1], a.lanes[2], a.lanes[3]};
  for (size_t left = a.blocks; left > 0;) {
    const size_t blocks = left < kBatch ? left : kBatch;
    alignas(64) uint64_t words[4 * kBatch];
    memcpy(words, data, 32 * blocks);
    for (uint64_t& word : words) {
      word *= kChecksumMix;
      word = (word ^ (word >> 32)) * kChecksumMix;
    }
    for (size_t block = 0; block < blocks; ++block) {
      for (size_t l = 0; l < 4; ++l) {
        const uint64_t state = (lane[l] ^ words[4 * block + l]) * kChecksumMix;
        lane[l] = (state << 31) | (state >> 33);
      }
    }
    data += 32 * blocks;
    left -= blocks;
  }
  memcpy(a.lanes, lane, sizeof(lane));
}

}  // namespace qk::QK_TIER

#endif  // QKERNELS_KERNELS_SIMD_CHECKSUM_H
