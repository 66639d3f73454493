// SPDX-License-Identifier: Apache-2.0
//
// The little that the native tests need: cases that register themselves, checks that count and say
// where, the tiers that run on this CPU, random numbers of a fixed seed, guarded memory.
#ifndef QKERNELS_TESTS_CPP_TEST_H
#define QKERNELS_TESTS_CPP_TEST_H

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "core/tiers.h"

namespace qk::test {

struct Case {
  Case(const char* case_name, void (*function)());
  const char* name;
  void (*run)();
  const Case* next;
};

// What is being tested, for the message of a failed check ("avx2 n=17 ...").
void set_context(const char* format, ...);
bool report(bool ok, const char* file, int line, const std::string& what);

#define QK_TEST(name)                                     \
  static void name();                                     \
  static const ::qk::test::Case name##_case(#name, name); \
  static void name()

// Value of the condition, so that a test can stop early: if (!CHECK(...)) return;
#define CHECK(condition) ::qk::test::report((condition), __FILE__, __LINE__, #condition)

template <class A, class B>
bool check_equal(const A& got, const B& expected, const char* file, int line, const char* what) {
  if (got == expected) return true;
  return report(false, file, line,
                std::string(what) + ": got " + std::to_string(got) + ", expected " +
                    std::to_string(expected));
}
#define CHECK_EQUAL(got, expected) \
  ::qk::test::check_equal((got), (expected), __FILE__, __LINE__, #got)

inline uint32_t bits_of(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, sizeof(v));
  return v;
}

// Equal bits, so that -0 differs from 0.
inline bool check_same_float(float got, float expected, const char* file, int line,
                             const char* what) {
  if (bits_of(got) == bits_of(expected)) return true;
  char text[128];
  std::snprintf(text, sizeof(text), ": got %.9g (%08x), expected %.9g (%08x)", got, bits_of(got),
                expected, bits_of(expected));
  return report(false, file, line, what + std::string(text));
}
#define CHECK_SAME_FLOAT(got, expected) \
  ::qk::test::check_same_float((got), (expected), __FILE__, __LINE__, #got)

// f(name, resolved tier) for each tier that this CPU runs.
template <class F>
void for_each_tier(F f) {
  for (size_t i = 0; i < tier_count(); ++i) {
    if (tier_info(i).available) f(tier_info(i).name, resolved(i));
  }
}

// f(args), remembered: a run ends with the kernels that it executed and those that it did not.
void remember(void (*function)());
template <class Function, class Args>
void call(Function* function, Args* args) {
  remember(reinterpret_cast<void (*)()>(function));
  function(args);
}
void print_ledger();

// xorshift64*: the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint32_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545f4914f6cdd1du) >> 32);
  }
  int32_t integer(int32_t lo, int32_t hi) {
    const uint64_t span = static_cast<uint64_t>(static_cast<int64_t>(hi) - lo) + 1;
    return static_cast<int32_t>(lo + static_cast<int64_t>((span * next()) >> 32));
  }
  float real(float lo, float hi) {
    return lo + (hi - lo) * (static_cast<float>(next() >> 8) / 16777216.0f);
  }
  // Any finite bit pattern.
  float finite() {
    for (;;) {
      const uint32_t bits = next();
      if ((bits & 0x7f800000u) != 0x7f800000u) return float_of(bits);
    }
  }
  // Small, large or at a limit.
  int32_t wild() {
    static const int32_t kLimits[] = {INT32_MIN, INT32_MIN + 1, -1, 0, 1, INT32_MAX - 1, INT32_MAX};
    switch (next() % 4) {
      case 0:
        return kLimits[next() % 7];
      case 1:
        return static_cast<int32_t>(next());
      case 2:
        return integer(-40000000, 40000000);
      default:
        return integer(-3000, 3000);
    }
  }

 private:
  uint64_t state_;
};

// `size` bytes of 0xa5 that end (or, with at_front, begin) at a page which cannot be touched.
class Guarded {
 public:
  explicit Guarded(size_t size, bool at_front = false);
  ~Guarded();
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(static_cast<void*>(data_));
  }
  static constexpr uint8_t kFill = 0xa5;

 private:
  uint8_t* data_;
  size_t size_;
  void* base_;
  size_t mapped_;
};

}  // namespace qk::test

#endif  // QKERNELS_TESTS_CPP_TEST_H
