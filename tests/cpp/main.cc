// SPDX-License-Identifier: Apache-2.0
//
// Runs all cases, or those whose name contains an argument. QKERNELS_EXPECT_TIERS=avx2,... makes a
// tier that this CPU or build lacks a failure: without it a skipped tier could go unnoticed.
#include <cstdarg>
#include <cstdlib>

#include "test.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace qk::test {
namespace {

const Case* first_case = nullptr;
char context[256] = "";
size_t failures = 0;
constexpr size_t kShown = 20;  // failures printed a case

}  // namespace

Case::Case(const char* case_name, void (*function)())
    : name(case_name), run(function), next(first_case) {
  first_case = this;
}

void set_context(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(context, sizeof(context), format, args);
  va_end(args);
}

bool report(bool ok, const char* file, int line, const std::string& what) {
  if (ok) return true;
  if (++failures <= kShown) {
    std::fprintf(stderr, "%s:%d: [%s] %s\n", file, line, context, what.c_str());
  }
  return false;
}

#if defined(_WIN32)

size_t page_size() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

void* map_pages(size_t size) {
  return VirtualAlloc(nullptr, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

bool forbid(void* page, size_t size) {
  DWORD old;
  return VirtualProtect(page, size, PAGE_NOACCESS, &old) != 0;
}

void unmap_pages(void* base, size_t) { VirtualFree(base, 0, MEM_RELEASE); }

#else

size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

void* map_pages(size_t size) {
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  return base == MAP_FAILED ? nullptr : base;
}

bool forbid(void* page, size_t size) { return mprotect(page, size, PROT_NONE) == 0; }

void unmap_pages(void* base, size_t size) { munmap(base, size); }

#endif

Guarded::Guarded(size_t size, bool at_front) : size_(size) {
  const size_t page = page_size();
  const size_t middle = (size + page - 1) / page * page;
  mapped_ = middle + 2 * page;
  base_ = map_pages(mapped_);
  uint8_t* bytes = static_cast<uint8_t*>(base_);
  if (bytes == nullptr || !forbid(bytes, page) || !forbid(bytes + page + middle, page)) {
    std::fprintf(stderr, "no memory for a guarded buffer of %zu bytes\n", size);
    std::abort();
  }
  if (middle != 0) std::memset(bytes + page, kFill, middle);
  data_ = bytes + page + (at_front ? 0 : middle - size);
}

Guarded::~Guarded() { unmap_pages(base_, mapped_); }

QK_TEST(expected_tiers_are_available) {
  const char* expected = std::getenv("QKERNELS_EXPECT_TIERS");
  std::string rest = expected == nullptr ? "" : expected;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string name = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    bool found = false;
    for_each_tier([&](const char* tier, const ResolvedTier&) { found = found || name == tier; });
    set_context("QKERNELS_EXPECT_TIERS: %s", name.c_str());
    CHECK(found);
  }
  set_context("");
  size_t runnable = 0;
  for_each_tier([&](const char*, const ResolvedTier&) { ++runnable; });
  CHECK(runnable > 0);
}

int run_cases(int argc, char** argv) {
  size_t run = 0, failed = 0;
  for (const Case* c = first_case; c != nullptr; c = c->next) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted = wanted || std::strstr(c->name, argv[i]) != nullptr;
    if (!wanted) continue;
    failures = 0;
    set_context("");
    c->run();
    ++run;
    failed += failures != 0;
    std::printf("%-6s %s", failures == 0 ? "ok" : "FAILED", c->name);
    if (failures != 0) std::printf(" (%zu checks failed)", failures);
    std::printf("\n");
    std::fflush(stdout);
  }
  std::printf("%zu cases, %zu failed; tiers:", run, failed);
  for_each_tier([](const char* name, const ResolvedTier&) { std::printf(" %s", name); });
  std::printf("\n");
  print_ledger();
  return run > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace qk::test

int main(int argc, char** argv) { return qk::test::run_cases(argc, argv); }
