// What cells see, for a tile of them at a time, and the gradients of it.
#pragma once
#include <type_traits>

#include "net.h"

constexpr long TILE = 48;  // cells; a multiple of the rows of every kernel

// Cells that the next tile will see for the first time. A state that is larger than the cache comes from memory too late
// for them; so they are asked for between the products of the tile at work, some cache lines at a time.
struct Ahead {
  const float *x = nullptr, *grad = nullptr;  // `grad`: or null
  long lines = 0;                             // that were not asked for yet

  void ask() {
    constexpr long AT_ONCE = 72, LINE = 16;  // floats of a line
    for (long left = std::min(AT_ONCE, lines); left > 0; left--, lines--) {
      __builtin_prefetch(x, 0, 2), x += LINE;
      if (grad) __builtin_prefetch(grad, 0, 2), grad += LINE;
    }
  }
};

// Working memory of one thread.
struct Tile {
  Buffer<float> P, H, dH, dP, Q, dQ, b1, one;  // `one`: the update of one cell
  Buffer<uint32_t> packed[4];                  // operands in bfloat16
  Ahead ahead;

  explicit Tile(const Net& n)
      : P((TILE + ROW_SLACK) * n.PS), H((TILE + ROW_SLACK) * n.HP), dH((TILE + ROW_SLACK) * n.HP),
        dP((TILE + ROW_SLACK) * n.PS), Q(n.O ? (TILE + ROW_SLACK) * n.QS : 0), dQ(n.O ? (TILE + ROW_SLACK) * n.QS : 0),
        b1(n.HP), one(ROW_SLACK * n.grid.CS) {
    size_t widest = (size_t)(TILE + ROW_SLACK) * std::max({n.PS, n.HP, n.grid.CS, 32L});
    for (auto& buffer : packed) buffer = Buffer<uint32_t>(n.job.bf16 ? widest : 0);
  }

  template <class E>
  E* room(int i) {
    return (E*)packed[i].get();
  }
};

// Four cells at a time, so that each weight is loaded once for four products.
template <int N>
static void perceive_group(const Net& n, const Group& group, const float* x, const uint32_t* cells, long m, long v,
                           float* P) {
  const Grid& g = n.grid;
  const float* weights = group.weights + v * VL;
  long count = (long)group.offsets.size();
  for (long i = 0; i < m; i += 4) {
    const float* from[4];
    vec sum[4][N];
    for (int j = 0; j < 4; j++) {
      from[j] = x + (long)cells[std::min(i + j, m - 1)] * g.CS + v * VL;
      for (int f = 0; f < N; f++) sum[j][f] = load(n.filter_bias + (group.first + f) * g.C + v * VL);
    }
    for (long t = 0; t < count; t++) {
      vec w[N];
#pragma GCC unroll 4
      for (int f = 0; f < N; f++) w[f] = load(weights + (t * N + f) * g.CS);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) {
        vec value = load(from[j] + group.offsets[t]);
#pragma GCC unroll 4
        for (int f = 0; f < N; f++) sum[j][f] += value * w[f];
      }
    }
    for (int j = 0; j < 4; j++)
      for (int f = 0; f < N; f++) store(P + (i + j) * n.PS + (group.first + f) * g.C + v * VL, sum[j][f]);
  }
}

// The same for few taps: all weights stay in registers.
template <int N, int T>
static void perceive_few(const Net& n, const Group& group, const float* x, const uint32_t* cells, long m, long v, float* P) {
  const Grid& g = n.grid;
  vec w[T][N], bias[N];
  long offsets[T];
#pragma GCC unroll 9
  for (int t = 0; t < T; t++) {
    offsets[t] = group.offsets[t] + v * VL;
#pragma GCC unroll 2
    for (int f = 0; f < N; f++) w[t][f] = load(group.weights + (t * N + f) * g.CS + v * VL);
  }
  for (int f = 0; f < N; f++) bias[f] = load(n.filter_bias + (group.first + f) * g.C + v * VL);
  float* to = P + group.first * g.C + v * VL;
  for (long i = 0; i < m; i++, to += n.PS) {
    const float* from = x + (long)cells[i] * g.CS;
    vec sum[N];
#pragma GCC unroll 2
    for (int f = 0; f < N; f++) sum[f] = bias[f];
#pragma GCC unroll 9
    for (int t = 0; t < T; t++) {
      vec value = load(from + offsets[t]);
#pragma GCC unroll 2
      for (int f = 0; f < N; f++) sum[f] += value * w[t][f];
    }
#pragma GCC unroll 2
    for (int f = 0; f < N; f++) store(to + f * g.C, sum[f]);
  }
}

