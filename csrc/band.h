// One step of one band of rows, in phases that all bands compute together: forward compute_update, apply_update and
// apply_alive_mask, and back restore and backward. A phase begins when all bands have finished the one before it.
#pragma once
#include "cell.h"
#include "random.h"
#include "sample.h"

class BandWork {
 public:
  explicit BandWork(const Net& net) : n(net), g(net.grid), j(net.job) {}

  // Whether a cell that sees nothing but zeros is dead after the step even if it fires (where life is asked for after
  // the update only): then what is farther from all that is not zero than one look and one cell need not be evaluated.
  bool dead_space_stays_dead(Tile& tile) const {
    if (n.keeps_all() || j.before || !j.after || g.fixed || j.noise != 0.f || g.padding == NCA_CIRCULAR || !(j.threshold >= 0))
      return false;
    float* P = tile.P;
    memset(P, 0, (size_t)n.PS * 4);
    memcpy(P, n.filter_bias, (size_t)(n.F * g.C) * 4);
    for (long o = 0; o < n.O; o++) P[n.F * g.C + o] = j.full_relu ? std::max(n.full_bias[o], 0.f) : n.full_bias[o];
    gemm<F32, false, Store::leaky>({P, n.PS, n.K}, n.layers.see, tile.H, n.HP, 1, n.HP, {tile.b1, nullptr, j.leak});
    gemm<F32, false, Store::plain>({tile.H, n.HP, n.HID}, n.layers.act, tile.one, g.CS, 1, g.CS, {n.b2});
    return tile.one[j.alive_channel] <= j.threshold;
  }

  // Chooses the cells that fire, and computes their updates.
  void compute_update(Band& b, Tile& tile, long t, bool skip, Log* log) {
    uint32_t* cell = b.cells;
    if (log) log->steps.push_back({log->bits.end(), {}, {}, {}});
    for (long row = b.row0; row < b.row1; row++) {
      Word* living = b.living + (row - b.row0) * g.words;
      Word* fired = b.fired + (row - b.row0) * g.words;
      candidates(b, row, t, skip, living);
      who_fires(b, row, t, living, fired);
      if (log) memcpy(log->bits.write((size_t)g.words * 8), fired, (size_t)g.words * 8);
      uint32_t first = (uint32_t)g.first(row);
      for (long w = 0; w < g.words; w++)
        each_bit(fired[w], [&](int i) { *cell++ = first + (uint32_t)(64 * w + i); });
    }
    b.n = cell - b.cells;
    for (long i = 0; i < b.n; i += TILE) {
      tile.ahead = ahead(b, i, nullptr);
      forward(b, b.cells + i, std::min(TILE, b.n - i), tile, b.update + i * g.CS);
    }
    if (j.noise != 0.f) make_noise(b, t);
    if (!n.keeps_all()) grow(b, t);
  }

  // Decides who lives after the step, by what compute_update() has found.
  void find_alive(Band& b) {
    Sample& s = *b.sample;
    std::vector<Word> after(g.words);
    for (long row = b.row0; row < b.row1; row++) {
      Word* life = b.living + (row - b.row0) * g.words;
      if (!j.before)
        for (long w = 0; w < g.words; w++) life[w] = full_word(g, w);
      if (!j.after) continue;
      dilated(g, s.grown, row, 1, after.data());
      for (long w = 0; w < g.words; w++) {
        s.dying[row * g.words + w] = life[w] & ~after[w];
        life[w] &= after[w];
      }
    }
  }

  // A cell that was dead before the step is dead after it, but where it fires, its update may keep a neighbour alive
  // that would die otherwise. So the cells around those that are dying are evaluated, too.
  bool may_reevaluate() const { return !n.keeps_all() && j.before && j.after && j.alive_channel >= g.fixed; }

  void reevaluate_neighbours(Band& b, Tile& tile, long t) {
    Sample& s = *b.sample;
    std::vector<Word> near(g.words);
    for (long row = b.row0; row < b.row1; row++) {
      const Word* life = b.living + (row - b.row0) * g.words;
      Word* raised = s.raised + row * g.words;
      memset(raised, 0, (size_t)g.words * 8);
      dilated(g, s.dying, row, 1, near.data());
      Word any = 0;
      for (long w = 0; w < g.words; w++) any |= near[w] &= ~(life[w] | s.dying[row * g.words + w]);
      if (!any) continue;
      who_fires(b, row, t, near.data(), near.data());
      for (long w = 0; w < g.words; w++)
        each_bit(near[w], [&](int i) {
          long column = 64 * w + i;
          uint32_t cell = (uint32_t)(g.first(row) + column);
          forward(b, &cell, 1, tile, tile.one);
          if (j.noise != 0.f) make_noise(b, t, row * g.width + column, tile.one);
          raised[w] |= (Word)(alive_after(b, cell, tile.one) > j.threshold) << i;
        });
    }
  }

