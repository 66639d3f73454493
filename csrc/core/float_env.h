// SPDX-License-Identifier: Apache-2.0
//
// IEEE float arithmetic for as long as this lives: round to nearest even, subnormals kept, traps
// masked. A host may have set its threads otherwise (a library built with -ffast-math turns on
// flush-to-zero when it is loaded), and the same bits are promised on every thread.
#ifndef QKERNELS_CORE_FLOAT_ENV_H
#define QKERNELS_CORE_FLOAT_ENV_H

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>  // part of the baseline
#elif defined(_M_ARM64) && !defined(__GNUC__)
#include <intrin.h>
#endif

namespace qk {

class FloatEnv {
 public:
  FloatEnv() : before_(read()) {
    if ((before_ & kControl) != (kIeee & kControl)) write(kIeee);
  }
  ~FloatEnv() {
    if ((before_ & kControl) != (kIeee & kControl)) write(before_);
  }
  FloatEnv(const FloatEnv&) = delete;
  FloatEnv& operator=(const FloatEnv&) = delete;

 private:
#if defined(__x86_64__) || defined(_M_X64)
  using Word = uint32_t;
  static constexpr Word kIeee = 0x1f80;     // MXCSR after reset
  static constexpr Word kControl = 0xffc0;  // all but the six sticky exception flags
  static Word read() { return _mm_getcsr(); }
  static void write(Word word) { _mm_setcsr(word); }
#elif defined(__aarch64__) && defined(__GNUC__)
  using Word = uint64_t;
  static constexpr Word kIeee = 0;  // FPCR after reset
  static constexpr Word kControl = ~Word{0};
  static Word read() {
    Word word = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) { __asm__ volatile("msr fpcr, %0" : : "r"(word)); }
#elif defined(_M_ARM64)
  using Word = uint64_t;
  static constexpr Word kIeee = 0;
  static constexpr Word kControl = ~Word{0};
  static constexpr int kFpcr = ARM64_SYSREG(3, 3, 4, 4, 0);
  static Word read() { return static_cast<Word>(_ReadStatusReg(kFpcr)); }
  static void write(Word word) { _WriteStatusReg(kFpcr, static_cast<__int64>(word)); }
#else
  using Word = uint32_t;
  static constexpr Word kIeee = 0;
  static constexpr Word kControl = 0;
  static Word read() { return 0; }
  static void write(Word) {}
#endif

  const Word before_;
};

}  // namespace qk

#endif  // QKERNELS_CORE_FLOAT_ENV_H
