// Vectors of floats as wide as the registers of the instruction set that this file is compiled for.
#pragma once
#include <stdint.h>

#if defined(__AVX512F__)
#define NCA_LANES 16
#elif defined(__AVX2__)
#define NCA_LANES 8
#else
#define NCA_LANES 4
#endif

constexpr int VL = NCA_LANES;
typedef float vec __attribute__((vector_size(NCA_LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(NCA_LANES * 4)));
// The same in memory, at any address that a float may have.
typedef float memvec __attribute__((vector_size(NCA_LANES * 4), aligned(4), may_alias));
typedef int32_t memivec __attribute__((vector_size(NCA_LANES * 4), aligned(4), may_alias));

#define NCA_INLINE static inline __attribute__((always_inline))

NCA_INLINE vec load(const float* p) { return *(const memvec*)p; }
NCA_INLINE void store(float* p, vec v) { *(memvec*)p = v; }
NCA_INLINE ivec loadi(const int32_t* p) { return *(const memivec*)p; }
NCA_INLINE vec splat(float a) { return a - vec{}; }
// a where the mask is set, else b: a selection, so that a NaN which is not chosen goes nowhere.
NCA_INLINE vec select(ivec mask, vec a, vec b) { return mask ? a : b; }

constexpr long round_up(long n, long m) { return (n + m - 1) / m * m; }