template <int N>
static void scatter_group(const Net& n, const Group& group, const float* dP, const uint32_t* cells, long m, float* grad) {
  const Grid& g = n.grid;
  long count = (long)group.offsets.size(), vectors = (g.C + VL - 1) / VL;
  for (long i = 0; i < m; i++)
    for (long v = 0; v < vectors; v++) {
      float* to = grad + (long)cells[i] * g.CS + v * VL;
      const float* weights = group.weights + v * VL;
      vec d[N];
#pragma GCC unroll 4
      for (int f = 0; f < N; f++) d[f] = load(dP + i * n.PS + (group.first + f) * g.C + v * VL);
      for (long t = 0; t < count; t++) {
        vec sum = load(to + group.offsets[t]);
#pragma GCC unroll 4
        for (int f = 0; f < N; f++) sum += d[f] * load(weights + (t * N + f) * g.CS);
        store(to + group.offsets[t], sum);
      }
    }
}

// Gradients of learned filters, some taps at a time in registers over all cells of the tile.
template <int N>
static void filter_gradient(const Net& n, const Group& group, const float* x, const float* dP, const uint32_t* cells,
                            long m, float* out) {
  constexpr int AT_ONCE = VL == 16 ? (N == 1 ? 9 : N == 2 ? 9 : N == 3 ? 6 : 5) : (N == 1 ? 9 : N == 2 ? 3 : 2);
  const Grid& g = n.grid;
  long count = (long)group.offsets.size(), vectors = (g.C + VL - 1) / VL;
  for (long v = 0; v < vectors; v++)
    for (long t0 = 0; t0 < count; t0 += AT_ONCE) {
      long offsets[AT_ONCE];
      vec sum[AT_ONCE][N];
      for (int t = 0; t < AT_ONCE; t++) {
        offsets[t] = group.offsets[std::min(t0 + t, count - 1)] + v * VL;
        for (int f = 0; f < N; f++) sum[t][f] = vec{};
      }
      for (long i = 0; i < m; i++) {
        const float* from = x + (long)cells[i] * g.CS;
        vec d[N];
#pragma GCC unroll 4
        for (int f = 0; f < N; f++) d[f] = load(dP + i * n.PS + (group.first + f) * g.C + v * VL);
#pragma GCC unroll 9
        for (int t = 0; t < AT_ONCE; t++) {
          vec value = load(from + offsets[t]);
#pragma GCC unroll 4
          for (int f = 0; f < N; f++) sum[t][f] += value * d[f];
        }
      }
      for (int t = 0; t < AT_ONCE && t0 + t < count; t++)
        for (int f = 0; f < N; f++) {
          float* to = out + group.gradient + ((t0 + t) * N + f) * g.CS + v * VL;
          store(to, load(to) + sum[t][f]);
        }
    }
}

// Calls f with the number of filters of a group as a constant.
template <class F>
static void with_filters(const Group& group, F f) {
  switch (group.filters) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    default: return f(std::integral_constant<int, MAX_GROUP>());
  }
}

static void gather_patches(const Net& n, const float* x, const uint32_t* cells, long m, float* Q) {
  const Grid& g = n.grid;
  for (long i = 0; i < m; i++)
    for (long t = 0; t < n.taps; t++) {
      const float* from = x + (long)cells[i] * g.CS + n.all_offsets[t];
      for (long c = 0; c < g.C; c += VL) store(Q + i * n.QS + t * g.C + c, load(from + c));
    }
}

