// SPDX-License-Identifier: Apache-2.0
//
// Status codes with a sentence: the only error path of the C++ core.
#ifndef QKERNELS_CORE_STATUS_H
#define QKERNELS_CORE_STATUS_H

#include <exception>
#include <new>

#include "core/float_env.h"
#include "qkernels/qkernels.h"

#if defined(__GNUC__)
#define QK_PRINTF_LIKE __attribute__((format(printf, 2, 3)))
#else
#define QK_PRINTF_LIKE
#endif

namespace qk {

// Keeps the formatted sentence for qk_last_message() and returns `status`.
qk_status fail(qk_status status, const char* format, ...) QK_PRINTF_LIKE;

// Runs the body of a C entry point in IEEE arithmetic; no exception crosses the boundary.
template <typename Body>
qk_status guarded(Body body) noexcept {
  const FloatEnv ieee;
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(QK_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {  // a container asked for more than it can ever hold
    return fail(QK_OUT_OF_MEMORY, "out of memory: %s", error.what());
  }
}

}  // namespace qk

// Leaves the function with the status of `call` unless it is QK_OK.
#define QK_RETURN_IF_ERROR(call)                              \
  do {                                                        \
    const qk_status qk_status_of_call = (call);               \
    if (qk_status_of_call != QK_OK) return qk_status_of_call; \
  } while (0)

#endif  // QKERNELS_CORE_STATUS_H
