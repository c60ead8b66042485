// How products are taken: in float32, or in bfloat16 with sums in float32.
//
// An operand of a product is an array of elements, which are floats, or pairs of bfloat16 along the axis that is
// summed over. `rows` prepares a matrix that is summed over its columns, `columns` one that is summed over its rows.
#pragma once
#include <string.h>

#include "pool.h"
#include "vec.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

template <class E>
struct Operand {
  const E* p;
  long ld, k;  // from one row to the next; how many elements are summed over
};

struct F32 {
  typedef float Element;
  static Operand<float> rows(const float* a, long ld, long, long k, float*) { return {a, ld, k}; }
  static Operand<float> columns(const float* a, long ld, long m, float*) { return {a, ld, m}; }
  static inline __attribute__((always_inline)) vec broadcast(float a) { return splat(a); }
  static inline __attribute__((always_inline)) vec read(const float* p) { return load(p); }
  static inline __attribute__((always_inline)) vec multiply_add(vec c, vec a, vec b) { return c + a * b; }
};

#if defined(__AVX512BF16__)
struct BF16 {
  typedef uint32_t Element;

  static Operand<uint32_t> rows(const float* a, long ld, long m, long k, uint32_t* to) {
    long pairs = round_up(k, 32) / 2;
    for (long i = 0; i < m; i++)
      for (long c = 0; c < k; c += 32) {
        const float* from = a + i * ld + c;
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from));
        _mm512_storeu_si512(to + i * pairs + c / 2, (__m512i)both);
      }
    return {to, pairs, (k + 1) / 2};
  }

  // ld is a multiple of 16; a missing last row counts as zeros.
  static Operand<uint32_t> columns(const float* a, long ld, long m, uint32_t* to) {
    const __m512i first = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i zip = _mm512_or_si512(first, _mm512_slli_epi32(_mm512_add_epi32(first, _mm512_set1_epi32(16)), 16));
    for (long i = 0; i < m; i += 2)
      for (long c = 0; c < ld; c += 16) {
        __m512 even = _mm512_loadu_ps(a + i * ld + c);
        __m512 odd = i + 1 < m ? _mm512_loadu_ps(a + (i + 1) * ld + c) : _mm512_setzero_ps();
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
        _mm512_storeu_si512(to + i / 2 * ld + c, _mm512_permutexvar_epi16(zip, both));
      }
    return {to, ld, (m + 1) / 2};
  }

  static inline __attribute__((always_inline)) vec broadcast(uint32_t a) { return (vec)_mm512_set1_epi32((int)a); }
  static inline __attribute__((always_inline)) vec read(const uint32_t* p) { return (vec)_mm512_loadu_si512(p); }
  static inline __attribute__((always_inline)) vec multiply_add(vec c, vec a, vec b) {
    return (vec)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
  }
};
#else
typedef F32 BF16;  // this CPU has no such products
#endif