static void see_group(const Net& n, const Group& group, const float* x, const uint32_t* cells, long m, long v, float* P) {
  size_t filters = (size_t)group.filters, taps = group.taps.size();
  if (filters == 1 && taps == 1) return perceive_few<1, 1>(n, group, x, cells, m, v, P);
#if NCA_LANES == 16
  if (filters == 2 && taps == 8) return perceive_few<2, 8>(n, group, x, cells, m, v, P);
  if (filters == 2 && taps == 9) return perceive_few<2, 9>(n, group, x, cells, m, v, P);
#endif
  with_filters(group, [&](auto N) { perceive_group<N()>(n, group, x, cells, m, v, P); });
}

// P[cell][K]. A vector may write beyond the channels of its filter, into what is written after it.
static void perceive(const Net& n, const float* x, const uint32_t* cells, long m, Tile& tile) {
  long vectors = (n.grid.C + VL - 1) / VL;
  for (long v = vectors - 1; v >= 0; v--)
    for (const Group& group : n.groups) see_group(n, group, x, cells, m, v, tile.P);
  if (!n.O) return;
  gather_patches(n, x, cells, m, tile.Q);
  Epilogue e{n.full_bias, nullptr, 0.f};
  float* out = tile.P + n.F * n.grid.C;
  Operand<float> Q{tile.Q, n.QS, n.taps * n.grid.C}, w{n.full, n.OP, 0};
  if (n.job.full_relu)
    gemm<F32, false, Store::leaky>(Q, w, out, n.PS, m, n.OP, e);
  else
    gemm<F32, false, Store::plain>(Q, w, out, n.PS, m, n.OP, e);
}

static void add_rows(const float* rows, long stride, long m, long from, long to, float* sum) {
  for (long c = from; c < to; c += VL) {
    vec s = load(sum + c);
    for (long i = 0; i < m; i++) s += load(rows + i * stride + c);
    store(sum + c, s);
  }
}

static void backward_full(const Net& n, const uint32_t* cells, long m, Tile& tile, float* grad, Gradients& sum) {
  const Grid& g = n.grid;
  float* d = tile.dP + n.F * g.C;
  if (n.job.full_relu)
    for (long i = 0; i < m; i++)
      for (long o = 0; o < n.O; o++)
        if (!(tile.P[i * n.PS + n.F * g.C + o] > 0)) d[i * n.PS + o] = 0;
  gemm<F32, true, Store::add>({tile.Q, n.QS, m}, {d, n.PS, m}, sum.full, n.OP, n.taps * g.C, n.OP);
  add_rows(d, n.PS, m, 0, n.OP, sum.full_bias);
  gemm<F32, false, Store::plain>({d, n.PS, n.O}, {n.full_t, n.QS, n.O}, tile.dQ, n.QS, m, n.QS);
  for (long i = 0; i < m; i++)
    for (long t = 0; t < n.taps; t++) {
      float* to = grad + (long)cells[i] * g.CS + n.all_offsets[t];
      for (long c = 0; c < g.C; c += VL) {
        vec d4 = select(loadi(n.is_channel + c), load(tile.dQ + i * n.QS + t * g.C + c), vec{});
        store(to + c, load(to + c) + d4);
      }
    }
}

// From the gradients dP of a tile to those of the state and of the filters.
static void unperceive(const Net& n, const float* x, const uint32_t* cells, long m, Tile& tile, float* grad, Gradients& sum) {
  if (n.O) backward_full(n, cells, m, tile, grad, sum);
  if (n.job.filter_bias) add_rows(tile.dP, n.PS, m, 0, n.F * n.grid.C, sum.filter_bias);
  for (const Group& group : n.groups)
    with_filters(group, [&](auto N) {
      if (group.learned) filter_gradient<N()>(n, group, x, tile.dP, cells, m, sum.filter);
      scatter_group<N()>(n, group, tile.dP, cells, m, grad);
    });
}
