// SPDX-License-Identifier: Apache-2.0
//
// Stands before the compiler's <immintrin.h> on the include path of the tiers avxvnni, avx512vnni
// and amx in an emulated build (-DQKERNELS_EMULATE=tests/emulation): their sources are compiled unchanged, and
// run on any CPU with AVX2. An intrinsic that the models lack fails to compile, because the
// compiler's own needs a target flag that is not given.
#ifndef QKERNELS_TESTS_EMULATION_IMMINTRIN_H
#define QKERNELS_TESTS_EMULATION_IMMINTRIN_H

#include_next <immintrin.h>

#include "amx_model.h"
#include "avx512_model.h"

#endif  // QKERNELS_TESTS_EMULATION_IMMINTRIN_H
