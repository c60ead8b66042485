// The step of a cell, on tiles of cells that stay in the cache: perception, hidden layer, update; and backwards.
#pragma once
#include "perceive.h"

template <class T>
static void compute_hidden(const Net& n, const Layers<T>& w, const float* x, const uint32_t* cells, long m, Tile& tile) {
  perceive(n, x, cells, m, tile);
  tile.ahead.ask();
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
  compute_hidden(n, w, x, cells, m, tile);
  tile.ahead.ask();
  auto H = T::rows(tile.H, n.HP, m, n.HID, tile.room<typename T::Element>(1));
  gemm<T, false, Store::plain>(H, w.act, update, n.grid.CS, m, n.grid.CS, {n.b2});
  tile.ahead.ask();
}

// From gradients of the updates of m cells (CS floats each) to those of the state and of all weights.
template <class T>
static void backward_tile(const Net& n, const Layers<T>& w, const float* x, const uint32_t* cells, long m,
                          const float* update, Tile& tile, float* grad, Gradients& sum) {
  typedef typename T::Element E;
  const Grid& g = n.grid;
  compute_hidden(n, w, x, cells, m, tile);

  tile.ahead.ask();
  auto U = T::columns(update, g.CS, m, tile.room<E>(0)), H = T::columns(tile.H, n.HP, m, tile.room<E>(1));
  U.p += g.fixed;
  gemm<T, true, Store::add>(U, H, sum.w2_t + g.fixed * n.HP, n.HP, g.C - g.fixed, n.HP);
  add_rows(update, g.CS, m, 0, g.CS, sum.b2);

  tile.ahead.ask();
  auto dU = T::rows(update + g.fixed, g.CS, m, g.C - g.fixed, tile.room<E>(0));
  gemm<T, false, Store::gated>(dU, w.act_back, tile.dH, n.HP, m, n.HP, {nullptr, tile.H, n.job.leak});
  add_rows(tile.dH, n.HP, m, 0, n.HP, sum.b1_step);

  tile.ahead.ask();
  auto P = T::columns(tile.P, n.PS, m, tile.room<E>(0)), dH = T::columns(tile.dH, n.HP, m, tile.room<E>(1));
  gemm<T, true, Store::add>(P, dH, sum.w1, n.HP, n.K, n.HP);

  tile.ahead.ask();
  auto dHr = T::rows(tile.dH, n.HP, m, n.HID, tile.room<E>(2));
  gemm<T, false, Store::plain>(dHr, w.see_back, tile.dP, n.PS, m, n.PS);

  unperceive(n, x, cells, m, tile, grad, sum);
}
