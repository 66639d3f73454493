# The tier table: one line a tier. A tier is this line and the folder csrc/kernels/NAME.
#
#   qkernels_tier(NAME ARCH PARENT "CPU features" "flags for gcc and clang" "flags for MSVC")
#
# ARCH is x86_64, aarch64 or any. Features are the names of csrc/core/cpu.h; a tier runs only where
# the CPU and the operating system give all of them. A kernel that a folder lacks comes from PARENT.

# Reference and fallback: every CPU.
qkernels_tier(scalar any "" "" "" "")
# Intel Haswell (2013-), AMD Excavator and Zen (2015-).
qkernels_tier(avx2 x86_64 scalar "avx2;f16c;fma" "-mavx2;-mf16c;-mfma" "/arch:AVX2")
# Intel Alder Lake (2021-), Sierra Forest, AMD Zen 5 (2024-).
qkernels_tier(avxvnni x86_64 avx2 "avx_vnni" "-mavx2;-mf16c;-mavxvnni" "/arch:AVX2")
# Intel Cascade Lake (2019-), Ice Lake, AMD Zen 4 (2022-).
qkernels_tier(avx512vnni x86_64 avx2 "avx512f;avx512bw;avx512vl;avx512dq;avx512vnni"
  "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mf16c;-mprefer-vector-width=512" "/arch:AVX512")
# Intel Sapphire Rapids (2023-).
qkernels_tier(amx x86_64 avx512vnni "amx_tile;amx_int8"
  "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mf16c;-mamx-tile;-mamx-int8" "/arch:AVX512")
# Every AArch64 CPU: Raspberry Pi 3 and 4 (Cortex-A53 and A72), 2012-. Tuned for the one in order.
qkernels_tier(neon aarch64 scalar "asimd" "-mtune=cortex-a53" "")
# Raspberry Pi 5 (Cortex-A76), Cortex-A55 (2017-), Neoverse N1, Apple M1 (2020-).
qkernels_tier(neon_dotprod aarch64 neon "asimddp" "-march=armv8.2-a+dotprod" "")
# Neoverse V1 and N2, Cortex-A510 and X2 (2021-), Apple M2 (2022-).
qkernels_tier(neon_i8mm aarch64 neon_dotprod "i8mm" "-march=armv8.2-a+dotprod+i8mm" "")

# Files whose order of instructions is the author's: gcc would reorder them before it gives out
# registers, and then spill sums that just fit.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  foreach(file neon/gemm neon/depthwise neon_dotprod/gemm neon_i8mm/gemm)
    set_source_files_properties("${PROJECT_SOURCE_DIR}/csrc/kernels/${file}.cc" PROPERTIES
                                COMPILE_OPTIONS -fno-schedule-insns)
  endforeach()
endif()
