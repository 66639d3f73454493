// SPDX-License-Identifier: Apache-2.0
//
// What this machine gives at most: the active tier's probes, timed on the threads of the pool.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "core/thread_pool.h"
#include "core/tiers.h"
#include "kernels/contract.h"
#include "qkernels/qkernels.h"

namespace qk {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kWindows = 4;  // the best counts: whatever disturbs a window makes it slower

// Work between two looks at the clock: many microseconds, so that looking costs nothing, and a few
// milliseconds where instructions are emulated.
constexpr size_t kReadBytes = size_t{1} << 20;
constexpr size_t kDotRounds = 1024;
constexpr size_t kFmaRounds = 4096;
constexpr size_t kChainSteps = 1 << 15;

// x = x * a + c: each step waits for the one before, some 4 cycles on every CPU.
void probe_chain(ProbeArgs* args) {
  uint32_t x = 0;
  for (size_t i = 0; i < args->n; ++i) x = x * 1664525u + 1013904223u;
  args->work = args->n;
  args->sum = x;
}

struct Loop {
  void (*run)(ProbeArgs*);
  size_t n;
  size_t times;
};

Loop loop_of(int what, size_t bytes) {
  const Tier& table = active_tier().table;
  switch (what) {
    case QK_PROBE_DOTS:
      return {table.probe_dots, kDotRounds, 1};
    case QK_PROBE_FLOAT32:
      return {table.probe_fma, kFmaRounds, 1};
    case QK_PROBE_READ:
      return {table.probe_read, bytes, ceil_div(kReadBytes, bytes)};
    case QK_PROBE_CHAIN:
      return {probe_chain, kChainSteps, 1};
    default:
      return {nullptr, 0, 0};
  }
}

// Work a second of all threads in one window. A thread that comes late, or not at all because
// another call holds the pool, shows as less work: the clock is that of the whole.
double run_window(const Loop& loop, const std::vector<Buffer>& memory, size_t threads,
                  Clock::duration length) {
  std::atomic<uint64_t> work{0};
  std::atomic<uint32_t> sink{0};
  const Clock::time_point start = Clock::now();
  parallel_for(threads, [&](size_t index) {
    ProbeArgs args{memory.empty() ? nullptr : memory[index].data(), loop.n, 0, 0};
    uint64_t done = 0;
    uint32_t sum = 0;
    do {
      for (size_t i = 0; i < loop.times; ++i) {
        loop.run(&args);
        done += args.work;
        sum ^= args.sum;
      }
    } while (Clock::now() - start < length);
    work.fetch_add(done, std::memory_order_relaxed);
    sink.fetch_xor(sum, std::memory_order_relaxed);
  });
  const std::chrono::duration<double> taken = Clock::now() - start;
  return static_cast<double>(work.load()) / taken.count();
}

std::vector<Buffer> touched_memory(size_t threads, size_t bytes) {
  std::vector<Buffer> memory;
  for (size_t i = 0; i < threads && bytes > 0; ++i) memory.emplace_back(bytes);
  if (!memory.empty()) {
    parallel_for(threads, [&](size_t index) {
      auto* words = reinterpret_cast<uint32_t*>(memory[index].data());
      for (size_t i = 0; i < bytes / sizeof(uint32_t); ++i) words[i] = static_cast<uint32_t>(i);
    });
  }
  return memory;
}

}  // namespace
}  // namespace qk

qk_status qk_probe_run(int what, size_t bytes, double seconds, double* per_second) {
  return qk::guarded([&]() -> qk_status {
    if (!(seconds >= 0 && seconds <= 60)) {
      return qk::fail(QK_INVALID_ARGUMENT, "seconds must be between 0 and 60");
    }
    const bool reads = what == QK_PROBE_READ;
    if (reads != (bytes > 0) || bytes % qk::kProbeBlock != 0) {
      return qk::fail(QK_INVALID_ARGUMENT,
                      "bytes must be a positive multiple of %zu to read and 0 otherwise, got %zu",
                      qk::kProbeBlock, bytes);
    }
    const qk::Loop loop = qk::loop_of(what, bytes);
    if (loop.run == nullptr) return qk::fail(QK_INVALID_ARGUMENT, "no such probe");
    const auto threads = static_cast<size_t>(std::max(qk::num_threads(), 1));
    const std::vector<qk::Buffer> memory = qk::touched_memory(threads, bytes);
    const auto length = std::chrono::duration_cast<qk::Clock::duration>(
        std::chrono::duration<double>(seconds / qk::kWindows));
    *per_second = 0;
    for (int window = 0; window < qk::kWindows; ++window) {
      *per_second = std::max(*per_second, qk::run_window(loop, memory, threads, length));
    }
    return QK_OK;
  });
}
