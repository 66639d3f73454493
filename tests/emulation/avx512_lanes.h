// SPDX-License-Identifier: Apache-2.0
//
// What avx512_model.h is written with: operations on the lanes of a register, whatever its width.
// V is a register type (__m128i, __m512...), T the type of a lane.
#ifndef QKERNELS_TESTS_EMULATION_AVX512_LANES_H
#define QKERNELS_TESTS_EMULATION_AVX512_LANES_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// A register type as a template argument loses its attributes, which matters nowhere here.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace qk::avx512_model {

template <class V, class T>
struct Lanes {
  static constexpr int kCount = sizeof(V) / sizeof(T);
  T at[kCount];
  Lanes() = default;
  explicit Lanes(V v) { memcpy(at, &v, sizeof(v)); }
  V vector() const {
    V v;
    memcpy(&v, at, sizeof(v));
    return v;
  }
};

template <class V>
struct HalfOf;
template <>
struct HalfOf<__m512i> {
  using Type = __m256i;
};
template <>
struct HalfOf<__m512> {
  using Type = __m256;
};
template <>
struct HalfOf<__m512d> {
  using Type = __m256d;
};

// f on the lower and on the upper halves.
template <class R, class F, class... V>
static inline R halves(F f, V... v) {
  using Half = typename HalfOf<R>::Type;
  Half result[2];
  const auto part = [](auto whole, int i) {
    typename HalfOf<decltype(whole)>::Type half;
    memcpy(&half, reinterpret_cast<const char*>(&whole) + i * sizeof(half), sizeof(half));
    return half;
  };
  for (int i = 0; i < 2; ++i) result[i] = f(part(v, i)...);
  R r;
  memcpy(&r, result, sizeof(r));
  return r;
}

// f lane by lane: r[i] = f(v[i]...). T is the type of the operands' lanes, TR of the result's.
template <class TR, class T, class R, class F, class... V>
static inline R map(F f, V... v) {
  Lanes<R, TR> r;
  for (int i = 0; i < Lanes<R, TR>::kCount; ++i)
    r.at[i] = static_cast<TR>(f(Lanes<V, T>(v).at[i]...));
  return r.vector();
}

// Lane i from a where bit i of the mask is set, else from b.
template <class T, class V>
static inline V choose(uint64_t mask, V a, V b) {
  Lanes<V, T> r(b);
  const Lanes<V, T> yes(a);
  for (int i = 0; i < Lanes<V, T>::kCount; ++i) r.at[i] = mask >> i & 1 ? yes.at[i] : r.at[i];
  return r.vector();
}

template <class T, class V>
static inline V load(uint64_t mask, V otherwise, const void* p) {
  Lanes<V, T> r(otherwise);
  for (int i = 0; i < Lanes<V, T>::kCount; ++i) {
    if (mask >> i & 1) memcpy(&r.at[i], static_cast<const char*>(p) + i * sizeof(T), sizeof(T));
  }
  return r.vector();
}

template <class T, class V>
static inline void store(void* p, uint64_t mask, V v) {
  const Lanes<V, T> lanes(v);
  for (int i = 0; i < Lanes<V, T>::kCount; ++i) {
    if (mask >> i & 1) memcpy(static_cast<char*>(p) + i * sizeof(T), &lanes.at[i], sizeof(T));
  }
}

template <class V>
static inline V load_all(const void* p) {
  V v;
  memcpy(&v, p, sizeof(v));
  return v;
}

// Bit i is f(a[i], b[i]).
template <class T, class V, class F>
static inline uint64_t compare(F f, V a, V b) {
  const Lanes<V, T> x(a), y(b);
  uint64_t mask = 0;
  for (int i = 0; i < Lanes<V, T>::kCount; ++i)
    mask |= static_cast<uint64_t>(f(x.at[i], y.at[i])) << i;
  return mask;
}

// The predicates 0..7 of vpcmp: EQ LT LE FALSE NE NLT NLE TRUE.
template <class T, class V>
static inline uint64_t compare_by(int predicate, V a, V b) {
  const int p = predicate & 3;
  const auto holds = [p](T x, T y) { return p == 0 ? x == y : p == 1 ? x < y : p == 2 && x <= y; };
  const uint64_t all = ~UINT64_C(0) >> (64 - Lanes<V, T>::kCount);
  const uint64_t mask = compare<T>(holds, a, b);
  return predicate & 4 ? mask ^ all : mask;
}

