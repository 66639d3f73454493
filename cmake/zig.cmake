# Toolchain file: the zig of the PyPI package ziglang, a clang with the headers and libraries of
# other systems. -DQKERNELS_ZIG=path of zig, -DQKERNELS_ZIG_TARGET=aarch64-macos and the like.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES QKERNELS_ZIG QKERNELS_ZIG_TARGET)

if(QKERNELS_ZIG_TARGET MATCHES "^([^-]+)-macos")
  set(CMAKE_SYSTEM_NAME Darwin)
elseif(QKERNELS_ZIG_TARGET MATCHES "^([^-]+)-windows")
  set(CMAKE_SYSTEM_NAME Windows)
elseif(QKERNELS_ZIG_TARGET MATCHES "^([^-]+)-linux")
  set(CMAKE_SYSTEM_NAME Linux)
else()
  message(FATAL_ERROR "QKERNELS_ZIG_TARGET: got '${QKERNELS_ZIG_TARGET}', expected "
                      "CPU-macos, CPU-windows-gnu or CPU-linux-musl")
endif()
set(CMAKE_SYSTEM_PROCESSOR "${CMAKE_MATCH_1}")

set(CMAKE_C_COMPILER "${QKERNELS_ZIG}" cc -target "${QKERNELS_ZIG_TARGET}")
set(CMAKE_CXX_COMPILER "${QKERNELS_ZIG}" c++ -target "${QKERNELS_ZIG_TARGET}")
# The host's ar cannot make archives of another system's object files.
set(CMAKE_C_ARCHIVE_CREATE "\"${QKERNELS_ZIG}\" ar rcs <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_CREATE "${CMAKE_C_ARCHIVE_CREATE}")
set(CMAKE_C_ARCHIVE_FINISH "")
set(CMAKE_CXX_ARCHIVE_FINISH "")
