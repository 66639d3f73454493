// SPDX-License-Identifier: Apache-2.0
//
// The thread pool: every task once, whoever calls and whatever the workers were doing, on no more
// threads than there are CPUs, after a fork, and on a host's threads.
#include <atomic>
#include <chrono>
#include <initializer_list>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "core/cpu.h"
#include "core/thread_pool.h"
#include "qkernels/qkernels.h"
#include "test.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace qk::test {
namespace {

// More threads than this machine may have CPUs, and the settings as before at the end.
struct ManyThreads {
  explicit ManyThreads(int threads) {
    assume_cpus(threads);
    qk_set_num_threads(threads);
  }
  ~ManyThreads() {
    assume_cpus(0);
    qk_set_num_threads(before);
  }
  int before = qk_get_process_threads();
};

// Runs `count` tasks and counts how often each was run; true when once.
bool each_once(size_t count) {
  std::vector<std::atomic<int>> runs(count);
  parallel_for(count, [&](size_t i) { runs[i].fetch_add(1, std::memory_order_relaxed); });
  bool once = true;
  for (const auto& n : runs) once = once && n.load(std::memory_order_relaxed) == 1;
  return once;
}

// The threads that run `count` tasks. Each task waits until `expected` threads have come, up to some
// seconds: a busy machine lets them come late.
std::set<std::thread::id> threads_of(size_t count, size_t expected) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  parallel_for(count, [&](size_t) {
    for (bool all = false; !all && std::chrono::steady_clock::now() < end;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::lock_guard<std::mutex> lock(mutex);
      ids.insert(std::this_thread::get_id());
      all = ids.size() >= expected;
    }
  });
  return ids;
}

// Do so many threads come to a job, and no more? Where the machine has other things to do, to one of
// a few.
bool all_come(size_t threads) {
  for (int i = 0; i < 5; ++i) {
    const size_t came = threads_of(10 * threads, threads).size();
    if (came >= threads) return came == threads;
  }
  return false;
}

QK_TEST(pool_runs_every_task_once) {
  for (const int threads : {1, 2, 3, 8, 40, 5, 2}) {
    const ManyThreads many(threads);
    for (const size_t count : {0, 1, 2, 3, 7, 8, 64, 1000}) {
      set_context("threads=%d count=%zu", threads, count);
      for (int i = 0; i < 20; ++i) CHECK(each_once(count));
    }
  }
}

QK_TEST(pool_wakes_parked_workers) {
  const ManyThreads many(6);
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // they spin for much less
    set_context("round %d", i);
    CHECK(each_once(6));
    CHECK(each_once(100));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(3));
  // The caller wakes some, those wake others: all come in the end.
  CHECK(all_come(6));
  qk_set_num_threads(2);
  CHECK(all_come(2));
}

QK_TEST(pool_serves_many_callers_and_nested_calls) {
  const ManyThreads many(4);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 6; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        std::atomic<size_t> runs{0};
        parallel_for(8, [&](size_t) {
          const auto outer = std::this_thread::get_id();
          parallel_for(5, [&](size_t) {
            if (std::this_thread::get_id() != outer) wrong.fetch_add(1);
            runs.fetch_add(1, std::memory_order_relaxed);
          });
        });
        if (runs.load() != 40) wrong.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK_EQUAL(wrong.load(), 0);
}

QK_TEST(what_tasks_wrote_is_seen_after_the_join) {
  const ManyThreads many(4);
  std::vector<int> values(64, 0);  // plain: a race would show under ThreadSanitizer
  for (int round = 0; round < 500; ++round) {
    parallel_for(values.size(), [&](size_t i) { values[i] += static_cast<int>(i) + round; });
  }
  bool right = true;
  for (size_t i = 0; i < values.size(); ++i) {
    right = right && values[i] == static_cast<int>(500 * i + 499 * 500 / 2);
  }
  CHECK(right);
}

#if defined(__linux__)
QK_TEST(pool_uses_no_more_threads_than_cpus) {
  const int before = qk_get_process_threads();
  qk_set_num_threads(4);
  std::thread confined([] {  // the mask is the thread's own
    cpu_set_t one;
    CPU_ZERO(&one);
    cpu_set_t all;
    if (!CHECK(sched_getaffinity(0, sizeof(all), &all) == 0)) return;
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
      if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
    }
    if (!CHECK(sched_setaffinity(0, sizeof(one), &one) == 0)) return;
    CHECK_EQUAL(affinity_cpus(), 1);
    const std::set<std::thread::id> ids = threads_of(4, 1);
    CHECK(ids.size() == 1 && ids.count(std::this_thread::get_id()) == 1);
    // What was set stands, and counts again when the mask is wide: within 64 calls.
    CHECK_EQUAL(qk_get_num_threads(), 4);
    if (!CHECK(sched_setaffinity(0, sizeof(all), &all) == 0)) return;
    for (int i = 0; i < 64; ++i) CHECK(each_once(4));
    if (CPU_COUNT(&all) > 1) CHECK(threads_of(40, 2).size() > 1);
  });
  confined.join();
  qk_set_num_threads(before);
}
#endif

#if defined(__unix__) && !defined(__SANITIZE_THREAD__)  // which knows no threads after a fork
QK_TEST(pool_works_in_forked_children) {
  const ManyThreads many(4);
  CHECK(all_come(4));
  std::atomic<bool> stop{false};
  // Forks happen while this thread's job is under way, or its lock taken.
  std::thread other([&] {
    while (!stop.load()) each_once(16);
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      for (int j = 0; j < 20; ++j) {
        if (!each_once(32)) _exit(1);
      }
      if (!all_come(4)) _exit(2);
      const pid_t grandchild = fork();
      if (grandchild == 0) _exit(each_once(32) ? 0 : 1);
      int status = 1;
      const bool right = waitpid(grandchild, &status, 0) == grandchild && status == 0;
      _exit(right ? 0 : 3);
    }
    int status = 1;
    set_context("fork %d", i);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
    CHECK(each_once(32));
  }
  stop.store(true);
  other.join();
}
#endif

QK_TEST(a_host_runs_calls_of_many_threads_and_none_nested) {
  struct Host {
    std::atomic<int> calls{0};
    std::atomic<int> nested{0};
  } host;
  static thread_local bool in_task = false;
  // A thread for each half of the tasks, the caller for the second one.
  const auto run = [](void* context, size_t count, qk_task task, void* arg) {
    auto* const h = static_cast<Host*>(context);
    h->calls.fetch_add(1);
    if (in_task) h->nested.fetch_add(1);
    const auto some = [=](size_t first, size_t last) {
      in_task = true;
      for (size_t i = last; i > first; --i) task(arg, i - 1);
      in_task = false;
    };
    std::thread helper(some, size_t{0}, count / 2);
    some(count / 2, count);
    helper.join();
  };
  qk_set_parallel_for(run, &host, 4);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        std::atomic<int> runs{0};
        parallel_for(6, [&](size_t) {
          parallel_for(3, [&](size_t) { runs.fetch_add(1, std::memory_order_relaxed); });
        });
        if (runs.load() != 18 || !each_once(9)) wrong.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  qk_set_parallel_for(nullptr, nullptr, 0);
  CHECK_EQUAL(wrong.load(), 0);
  CHECK_EQUAL(host.calls.load(), 4 * 25 * 2);
  CHECK_EQUAL(host.nested.load(), 0);
  // A host that is taken away leaves the pool as it was.
  const ManyThreads many(3);
  CHECK(all_come(3));
  CHECK_EQUAL(host.calls.load(), 4 * 25 * 2);
}

}  // namespace
}  // namespace qk::test
