// SPDX-License-Identifier: Apache-2.0
#include "core/status.h"

#include <cstdarg>
#include <cstdio>

namespace qk {
namespace {
thread_local char last_message[512] = "";
}

qk_status fail(qk_status status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_message, sizeof(last_message), format, arguments);
  va_end(arguments);
  return status;
}

}  // namespace qk

const char* qk_last_message(void) { return qk::last_message; }

const char* qk_version(void) {
#ifdef QKERNELS_EMULATED
  return QKERNELS_VERSION
      "+emulated";  // AVX-512 and AMX are a model: never mistake it for hardware
#else
  return QKERNELS_VERSION;
#endif
}
