// SPDX-License-Identifier: Apache-2.0
#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include "core/cpu.h"
#include "core/float_env.h"
#include "core/status.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>  // _mm_pause, part of the baseline
#endif

namespace qk {
namespace {

constexpr int kMaxThreads = 256;
// A worker waits so long for the next job, the layers of a model being less apart, before it sleeps:
// to wake it takes as long. The caller waits for late workers, then lets them have the core.
constexpr auto kSpinTime = std::chrono::milliseconds(1);
constexpr auto kJoinTime = std::chrono::microseconds(50);
// Measured with bench/fork_join.cc: a task of a microsecond pays where workers spin, and waking
// parked ones costs more than a call of 100 gains.
constexpr double kMicrosecondsPerThread = 1.5;
constexpr double kWorthWaking = 100;

std::atomic<int> process_threads{0};  // 0: not set, usable_cpus() counts
thread_local int local_threads = 0;
thread_local bool inside_task = false;
std::atomic<bool> eager_threads{false};
std::atomic<int64_t> last_end{0};  // when the last work that threads would have suited was done
std::atomic<int> assumed_cpus{0};  // 0: those of the calling thread's affinity mask

struct HostPool {
  qk_parallel_for run;
  void* context;
  int threads;
};
std::atomic<const HostPool*> host_pool{nullptr};

// A task on a thread of the host, whose float environment is not ours.
struct HostTask {
  qk_task task;
  void* arg;
};

// Calls made by a task while this lives run serially.
class InsideTask {
 public:
  InsideTask() : outer_(inside_task) { inside_task = true; }
  ~InsideTask() { inside_task = outer_; }
  InsideTask(const InsideTask&) = delete;
  InsideTask& operator=(const InsideTask&) = delete;

 private:
  const bool outer_;
};

void run_on_host(void* arg, size_t index) {
  const FloatEnv ieee;
  const InsideTask inside;
  const auto* bound = static_cast<const HostTask*>(arg);
  bound->task(bound->arg, index);
}

void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("yield");
#endif
}

// Waits a while: by the clock, because a pause is 40 cycles on one CPU and 140 on the next. Time in
// which the thread did not run, stopped or displaced, hardly counts.
class Spin {
 public:
  explicit Spin(std::chrono::nanoseconds time) : left_(time) {}

  // False when the time is over.
  bool again() {
    constexpr int kLook = 32;  // pauses between looks at the clock
    constexpr std::chrono::nanoseconds kMostALook = std::chrono::microseconds(20);
    relax();
    if (++pauses_ % kLook != 0) return true;
    const auto now = std::chrono::steady_clock::now();
    if (pauses_ > kLook) left_ -= std::min<std::chrono::nanoseconds>(now - last_, kMostALook);
    last_ = now;
    return left_.count() > 0;
  }

 private:
  int pauses_ = 0;
  std::chrono::nanoseconds left_;
  std::chrono::steady_clock::time_point last_;
};

// CPUs that the tasks of a call can run on. More threads would only wait for each other. The mask
// may change at any time, and asking for it costs as much as a small job: asked now and then.
int cpus_of_call() {
  thread_local unsigned calls = 0;
  thread_local int cpus = 1;
  if (const int assumed = assumed_cpus.load(std::memory_order_relaxed)) return assumed;
  if (calls++ % 64 == 0) cpus = affinity_cpus();
  return cpus;
}

int64_t nanoseconds(std::chrono::nanoseconds time) { return time.count(); }

void run_serially(size_t count, qk_task task, void* arg) {
  for (size_t i = 0; i < count; ++i) task(arg, i);
}

// One job at a time. `ticket` holds the job's number in its upper half and the next index in its
// lower half, so a claim is one compare-and-swap that fails for a worker late from an older job:
// the caller waits for claimed tasks alone, never for a worker that has not woken up.
//
// Waking a parked thread costs the waker about four microseconds, so the caller wakes the first
// three, and every worker three more: a tree. Workers that a job does not use sleep on.
class Pool {
 public:
  // False when another thread is using the pool.
  bool try_run(size_t count, int threads, qk_task task, void* arg) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    grow(threads - 1);
    const uint64_t job = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
    ticket_.store(job << 32 | kClosed, std::memory_order_seq_cst);
    task_.store(task, std::memory_order_relaxed);
    arg_.store(arg, std::memory_order_relaxed);
    count_.store(static_cast<uint32_t>(count), std::memory_order_relaxed);
    helpers_.store(std::min(threads - 1, started_), std::memory_order_relaxed);
    unfinished_.store(count, std::memory_order_relaxed);
    ticket_.store(job << 32, std::memory_order_seq_cst);
    wake_from(0);
    work(job);
    for (Spin spin(kJoinTime); unfinished_.load(std::memory_order_acquire) > 0;) {
      if (!spin.again()) std::this_thread::yield();  // oversubscribed: let the worker have the core
    }
    return true;
  }

