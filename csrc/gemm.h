// Small matrix products on tiles that lie in the cache: C[M][N] from A[M][K] and B[K][N].
//
// N is a multiple of 16. M is rounded up to the rows of a kernel: A may be read, and C written, some rows beyond M,
// which the buffers leave room for. Every row sums over K in the same order whatever its place, so that results do
// not depend on how cells are divided into tiles.
#pragma once
#include "arithmetic.h"

constexpr long ROW_SLACK = 8;  // rows beyond M that a kernel may touch

enum class Store { plain, leaky, gated, add };
// plain: C = A B + init; leaky: the rectifier of that; gated: C = A B * (derivative at gate); add: C += A B.

struct Epilogue {
  const float* init = nullptr;  // [N], or null for zeros
  const float* gate = nullptr;  // [M][N] with C's stride: outputs of the rectifier
  float leak = 0.f;
};

// KS: accumulators per element, for kernels that would wait for their own sums otherwise.
template <class T, int R, int V, int KS, bool BY_COLUMN, Store S>
NCA_INLINE void kernel(const typename T::Element* A, long lda, const typename T::Element* B, long ldb, float* C,
                       long ldc, long K, long n0, const Epilogue& e) {
  vec c[KS][R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      c[0][r][v] = S == Store::add ? load(C + r * ldc + v * VL) : e.init && S != Store::gated ? load(e.init + n0 + v * VL) : vec{};
#pragma GCC unroll 2
      for (int s = 1; s < KS; s++) c[s][r][v] = vec{};
    }
  const typename T::Element* a[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) a[r] = BY_COLUMN ? A + r : A + r * lda;
  long k = 0;
  for (; k + KS <= K; k += KS) {
#pragma GCC unroll 2
    for (int s = 0; s < KS; s++) {
      vec b[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) b[v] = T::read(B + (k + s) * ldb + v * VL);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        vec x = T::broadcast(BY_COLUMN ? a[0][(k + s) * lda + r] : a[r][k + s]);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) c[s][r][v] = T::multiply_add(c[s][r][v], x, b[v]);
      }
    }
  }
  for (; k < K; k++)
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      vec x = T::broadcast(BY_COLUMN ? a[0][k * lda + r] : a[r][k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) c[0][r][v] = T::multiply_add(c[0][r][v], x, T::read(B + k * ldb + v * VL));
    }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      vec q = c[0][r][v];
#pragma GCC unroll 2
      for (int s = 1; s < KS; s++) q += c[s][r][v];
      if (S == Store::leaky) q = q > 0 ? q : q * splat(e.leak);
      if (S == Store::gated) q = load(e.gate + r * ldc + n0 + v * VL) > 0 ? q : q * splat(e.leak);
      store(C + r * ldc + v * VL, q);
    }
}

template <class T, int R, int V, int KS, bool BY_COLUMN, Store S>
__attribute__((noinline)) void panel(Operand<typename T::Element> a, Operand<typename T::Element> b, float* C, long ldc,
                                     long M, long n0, Epilogue e) {
  for (long m = 0; m < M; m += R) {
    kernel<T, R, V, KS, BY_COLUMN, S>(a.p + (BY_COLUMN ? m : m * a.ld), a.ld, b.p + n0, b.ld, C + m * ldc + n0, ldc,
                                      a.k, n0, e);
    if (S == Store::gated) e.gate += R * ldc;
  }
}

// BY_COLUMN: A[k * ld + m] instead of A[m * ld + k]. The elements summed over are A's.
template <class T, bool BY_COLUMN, Store S>
void gemm(Operand<typename T::Element> a, Operand<typename T::Element> b, float* C, long ldc, long M, long N,
          const Epilogue& e = {}) {
#if NCA_LANES == 16
  for (long n = 0, left = N / VL; left > 0;) {
    long take = left == 5 || left == 6 ? 3 : left < 4 ? left : 4;
    if (take == 4) panel<T, 6, 4, 1, BY_COLUMN, S>(a, b, C, ldc, M, n, e);
    if (take == 3) panel<T, 8, 3, 1, BY_COLUMN, S>(a, b, C, ldc, M, n, e);
    if (take == 2) panel<T, 8, 2, 1, BY_COLUMN, S>(a, b, C, ldc, M, n, e);
    if (take == 1) panel<T, 8, 1, 2, BY_COLUMN, S>(a, b, C, ldc, M, n, e);
    n += take * VL, left -= take;
  }
#else
  for (long n = 0; n < N; n += 2 * VL) panel<T, 6, 2, 1, BY_COLUMN, S>(a, b, C, ldc, M, n, e);
#endif
}
