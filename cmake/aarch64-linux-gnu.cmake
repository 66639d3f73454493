# Cross compilation for aarch64 Linux with Debian's g++-aarch64-linux-gnu; ctest runs what was built
# under Debian's qemu-user-static. QKERNELS_QEMU_CPU is a model of `qemu-aarch64-static -cpu help`.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(QKERNELS_QEMU_CPU max CACHE STRING "CPU model that the tests run on")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -cpu ${QKERNELS_QEMU_CPU} -L /usr/aarch64-linux-gnu)

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
