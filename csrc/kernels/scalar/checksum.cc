// SPDX-License-Identifier: Apache-2.0
//
// The definition: word w meets lane l as l = rotate((l ^ mix(w)) * M, 31), where
// mix(w) = (v ^ (v >> 32)) * M and v = w * M.
#include <string.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void checksum(const ChecksumArgs* args) {
  const uint8_t* data = args->data;
  uint64_t lanes[4];
  memcpy(lanes, args->lanes, sizeof(lanes));
  for (size_t block = 0; block < args->blocks; ++block, data += 32) {
    for (size_t i = 0; i < 4; ++i) {
      uint64_t word;
      memcpy(&word, data + 8 * i, 8);
      word *= kChecksumMix;
      word = (word ^ (word >> 32)) * kChecksumMix;
      word = (lanes[i] ^ word) * kChecksumMix;
      lanes[i] = (word << 31) | (word >> 33);
    }
  }
  memcpy(args->lanes, lanes, sizeof(lanes));
}

}  // namespace qk::QK_TIER
