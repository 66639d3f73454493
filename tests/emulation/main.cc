// SPDX-License-Identifier: Apache-2.0
//
// Tests of the models themselves. "--print" writes the checksums of avx512_checksums.h instead.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "check.h"

namespace qk::emulation_test {

void test_amx();
void test_avx512();
void print_avx512_checksums();

namespace {

constexpr size_t kShown = 20;
size_t checks = 0, failures = 0;

}  // namespace

void check(bool holds, const char* format, ...) {
  ++checks;
  if (holds || ++failures > kShown) return;
  va_list args;
  va_start(args, format);
  std::vfprintf(stderr, format, args);
  va_end(args);
  std::fputc('\n', stderr);
}

int run(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--print") == 0) {
    print_avx512_checksums();
    return EXIT_SUCCESS;
  }
  test_avx512();
  test_amx();
  std::printf("%zu checks, %zu failed\n", checks, failures);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace qk::emulation_test

int main(int argc, char** argv) { return qk::emulation_test::run(argc, argv); }
