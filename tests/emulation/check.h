// SPDX-License-Identifier: Apache-2.0
//
// Checks that count and say where, and random numbers of a fixed seed.
#ifndef QKERNELS_TESTS_EMULATION_CHECK_H
#define QKERNELS_TESTS_EMULATION_CHECK_H

#include <stdint.h>

namespace qk::emulation_test {

// Counts a check; a failed one prints the sentence (the first 20 of them).
void check(bool holds, const char* format, ...) __attribute__((format(printf, 2, 3)));

// xorshift64* (Vigna 2016).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint32_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * UINT64_C(2685821657736338717)) >> 32);
  }
  // A byte, one time in four a limit of int8 or uint8.
  uint32_t extreme_byte() {
    const uint32_t r = next();
    static constexpr uint8_t kLimits[] = {0x80, 0x7f, 0xff, 0x00};
    return r % 4 == 0 ? kLimits[r >> 8 & 3] : r >> 24;
  }

 private:
  uint64_t state_;
};

}  // namespace qk::emulation_test

#endif  // QKERNELS_TESTS_EMULATION_CHECK_H
