// SPDX-License-Identifier: Apache-2.0
// clang-format off: it brings <immintrin.h>, and the warnings that go with it
#include "kernels/simd/vec_avx512.h"
#include "kernels/simd/checksum.h"
// clang-format on
#include "kernels/tier_decl.h"

namespace qk::QK_TIER {

void checksum(const ChecksumArgs* args) {
  run_checksum<2>(*args, [](const uint8_t* data, uint64_t* mixed) {
    const __m512i m = _mm512_set1_epi64(static_cast<int64_t>(kChecksumMix));
    const __m512i v = _mm512_mullo_epi64(_mm512_loadu_si512(data), m);
    const __m512i folded = _mm512_xor_si512(v, _mm512_srli_epi64(v, 32));
    _mm512_storeu_si512(mixed, _mm512_mullo_epi64(folded, m));
  });
}

}  // namespace qk::QK_TIER
