// SPDX-License-Identifier: Apache-2.0
#include "pack/checksum.h"

#include "core/tiers.h"

namespace qk {
namespace {

uint64_t step(uint64_t state, uint64_t word) {
  word *= kChecksumMix;
  word = (word ^ (word >> 32)) * kChecksumMix;
  state = (state ^ word) * kChecksumMix;
  return (state << 31) | (state >> 33);
}

}  // namespace

void Checksum::add(const uint8_t* data, size_t size) {
  const ChecksumArgs args{data, size / 32, lanes_};
  active_tier().table.checksum(&args);
  for (size_t i = size / 32 * 32; i < size; ++i) lanes_[i % 4] = step(lanes_[i % 4], data[i] + 1u);
}

uint64_t Checksum::value() const {
  uint64_t sum = 0x6a09e667f3bcc909u;
  for (const uint64_t lane : lanes_) sum = step(sum, lane);
  return sum;
}

uint64_t checksum(const uint8_t* data, size_t size) {
  Checksum sum(size);
  sum.add(data, size);
  return sum.value();
}

}  // namespace qk
