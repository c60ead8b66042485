// What one cell does, on tiles of cells that stay in the cache: perception, the two layers, and their gradients.
#pragma once
#include <string.h>

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "grid.h"
#include "nca.h"
#include "pool.h"

constexpr long TILE = 48;  // cells; a multiple of the rows of every kernel
constexpr int MAX_GROUP = 4;

// Depth-wise filters side by side that reach for the same neighbours.
struct Group {
  int filters, first;          // how many, and the number of the first
  bool learned;
  std::vector<long> taps;      // places in the kernel
  std::vector<long> offsets;   // of the neighbours, in floats
  Buffer<float> weights;       // [taps][filters][CS]
  long gradient;               // where its gradients begin in Gradients::filter
};

// The weights of the two layers as second operands of products.
template <class T>
struct Layers {
  typedef typename T::Element E;
  Buffer<E> w1, w1_t, w2, w2_t;
  Operand<E> see, see_back, act, act_back;  // P -> H, dH -> dP, H -> update, d update -> dH
};

// The automaton, its weights laid out for the kernels. Columns of H are padded to 16, so are the channels.
struct Net {
  const nca_job& job;
  Grid grid;
  long F, K, O, OP, HID, HP, PS, QS, taps;  // filters, perception, full outputs, padded sizes, strides
  std::vector<Group> groups;
  Buffer<float> filter_bias;                // [F * C + 16]
  Buffer<float> full, full_t, full_bias;    // [taps * C][OP], [O][QS], [OP]
  Buffer<float> w1, w1_t, w2, w2_t, b1, b2, time;  // [K][HP], [HID][PS], [HID][CS], [C][HP], [HP], [CS], [HP]
  Layers<F32> layers;
  Layers<BF16> layers16;
  std::vector<long> all_offsets;            // of all taps
  long filter_floats = 0;                   // of all groups' weights
  Buffer<int32_t> is_channel, is_free;      // [CS] lane masks: below C; not fixed and below C

  explicit Net(const nca_job& j) : job(j), grid(j) {
    const Grid& g = grid;
    F = j.filters, O = j.full_outputs, OP = round_up(O, 16), HID = j.hidden, HP = round_up(HID, 16);
    taps = j.kernel[0] * j.kernel[1] * j.kernel[2];
    K = F * g.C + O;
    PS = round_up(std::max({K, (F - 1) * g.C + g.CS, F * g.C + OP}), 16);
    QS = round_up((taps - 1) * g.C + g.CS, 16);
    for (long z = -g.rd; z <= g.rd; z++)
      for (long y = -g.rh; y <= g.rh; y++)
        for (long x = -g.rw; x <= g.rw; x++) all_offsets.push_back(((z * g.PH + y) * g.PW + x) * g.CS);
    is_channel = Buffer<int32_t>(g.CS), is_free = Buffer<int32_t>(g.CS);
    for (long c = 0; c < g.C; c++) is_channel[c] = -1, is_free[c] = c >= g.fixed ? -1 : 0;
    pack_filters();
    pack_layers();
  }

  bool keeps_all() const { return job.alive_channel < 0; }

 private:
  bool in_use(long f, long tap) const {
    if (job.learned[f]) return true;
    for (long c = 0; c < grid.C; c++)
      if (job.filter[(f * grid.C + c) * taps + tap] != 0.f) return true;
    return false;
  }

  std::vector<long> taps_of(long f) const {
    std::vector<long> used;
    for (long t = 0; t < taps; t++)
      if (in_use(f, t)) used.push_back(t);
    return used;
  }

