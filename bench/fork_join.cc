// SPDX-License-Identifier: Apache-2.0
//
// What a fork and join of the thread pool costs: a task a thread, empty or busy for some
// microseconds, while the workers spin (the call before ended 5 microseconds ago) and when they are
// parked (2 milliseconds ago). `serial` is one thread doing all the tasks: splitting work pays where
// the median is below it.
//
//   cmake --build <build folder of the native tests> --target qkernels_fork_join
//   qkernels_fork_join [threads ...]        2 and 4 by default
//   taskset -c 0 qkernels_fork_join 4       more threads than CPUs
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "core/thread_pool.h"
#include "qkernels/qkernels.h"

namespace {

using Clock = std::chrono::steady_clock;
using Microseconds = std::chrono::duration<double, std::micro>;

void busy(double microseconds) {
  const auto end = Clock::now() + Microseconds(microseconds);
  while (microseconds > 0 && Clock::now() < end) {
  }
}

// Quantiles, in microseconds, of the time of one parallel_for.
struct Times {
  double median, low, high;
};

Times measure(int threads, double work, bool parked) {
  std::vector<double> times(parked ? 300 : 3000);
  for (double& time : times) {
    if (parked) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    } else {
      busy(5);
    }
    const auto begin = Clock::now();
    qk::parallel_for(static_cast<size_t>(threads), [work](size_t) { busy(work); });
    time = Microseconds(Clock::now() - begin).count();
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() / 10], times[times.size() * 9 / 10]};
}

void report(int threads) {
  for (const bool parked : {false, true}) {
    for (const double work : {0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0}) {
      qk_set_num_threads(threads);
      const Times split = measure(threads, work, parked);
      qk_set_num_threads(1);
      const Times serial = measure(threads, work, parked);
      std::printf("%7d  %-8s %8.0f %10.2f %8.2f %8.2f %10.2f\n", threads,
                  parked ? "parked" : "spinning", work, split.median, split.low, split.high,
                  serial.median);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::printf("threads  workers   us/task     median      p10      p90     serial\n");
  std::vector<int> threads;
  for (int i = 1; i < argc; ++i) threads.push_back(std::max(std::atoi(argv[i]), 1));
  if (threads.empty()) threads = {2, 4};
  for (const int n : threads) report(n);
  return 0;
}
