// SPDX-License-Identifier: Apache-2.0
#include "kernels/simd/checksum.h"

#include <immintrin.h>

#include "kernels/tier_decl.h"

namespace qk::QK_TIER {
namespace {

// v * M in 64 bits, from products of halves.
inline __m256i times_m(__m256i v) {
  const __m256i low = _mm256_set1_epi64x(static_cast<int64_t>(kChecksumMix & 0xffffffff));
  const __m256i high = _mm256_set1_epi64x(static_cast<int64_t>(kChecksumMix >> 32));
  const __m256i crossed =
      _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(v, 32), low), _mm256_mul_epu32(v, high));
  return _mm256_add_epi64(_mm256_mul_epu32(v, low), _mm256_slli_epi64(crossed, 32));
}

}  // namespace

void checksum(const ChecksumArgs* args) {
  run_checksum<1>(*args, [](const uint8_t* data, uint64_t* mixed) {
    const __m256i v = times_m(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(mixed),
                       times_m(_mm256_xor_si256(v, _mm256_srli_epi64(v, 32))));
  });
}

}  // namespace qk::QK_TIER