  void pack_filters() {
    for (long f = 0; f < F;) {
      Group group;
      group.first = (int)f, group.learned = job.learned[f];
      std::vector<long> own = taps_of(f), all = own;
      for (f++; f < F && f - group.first < MAX_GROUP && (bool)job.learned[f] == group.learned; f++) {
        std::vector<long> next = taps_of(f), both;
        if ((next.size() < 2) != (own.size() < 2)) break;  // the identity needs no neighbours
        std::set_union(all.begin(), all.end(), next.begin(), next.end(), std::back_inserter(both));
        all = both;
      }
      group.filters = (int)f - group.first, group.taps = all, group.gradient = filter_floats;
      group.weights = Buffer<float>(all.size() * group.filters * grid.CS);
      for (size_t t = 0; t < all.size(); t++) {
        group.offsets.push_back(all_offsets[all[t]]);
        for (int i = 0; i < group.filters; i++)
          for (long c = 0; c < grid.C; c++)
            group.weights[(t * group.filters + i) * grid.CS + c] = job.filter[((group.first + i) * grid.C + c) * taps + all[t]];
      }
      if (group.learned) filter_floats += (long)group.weights.size();
      groups.push_back(std::move(group));
    }
    filter_bias = Buffer<float>(F * grid.C + 16);
    if (job.filter_bias) memcpy(filter_bias, job.filter_bias, (size_t)(F * grid.C) * 4);
    if (!O) return;
    full = Buffer<float>(taps * grid.C * OP), full_t = Buffer<float>(O * QS), full_bias = Buffer<float>(OP);
    for (long o = 0; o < O; o++) {
      if (job.full_bias) full_bias[o] = job.full_bias[o];
      for (long c = 0; c < grid.C; c++)
        for (long t = 0; t < taps; t++)
          full[(t * grid.C + c) * OP + o] = full_t[o * QS + t * grid.C + c] = job.full[(o * grid.C + c) * taps + t];
    }
  }

  void pack_layers() {
    long columns = K + (job.has_time ? 1 : 0);
    w1 = Buffer<float>(K * HP), w1_t = Buffer<float>(HID * PS), time = Buffer<float>(HP), b1 = Buffer<float>(HP);
    w2 = Buffer<float>(HID * grid.CS), w2_t = Buffer<float>(grid.C * HP), b2 = Buffer<float>(grid.CS);
    for (long h = 0; h < HID; h++) {
      for (long k = 0; k < K; k++) w1[k * HP + h] = w1_t[h * PS + k] = job.w1[h * columns + k];
      if (job.has_time) time[h] = job.w1[h * columns + K];
      if (job.b1) b1[h] = job.b1[h];
    }
    for (long c = grid.fixed; c < grid.C; c++) {
      for (long h = 0; h < HID; h++) w2[h * grid.CS + c] = w2_t[c * HP + h] = job.w2[(c - grid.fixed) * HID + h];
      if (job.b2) b2[c] = job.b2[c - grid.fixed];
    }
    prepare<F32>(layers);
    if (job.bf16) prepare<BF16>(layers16);
  }

  template <class T>
  void prepare(Layers<T>& to) {
    typedef typename T::Element E;
    to.w1 = Buffer<E>(K * HP), to.w1_t = Buffer<E>(HID * PS), to.w2 = Buffer<E>(HID * grid.CS), to.w2_t = Buffer<E>(grid.C * HP);
    to.see = T::columns(w1, HP, K, to.w1), to.see_back = T::columns(w1_t, PS, HID, to.w1_t);
    to.act = T::columns(w2, grid.CS, HID, to.w2);
    to.act_back = T::columns(w2_t + grid.fixed * HP, HP, grid.C - grid.fixed, to.w2_t);
  }
};

// Sums of gradients, laid out like the weights of a Net.
struct Gradients {
  Buffer<float> filter, filter_bias, full, full_bias, w1, w2_t, b1, b2, time, b1_step;

  explicit Gradients(const Net& n)
      : filter(n.filter_floats), filter_bias(n.F * n.grid.C + n.grid.CS), full((n.taps * n.grid.C + ROW_SLACK) * n.OP),
        full_bias(n.OP), w1((n.K + ROW_SLACK) * n.HP), w2_t((n.grid.C + ROW_SLACK) * n.HP), b1(n.HP), b2(n.grid.CS),
        time(n.HP), b1_step(n.HP) {}
};