  // Adds the updates to the cells that fired.
  void apply_update(Band& b, Log* log) {
    Sample& s = *b.sample;
    if (log) log->steps.back().rows = log->rows.end();
    const float* update = b.update;
    for (long i = 0; i < b.n; i++, update += g.CS) {
      float* x = s.x + (long)b.cells[i] * g.CS;
      if (log) log_row(*log, x);
      for (long c = 0; c < g.CS; c += VL) {
        vec old = load(x + c);
        store(x + c, select(loadi(n.is_free + c), old + load(update + c), old));
      }
    }
  }

  // Lets cells die.
  void apply_alive_mask(Band& b, long t, Log* log) {
    Sample& s = *b.sample;
    if (log) log->steps.back().settled = log->bits.end(), log->steps.back().died_rows = log->rows.end();
    bool dead_lives = j.threshold < 0, fixed = j.alive_channel < g.fixed;  // a cell of zeros may be above the threshold
    std::vector<Word> kept(g.words);
    for (long row = b.row0; row < b.row1; row++) {
      Word* life = b.living + (row - b.row0) * g.words;
      if (may_reevaluate()) {
        dilated(g, s.raised, row, 1, kept.data());
        for (long w = 0; w < g.words; w++) life[w] |= s.dying[row * g.words + w] & kept[w];
      }
      Word* died = nullptr;
      if (log) {
        memcpy(log->bits.write((size_t)g.words * 8), life, (size_t)g.words * 8);
        died = (Word*)log->bits.write((size_t)g.words * 8);
      }
      for (long w = 0; w < g.words; w++) {
        long at = row * g.words + w;
        Word fired = b.fired[(row - b.row0) * g.words + w], dies = (s.occupied[at] | fired) & ~life[w];
        if (died) died[w] = dies & ~fired;
        each_bit(dies, [&](int i) {
          float* x = s.x + (g.first(row) + 64 * w + i) * g.CS;
          if (log && !(fired >> i & 1)) log_row(*log, x);
          for (long c = 0; c < g.CS; c += VL) store(x + c, select(loadi(n.is_free + c), vec{}, load(x + c)));
        });
        s.occupied[at] = (s.occupied[at] | fired) & life[w];
        Word now = s.grown[at];
        if (!fixed) now = dead_lives ? now | (full_word(g, w) & ~life[w]) : now & life[w];
        s.alive[(t + 1) & 1][at] = now;
      }
    }
  }

  // Restores the state before a step, and collects the gradients of the updates of the cells that fired and lived.
  void restore(Band& b, long t, const Log& log, Log::Step at) {
    Sample& s = *b.sample;
    uint32_t* cell = b.cells;
    float* update = b.update;
    bool mortal = !n.keeps_all();
    std::vector<Word> reached(g.words);
    for (long row = b.row0; row < b.row1; row++) {
      const Word* fired = (const Word*)log.bits.read(at.fired, (size_t)g.words * 8);
      const Word* life = mortal ? (const Word*)log.bits.read(at.settled, (size_t)g.words * 8) : nullptr;
      const Word* died = mortal ? (const Word*)log.bits.read(at.settled, (size_t)g.words * 8) : nullptr;
      if (mortal) dilated(g, s.updated[(t + 1) & 1], row, radius(), reached.data());
      for (long w = 0; w < g.words; w++) {
        long first = g.first(row) + 64 * w, word = row * g.words + w;
        each_bit(fired[w], [&](int i) { restore_row(log, at.rows, s.x + (first + i) * g.CS); });
        Word updated = fired[w];
        if (mortal) {
          each_bit(died[w], [&](int i) { restore_row(log, at.died_rows, s.x + (first + i) * g.CS); });
          updated &= life[w];
          Word with = g.padding == NCA_ZEROS ? s.has_grad[word] | reached[w] : full_word(g, w);
          s.has_grad[word] = g.fixed ? with : with & life[w];
          each_bit(with & ~life[w], [&](int i) {
            float* grad = s.grad + (first + i) * g.CS;
            for (long c = 0; c < g.CS; c += VL) store(grad + c, select(loadi(n.is_free + c), vec{}, load(grad + c)));
          });
        }
        s.updated[t & 1][word] = updated;
        each_bit(updated, [&](int i) {
          const float* grad = s.grad + (first + i) * g.CS;
          *cell++ = (uint32_t)(first + i);
          for (long c = 0; c < g.CS; c += VL) store(update + c, select(loadi(n.is_free + c), load(grad + c), vec{}));
          update += g.CS;
        });
      }
    }
    b.n = cell - b.cells;
    store(update, vec{});  // the last pair of bfloat16 may end in the next row
  }

  // Sums the gradients of the weights over the cells of a band, and scatters those of the state.
  void backward(Band& b, Tile& tile, long t, Gradients& sum) {
    float *x = b.sample->x, *grad = b.sample->grad;
    for (long i = 0; i < b.n; i += TILE) {
      long m = std::min(TILE, b.n - i);
      const uint32_t* cells = b.cells + i;
      tile.ahead = ahead(b, i, grad);
      if (j.bf16)
        backward_tile(n, n.layers16, x, cells, m, b.update + i * g.CS, tile, grad, sum);
      else
        backward_tile(n, n.layers, x, cells, m, b.update + i * g.CS, tile, grad, sum);
    }
    float time = n.job.has_time ? (float)((double)t * n.job.time_scale) : 0.f;
    for (long h = 0; h < n.HP; h++) {
      sum.b1[h] += sum.b1_step[h], sum.time[h] += time * sum.b1_step[h];
      sum.b1_step[h] = 0.f;
    }
  }

