// SPDX-License-Identifier: Apache-2.0
//
// Fork-join over a small pool of threads: the workers spin briefly for the next job, then park.
#ifndef QKERNELS_CORE_THREAD_POOL_H
#define QKERNELS_CORE_THREAD_POOL_H

#include <cstddef>

#include "qkernels/qkernels.h"

namespace qk {

// Threads that a call of this thread may use.
int num_threads();

// Threads that work of so many microseconds (on one thread) is worth now, 1 to num_threads(). To
// wake a sleeping worker costs as much as a small call does: small work is split where calls follow
// each other closely enough for the workers to stay awake, or after qk_set_eager_threads.
int threads_for(double microseconds);

// Calls task(arg, i) once for each i in [0, count) on at most num_threads() threads, the caller
// among them, and returns when all are done. Tasks must not throw. Never more threads than CPUs
// that the caller may run on. Runs serially inside another parallel_for and while another thread
// holds the pool: results never depend on it.
void parallel_for(size_t count, qk_task task, void* arg);

// The same for a callable of an index.
template <typename Body>
void parallel_for(size_t count, const Body& body) {
  const auto call = [](void* arg, size_t index) { (*static_cast<const Body*>(arg))(index); };
  parallel_for(count, call, const_cast<Body*>(&body));
}

// The same, serially where `microseconds` of work are not worth threads.
template <typename Body>
void parallel_for(size_t count, double microseconds, const Body& body) {
  if (threads_for(microseconds) > 1) return parallel_for(count, body);
  for (size_t i = 0; i < count; ++i) body(i);
}

// Takes the number of CPUs as given instead of asking for the affinity mask; 0: asks again. For
// tests of more threads than the machine has CPUs.
void assume_cpus(int n);

}  // namespace qk

#endif  // QKERNELS_CORE_THREAD_POOL_H