template <int kPredicate>
static inline uint64_t compare_ps(__m512 a, __m512 b) {
  const __m512 mask =
      halves<__m512>([](__m256 x, __m256 y) { return _mm256_cmp_ps(x, y, kPredicate); }, a, b);
  return compare<int32_t>([](int32_t x, int32_t) { return x < 0; }, mask, mask);
}

// Lanes of To from the lanes of From at the same index.
template <class To, class From, class R, class V>
static inline R convert(V v) {
  const Lanes<V, From> from(v);
  Lanes<R, To> r;
  for (int i = 0; i < Lanes<R, To>::kCount; ++i) r.at[i] = static_cast<To>(from.at[i]);
  return r.vector();
}

template <class To, class From, class R, class V>
static inline R convert_saturated(V v, From lo, From hi) {
  const Lanes<V, From> from(v);
  Lanes<R, To> r;
  for (int i = 0; i < Lanes<R, To>::kCount; ++i) {
    r.at[i] = static_cast<To>(from.at[i] < lo ? lo : from.at[i] > hi ? hi : from.at[i]);
  }
  return r.vector();
}

// Lane index[i] of a, or of b above its last lane.
template <class T, class V>
static inline V permute(V a, __m512i index, V b) {
  constexpr int kCount = Lanes<V, T>::kCount;
  const Lanes<V, T> low(a), high(b);
  const Lanes<__m512i, T> from(index);
  Lanes<V, T> r;
  for (int i = 0; i < kCount; ++i) {
    const int at = static_cast<int>(from.at[i]) & (2 * kCount - 1);
    r.at[i] = at < kCount ? low.at[at] : high.at[at - kCount];
  }
  return r.vector();
}

// Within each 128 bits, lane i is the one that bits 2 i and 2 i + 1 of order say.
static inline __m512i shuffle_words(__m512i v, int order) {
  const Lanes<__m512i, uint32_t> from(v);
  Lanes<__m512i, uint32_t> r;
  for (int i = 0; i < 16; ++i) r.at[i] = from.at[(i & 12) + (order >> 2 * (i & 3) & 3)];
  return r.vector();
}

template <class Part, class V>
static inline Part extract(V v, int index) {
  constexpr int kCount = sizeof(V) / sizeof(Part);
  Part parts[kCount];
  memcpy(parts, &v, sizeof(v));
  return parts[index & (kCount - 1)];
}

template <class V, class Part>
static inline V insert(V v, Part part, int index) {
  constexpr int kCount = sizeof(V) / sizeof(Part);
  memcpy(reinterpret_cast<char*>(&v) + (index & (kCount - 1)) * sizeof(Part), &part, sizeof(part));
  return v;
}

template <class V, class Part>
static inline V repeat(Part part) {
  Part parts[sizeof(V) / sizeof(Part)];
  for (Part& p : parts) p = part;
  return load_all<V>(parts);
}

template <class To, class From>
static inline To cast(From v) {  // bits beyond the source are 0 (an instruction leaves them open)
  To r = {};
  memcpy(&r, &v, sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From));
  return r;
}

// acc + four products, bytes of a unsigned, of b signed; wraps.
template <class V>
static inline V dot_bytes(V acc, V a, V b) {
  const Lanes<V, uint8_t> x(a);
  const Lanes<V, int8_t> y(b);
  Lanes<V, uint32_t> r(acc);
  for (int i = 0; i < Lanes<V, uint32_t>::kCount; ++i) {
    int32_t sum = 0;
    for (int j = 4 * i; j < 4 * i + 4; ++j) sum += x.at[j] * y.at[j];
    r.at[i] += static_cast<uint32_t>(sum);
  }
  return r.vector();
}

template <class V>
static inline V dot_words(V acc, V a, V b) {
  const Lanes<V, int16_t> x(a), y(b);
  Lanes<V, uint32_t> r(acc);
  for (int i = 0; i < Lanes<V, uint32_t>::kCount; ++i) {
    const int64_t sum =
        INT64_C(1) * x.at[2 * i] * y.at[2 * i] + INT64_C(1) * x.at[2 * i + 1] * y.at[2 * i + 1];
    r.at[i] += static_cast<uint32_t>(sum);
  }
  return r.vector();
}

// Halves are joined until one lane is left: the order of the compiler's own reductions.
template <class T, class V, class F>
static inline T reduce(F f, V v) {
  Lanes<V, T> r(v);
  for (int n = Lanes<V, T>::kCount / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) r.at[i] = f(r.at[i], r.at[i + n]);
  }
  return r.at[0];
}

}  // namespace qk::avx512_model

#endif  // QKERNELS_TESTS_EMULATION_AVX512_LANES_H
