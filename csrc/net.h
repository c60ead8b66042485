// The automaton, its weights laid out for the kernels, and the sums of their gradients.
#pragma once
#include <string.h>

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "grid.h"
#include "nca.h"
#include "pool.h"

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

// Columns of H are padded to 16, so are the channels.
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
