// SPDX-License-Identifier: Apache-2.0
//
// The checksum of packed bytes. Four independent 64-bit lanes take the words of 32-byte blocks in
// turn. Each word is mixed before it meets its lane (multiply, fold the upper half down, multiply),
// so that no pair of flipped bits cancels; every step is a bijection of its lane, so that any
// damaged byte changes the result. Part of the packed format: see PackedHeader.
#ifndef QKERNELS_PACK_CHECKSUM_H
#define QKERNELS_PACK_CHECKSUM_H

#include <cstddef>
#include <cstdint>

namespace qk {

// Of `size` bytes, handed over in order and in pieces, all but the last of whole 32-byte blocks.
class Checksum {
 public:
  explicit Checksum(size_t size) : lanes_{1, 2, 3, size} {}
  void add(const uint8_t* data, size_t size);
  uint64_t value() const;

 private:
  uint64_t lanes_[4];
};

uint64_t checksum(const uint8_t* data, size_t size);

}  // namespace qk

#endif  // QKERNELS_PACK_CHECKSUM_H
