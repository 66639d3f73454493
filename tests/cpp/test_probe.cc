// SPDX-License-Identifier: Apache-2.0
//
// The probes do the work that they report: their sums tell.
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/contract.h"
#include "qkernels/qkernels.h"
#include "test.h"

namespace qk::test {
namespace {

QK_TEST(probes_of_every_tier_do_what_they_count) {
  for_each_tier([](const char* name, const ResolvedTier& tier) {
    for (const auto run : {tier.table.probe_dots, tier.table.probe_fma}) {
      const bool dots = run == tier.table.probe_dots;
      uint64_t of_one = 0;
      for (const size_t rounds : {1, 2, 3, 1000}) {
        set_context("%s %s %zu rounds", name, dots ? "dots" : "fma", rounds);
        ProbeArgs args{nullptr, rounds, 0, 0};
        call(run, &args);
        if (rounds == 1) of_one = args.work;
        CHECK(args.work > 0);
        CHECK_EQUAL(args.work, of_one * rounds);
        CHECK_EQUAL(args.sum, static_cast<uint32_t>(args.work));
      }
    }
    set_context("%s fma at its limit", name);
    ProbeArgs args{nullptr, kProbeRounds, 0, 0};
    call(tier.table.probe_fma, &args);
    CHECK_EQUAL(args.sum, static_cast<uint32_t>(args.work));
  });
}

QK_TEST(read_probes_read_every_word) {
  Random random(7);
  for_each_tier([&](const char* name, const ResolvedTier& tier) {
    for (const size_t bytes : {kProbeBlock, 3 * kProbeBlock, 64 * kProbeBlock}) {
      set_context("%s read %zu bytes", name, bytes);
      const Guarded memory(bytes);
      uint32_t sum = 0;
      for (size_t i = 0; i < bytes / sizeof(uint32_t); ++i) {
        memory.as<uint32_t>()[i] = random.next();
        sum += memory.as<uint32_t>()[i];
      }
      ProbeArgs args{memory.data(), bytes, 0, 0};
      call(tier.table.probe_read, &args);
      CHECK_EQUAL(args.work, bytes);
      CHECK_EQUAL(args.sum, sum);
    }
  });
}

QK_TEST(probe_run_times_every_probe_at_every_thread_count) {
  using Clock = std::chrono::steady_clock;
  for (const int threads : {1, 2, 5}) {
    qk_set_local_threads(threads);
    for (const int what : {QK_PROBE_DOTS, QK_PROBE_FLOAT32, QK_PROBE_READ, QK_PROBE_CHAIN}) {
      set_context("probe %d, %d threads", what, threads);
      double rate = 0;
      const auto start = Clock::now();
      CHECK_EQUAL(qk_probe_run(what, what == QK_PROBE_READ ? 4096 : 0, 0.01, &rate), QK_OK);
      CHECK(Clock::now() - start >= std::chrono::milliseconds(10));
      CHECK(rate > 1e4);
    }
  }
  qk_set_local_threads(0);
}

QK_TEST(probe_run_while_other_threads_use_the_pool) {
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([] {
      qk_set_local_threads(2);
      double rate = 0;
      CHECK_EQUAL(qk_probe_run(QK_PROBE_READ, 8192, 0.01, &rate), QK_OK);
      CHECK(rate > 0);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

QK_TEST(probe_run_refuses_what_cannot_be) {
  double rate = -1;
  CHECK_EQUAL(qk_probe_run(QK_PROBE_READ, 0, 0, &rate), QK_INVALID_ARGUMENT);
  CHECK_EQUAL(qk_probe_run(QK_PROBE_READ, 1000, 0, &rate), QK_INVALID_ARGUMENT);
  CHECK_EQUAL(qk_probe_run(QK_PROBE_DOTS, 1024, 0, &rate), QK_INVALID_ARGUMENT);
  CHECK_EQUAL(qk_probe_run(QK_PROBE_DOTS, 0, -1, &rate), QK_INVALID_ARGUMENT);
  CHECK_EQUAL(qk_probe_run(QK_PROBE_DOTS, 0, float_of(0x7fc00000), &rate), QK_INVALID_ARGUMENT);
  CHECK_EQUAL(qk_probe_run(QK_PROBE_DOTS, 0, 1e9, &rate), QK_INVALID_ARGUMENT);
  CHECK_EQUAL(qk_probe_run(9, 0, 0, &rate), QK_INVALID_ARGUMENT);
  CHECK_EQUAL(rate, -1.0);
}

}  // namespace
}  // namespace qk::test