 private:
  static constexpr int kWakes = 3;
  static constexpr uint64_t kClosed = 0xffffffffu;  // as the next index: the job is being written

  struct alignas(64) Worker {
    std::mutex mutex;
    std::condition_variable wake;
    std::atomic<bool> parked{false};
  };

  void grow(int wanted) {
    while (started_ < wanted) {
      try {
        std::thread(&Pool::loop, this, started_).detach();
      } catch (const std::system_error&) {
        return;  // no more threads to be had: the ones there do the work
      }
      ++started_;
    }
  }

  // Wakes the parked among kWakes workers of the current job. A worker announces that it parks and
  // then looks for a job, we have published one and then look: one of the two sees the other.
  void wake_from(int first) {
    const int last = std::min(first + kWakes, helpers_.load(std::memory_order_relaxed));
    for (int i = first; i < last; ++i) {
      if (!workers_[i].parked.load(std::memory_order_seq_cst)) continue;
      {
        const std::lock_guard<std::mutex> lock(workers_[i].mutex);
      }  // it waits by now
      workers_[i].wake.notify_one();
    }
  }

  bool unclaimed(uint64_t ticket, uint64_t job) const {
    return ticket >> 32 == job && (ticket & kClosed) < count_.load(std::memory_order_relaxed);
  }

  // Claims and runs tasks of this job until none is left or another job has begun.
  void work(uint64_t job) {
    const FloatEnv ieee;
    const InsideTask inside;
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while (unclaimed(ticket, job)) {
      const qk_task task = task_.load(std::memory_order_relaxed);
      void* arg = arg_.load(std::memory_order_relaxed);
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
      task(arg, static_cast<size_t>(ticket & kClosed));
      unfinished_.fetch_sub(1, std::memory_order_release);
      ticket = ticket_.load(std::memory_order_acquire);
    }
  }

  template <typename Arrived>
  static void park(Worker& worker, const Arrived& arrived) {
    std::unique_lock<std::mutex> lock(worker.mutex);
    worker.parked.store(true, std::memory_order_seq_cst);
    worker.wake.wait(lock, arrived);
    worker.parked.store(false, std::memory_order_relaxed);
  }

  void loop(int index) {
    uint64_t seen = 0;
    uint64_t ticket = 0;
    // A job after `seen`, completely written. Its number is taken from this very look: by the next
    // one another job may be under way, and half written would count as seen.
    const auto arrived = [&] {
      ticket = ticket_.load(std::memory_order_seq_cst);
      return ticket >> 32 != seen && (ticket & kClosed) != kClosed;
    };
    for (;;) {
      for (Spin spin(kSpinTime); !arrived() && spin.again();) {
      }
      if (!arrived()) park(workers_[index], arrived);
      seen = ticket >> 32;
      if (index >= helpers_.load(std::memory_order_relaxed)) continue;
      // Even when no task is left: the next job may be close.
      wake_from(kWakes * (index + 1));
      work(seen);
    }
  }

  std::mutex owner_;
  int started_ = 0;  // workers, under owner_
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<size_t> unfinished_{0};
  std::atomic<qk_task> task_{nullptr};
  std::atomic<void*> arg_{nullptr};
  std::atomic<uint32_t> count_{0};
  std::atomic<int> helpers_{0};
  Worker workers_[kMaxThreads - 1];
};

std::atomic<Pool*> pool{nullptr};