// Working memory of one thread.
struct Tile {
  Buffer<float> P, H, dH, dP, Q, dQ, b1, one;  // `one`: the update of one cell
  Buffer<uint32_t> packed[4];                  // operands in bfloat16

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

// One function of a Group for each number of filters.
#define NCA_BY_FILTERS(group, call, ...)                        \
  switch ((group).filters) {                                    \
    case 1: call<1>(__VA_ARGS__); break;                        \
    case 2: call<2>(__VA_ARGS__); break;                        \
    case 3: call<3>(__VA_ARGS__); break;                        \
    default: call<4>(__VA_ARGS__); break;                       \
  }

static void gather_patches(const Net& n, const float* x, const uint32_t* cells, long m, float* Q) {
  const Grid& g = n.grid;
  for (long i = 0; i < m; i++)
    for (long t = 0; t < n.taps; t++) {
      const float* from = x + (long)cells[i] * g.CS + n.all_offsets[t];
      for (long c = 0; c < g.C; c += VL) store(Q + i * n.QS + t * g.C + c, load(from + c));
    }
}

// P[cell][K]. A vector may write beyond the channels of its filter, into what is written after it.
static void perceive(const Net& n, const float* x, const uint32_t* cells, long m, Tile& tile) {
  long vectors = (n.grid.C + VL - 1) / VL;
  for (long v = vectors - 1; v >= 0; v--)
    for (const Group& group : n.groups) NCA_BY_FILTERS(group, perceive_group, n, group, x, cells, m, v, tile.P)
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

template <class T>
static void see_and_think(const Net& n, const Layers<T>& w, const float* x, const uint32_t* cells, long m, Tile& tile) {
  perceive(n, x, cells, m, tile);
  auto P = T::rows(tile.P, n.PS, m, n.K, tile.room<typename T::Element>(0));
  gemm<T, false, Store::leaky>(P, w.see, tile.H, n.HP, m, n.HP, {tile.b1, nullptr, n.job.leak});
}

// The bias of the first layer, with the time in it.
static void set_time(const Net& n, long step, Tile& tile) {
  float t = n.job.has_time ? (float)((double)step * n.job.time_scale) : 0.f;
  for (long h = 0; h < n.HP; h++) tile.b1[h] = n.b1[h] + t * n.time[h];
}

// Updates of m cells, CS floats each.
template <class T>
static void forward_tile(const Net& n, const Layers<T>& w, const float* x, const uint32_t* cells, long m, Tile& tile,
                         float* update) {
  see_and_think(n, w, x, cells, m, tile);
  auto H = T::rows(tile.H, n.HP, m, n.HID, tile.room<typename T::Element>(1));
  gemm<T, false, Store::plain>(H, w.act, update, n.grid.CS, m, n.grid.CS, {n.b2});
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

// From gradients of the updates of m cells (CS floats each) to those of the state and of all weights.
template <class T>
static void backward_tile(const Net& n, const Layers<T>& w, const float* x, const uint32_t* cells, long m,
                          const float* update, Tile& tile, float* grad, Gradients& sum) {
  typedef typename T::Element E;
  const Grid& g = n.grid;
  see_and_think(n, w, x, cells, m, tile);

  auto U = T::columns(update, g.CS, m, tile.room<E>(0)), H = T::columns(tile.H, n.HP, m, tile.room<E>(1));
  U.p += g.fixed;
  gemm<T, true, Store::add>(U, H, sum.w2_t + g.fixed * n.HP, n.HP, g.C - g.fixed, n.HP);
  add_rows(update, g.CS, m, 0, g.CS, sum.b2);

  auto dU = T::rows(update + g.fixed, g.CS, m, g.C - g.fixed, tile.room<E>(0));
  gemm<T, false, Store::gated>(dU, w.act_back, tile.dH, n.HP, m, n.HP, {nullptr, tile.H, n.job.leak});
  add_rows(tile.dH, n.HP, m, 0, n.HP, sum.b1_step);

  auto P = T::columns(tile.P, n.PS, m, tile.room<E>(0)), dH = T::columns(tile.dH, n.HP, m, tile.room<E>(1));
  gemm<T, true, Store::add>(P, dH, sum.w1, n.HP, n.K, n.HP);

  auto dHr = T::rows(tile.dH, n.HP, m, n.HID, tile.room<E>(2));
  gemm<T, false, Store::plain>(dHr, w.see_back, tile.dP, n.PS, m, n.PS);

  if (n.O) backward_full(n, cells, m, tile, grad, sum);
  if (n.job.filter_bias) add_rows(tile.dP, n.PS, m, 0, n.F * g.C, sum.filter_bias);
  for (const Group& group : n.groups) {
    if (group.learned) NCA_BY_FILTERS(group, filter_gradient, n, group, x, tile.dP, cells, m, sum.filter)
    NCA_BY_FILTERS(group, scatter_group, n, group, tile.dP, cells, m, grad)
  }
}