 private:
  const Net& n;
  const Grid& g;
  const nca_job& j;

  long radius() const { return std::max({g.rd, g.rh, g.rw}); }

  void candidates(const Band& b, long row, long t, bool skip, Word* out) const {
    if (!n.keeps_all() && j.before)
      dilated(g, b.sample->alive[t & 1], row, 1, out);
    else if (skip)
      dilated(g, b.sample->occupied, row, radius() + 1, out);
    else
      for (long w = 0; w < g.words; w++) out[w] = full_word(g, w);
  }

  void who_fires(const Band& b, long row, long t, const Word* among, Word* out) const {
    long sample = b.sample->number;
    if (j.masks) {
      const uint8_t* mask = j.masks + (((t - j.start) * j.batch + sample) * g.cells() + row * g.width);
      for (long w = 0; w < g.words; w++) {
        Word bits = 0;
        for (long i = 64 * w; i < std::min(64 * w + 64, g.width); i++) bits |= (Word)(mask[i] != 0) << i % 64;
        out[w] = bits & among[w];
      }
      return;
    }
    uint32_t x = pcg_begin(j.seed), y = pcg_begin((uint32_t)t), z = pcg_begin((uint32_t)(j.first_sample + sample));
    for (long w = 0; w < g.words; w++)
      out[w] = !among[w] || j.fire_threshold >= 1u << 24
                   ? among[w]
                   : among[w] & fire_word(x, y, z, (uint32_t)(row * g.width + 64 * w), j.fire_threshold);
  }

  void forward(const Band& b, const uint32_t* cells, long m, Tile& tile, float* update) const {
    if (j.bf16)
      forward_tile(n, n.layers16, b.sample->x, cells, m, tile, update);
    else
      forward_tile(n, n.layers, b.sample->x, cells, m, tile, update);
  }

  void make_noise(const Band& b, long t, long cell, float* update) const {
    uint32_t x = pcg_begin(j.seed + NOISE_STREAM), y = pcg_begin((uint32_t)t);
    uint32_t z = pcg_begin((uint32_t)(j.first_sample + b.sample->number));
    add_noise(update, x, y, z, (uint32_t)cell, (uint32_t)g.C, (uint32_t)g.fixed, j.noise);
  }

  void make_noise(Band& b, long t) const {
    float* update = b.update;
    for (long row = b.row0; row < b.row1; row++)
      for (long w = 0; w < g.words; w++)
        each_bit(b.fired[(row - b.row0) * g.words + w], [&](int i) {
          make_noise(b, t, row * g.width + 64 * w + i, update);
          update += g.CS;
        });
  }

  // The alive channel of a cell once its update is added.
  float alive_after(const Band& b, uint32_t cell, const float* update) const {
    float now = b.sample->x[(long)cell * g.CS + j.alive_channel];
    return j.alive_channel < g.fixed ? now : now + update[j.alive_channel];
  }

  // Which cells are above the threshold once the updates are added.
  void grow(Band& b, long t) const {
    const float* update = b.update;
    const uint32_t* cell = b.cells;
    for (long row = b.row0; row < b.row1; row++)
      for (long w = 0; w < g.words; w++) {
        Word fired = b.fired[(row - b.row0) * g.words + w], above = 0;
        each_bit(fired, [&](int i) {
          above |= (Word)(alive_after(b, *cell++, update) > j.threshold) << i;
          update += g.CS;
        });
        long at = row * g.words + w;
        b.sample->grown[at] = (b.sample->alive[t & 1][at] & ~fired) | above;
      }
  }

  // What the tile after the one at i sees, and that one does not.
  Ahead ahead(const Band& b, long i, const float* grad) const {
    long sight = (g.rd * g.PH + g.rh) * g.PW + g.rw;  // from a cell to the last that it sees
    long last = b.cells[std::min(i + TILE, b.n) - 1], next = b.cells[std::min(i + 2 * TILE, b.n) - 1];
    long first = (last + sight + 1) * g.CS;
    return {b.sample->x + first, grad ? grad + first : nullptr, (next - last) * g.CS / 16};
  }

  void log_row(Log& log, const float* x) {
    float* to = (float*)log.rows.write((size_t)g.C * 4, 64);
    for (long c = 0; c < g.C; c += VL) store(to + c, load(x + c));
  }

  void restore_row(const Log& log, Stream::Place& at, float* x) {
    const float* from = (const float*)log.rows.read(at, (size_t)g.C * 4, 64);
    for (long c = 0; c < g.CS; c += VL) store(x + c, select(loadi(n.is_channel + c), load(from + c), vec{}));
  }
};
