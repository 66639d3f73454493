// SPDX-License-Identifier: Apache-2.0
//
// Tests of the models themselves, or of those named: avx512, amx. "--print" writes the checksums of
// avx512_checksums.h instead.
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
  const auto named = [&](const char* name) {
    for (int i = 1; i < argc; ++i) {
      if (std::strcmp(argv[i], name) == 0) return true;
    }
    return false;
  };
  if (named("--print")) {
    print_avx512_checksums();
    return EXIT_SUCCESS;
  }
  if (argc < 2 || named("avx512")) test_avx512();
  if (argc < 2 || named("amx")) test_amx();
  std::printf("%zu checks, %zu failed\n", checks, failures);
  return checks > 0 && failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace qk::emulation_test

int main(int argc, char** argv) { return qk::emulation_test::run(argc, argv); }