#if defined(__unix__) || defined(__APPLE__)
// A child of fork() has the memory of the pool and none of its threads: it will start a new one.
void forget_pool() {
  pool.store(nullptr, std::memory_order_release);
  inside_task = false;
}

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
#endif

// Made by the first call that needs it and never destroyed: workers may outlive main(). Null when
// there is no memory for it.
Pool* the_pool() {
  Pool* current = pool.load(std::memory_order_acquire);
  if (current != nullptr) return current;
  auto* const made = new (std::nothrow) Pool;
  if (pool.compare_exchange_strong(current, made, std::memory_order_acq_rel)) return made;
  delete made;  // another thread was first
  return current;
}

int default_threads() {
  static const int cpus = usable_cpus();
  return cpus;
}

}  // namespace

int num_threads() {
  if (const HostPool* host = host_pool.load(std::memory_order_acquire)) return host->threads;
  return std::min(qk_get_num_threads(), kMaxThreads);
}

int threads_for(double microseconds) {
  if (microseconds < 2 * kMicrosecondsPerThread || inside_task) return 1;
  const int allowed = num_threads();
  if (allowed <= 1) return 1;
  if (host_pool.load(std::memory_order_acquire) == nullptr &&
      !eager_threads.load(std::memory_order_relaxed)) {
    const int64_t now = nanoseconds(std::chrono::steady_clock::now().time_since_epoch());
    const auto work = static_cast<int64_t>(std::min(microseconds, 1e9) * 1e3);
    const int64_t idle = now - last_end.exchange(now + work, std::memory_order_relaxed);
    if (microseconds < kWorthWaking && idle > nanoseconds(kSpinTime)) return 1;
  }
  const double worth = microseconds / kMicrosecondsPerThread;
  return worth < allowed ? static_cast<int>(worth) : allowed;
}

void parallel_for(size_t count, qk_task task, void* arg) {
  const int allowed = num_threads();
  if (count <= 1 || allowed <= 1 || inside_task || count >= 0xffffffffu) {
    return run_serially(count, task, arg);
  }
  if (const HostPool* host = host_pool.load(std::memory_order_acquire)) {
    HostTask bound{task, arg};
    return host->run(host->context, count, run_on_host, &bound);
  }
  const int useful = static_cast<int>(std::min<size_t>(count, static_cast<size_t>(allowed)));
  const int threads = std::min(useful, cpus_of_call());
  Pool* const current = threads > 1 ? the_pool() : nullptr;
  if (current == nullptr || !current->try_run(count, threads, task, arg)) {
    const InsideTask inside;
    run_serially(count, task, arg);
  }
}

void assume_cpus(int n) { assumed_cpus.store(n, std::memory_order_relaxed); }

}  // namespace qk

qk_status qk_set_num_threads(int n) {
  if (n < 1) return qk::fail(QK_INVALID_ARGUMENT, "thread count must be at least 1, got %d", n);
  qk::process_threads.store(n, std::memory_order_relaxed);
  return QK_OK;
}

void qk_set_eager_threads(int eager) {
  qk::eager_threads.store(eager != 0, std::memory_order_relaxed);
}

int qk_get_process_threads(void) {
  const int set = qk::process_threads.load(std::memory_order_relaxed);
  return set > 0 ? set : qk::default_threads();
}

int qk_get_num_threads(void) {
  return qk::local_threads > 0 ? qk::local_threads : qk_get_process_threads();
}

qk_status qk_set_local_threads(int n) {
  if (n < 0) return qk::fail(QK_INVALID_ARGUMENT, "thread count must not be negative, got %d", n);
  qk::local_threads = n;
  return QK_OK;
}

int qk_get_local_threads(void) { return qk::local_threads; }

void qk_set_parallel_for(qk_parallel_for run, void* context, int threads) {
  // Kept for good: a call on another thread may still be reading the one before.
  static std::mutex mutex;
  static auto* const installed = new std::deque<qk::HostPool>;
  const std::lock_guard<std::mutex> lock(mutex);
  const qk::HostPool* next = nullptr;
  if (run != nullptr) next = &installed->emplace_back(qk::HostPool{run, context, threads});
  qk::host_pool.store(next, std::memory_order_release);
}
