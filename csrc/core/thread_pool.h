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

// Takes the number of CPUs as given instead of asking for the affinity mask; 0: asks again. For
// tests of more threads than the machine has CPUs.
void assume_cpus(int n);

}  // namespace qk

#endif  // QKERNELS_CORE_THREAD_POOL_H
