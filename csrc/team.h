// Samples that are rolled out together, step by step, and the bands of rows that they are divided into.
//
// The bands depend on the shape of the batch only, and so does the order of every sum: how many threads share the
// work changes nothing. A sample is one team of its own where there are enough of them, so that threads never wait.
#pragma once
#include <memory>

#include "cell.h"
#include "crew.h"
#include "random.h"

// What changed in one step of a band: enough to go back. Old values of the rows of cells that fired, then of those
// that died; which cells fired, and which lived after the step.
struct Log {
  struct Step {
    Stream::Place fired, settled, rows, died_rows;
  };
  Stream bits, rows;
  std::vector<Step> steps;
  size_t bytes() const { return bits.written() + rows.written(); }
};

struct Segment {
  long from, to;             // numbers of steps
  bool logged;
  std::vector<std::unique_ptr<Log>> logs;  // of each band
  Buffer<float> snapshot;    // states at `from`, [samples][cells][C]; none for the first
};

// What the backward pass needs of a team.
struct TeamTape {
  std::vector<Segment> segments;
  Buffer<float> begin, end;  // first and last states, [samples][cells][C]; `begin` where the first is not logged
};

struct Sample {
  long number;
  Buffer<float> x, grad;
  Buffer<Word> alive[2], occupied;          // life by parity of the step; rows that may not be zero
  Buffer<Word> updated[2], has_grad;        // cells that were evaluated, by parity; rows with a gradient
};

struct Band {
  Sample* sample;
  long row0, row1;
  long n = 0;                               // cells to evaluate
  std::vector<uint32_t> cells;
  Buffer<float> update;                     // [n][CS]: updates, or their gradients
  Buffer<Word> fired, living;               // of the step at work
  Stream::Place bits, rows, died;           // where to read in the log
};

class Team {
 public:
  Team(const Net& net, long samples, bool with_grad) : n(net), g(net.grid), j(net.job), samples_(samples) {
    long bands = num_bands(g, j.batch);
    for (long s = 0; s < samples; s++) {
      Sample& sample = samples_[s];
      sample.number = s;
      sample.x = Buffer<float>(g.floats());
      if (with_grad) sample.grad = Buffer<float>(g.floats());
      size_t words = (size_t)(g.rows * g.words);
      for (auto* map : {&sample.alive[0], &sample.alive[1], &sample.occupied, &sample.updated[0], &sample.updated[1], &sample.has_grad})
        *map = Buffer<Word>(words);
      for (long b = 0; b < bands; b++) {
        Band band;
        long slabs = g.rows / g.slab();
        band.sample = &sample, band.row0 = slabs * b / bands * g.slab(), band.row1 = slabs * (b + 1) / bands * g.slab();
        size_t cells = (size_t)((band.row1 - band.row0) * g.width), bits = (size_t)((band.row1 - band.row0) * g.words);
        band.cells.reserve(cells);
        band.update = Buffer<float>((cells + ROW_SLACK) * g.CS, Fill::nothing);
        band.fired = Buffer<Word>(bits), band.living = Buffer<Word>(bits);
        bands_.push_back(std::move(band));
        parity_.push_back(b % 2);
      }
    }
  }

  // Steps of a band may be divided among threads; every number of bands gives the same values, and its own order of
  // the sums of gradients.
  static long num_bands(const Grid& g, long batch) {
    long slabs = g.rows / g.slab(), least = std::max<long>({1, 2 * g.reach() / g.slab(), 1024 / (g.slab() * g.width) + 1});
    return std::max<long>(1, std::min((16 + batch - 1) / batch, slabs / least));
  }

  size_t bands() const { return bands_.size(); }
  long samples() const { return (long)samples_.size(); }

  // Which samples of the batch these are.
  void seat(long first) {
    for (size_t s = 0; s < samples_.size(); s++) samples_[s].number = first + (long)s;
  }

  // All threads of the team call these, each with its own tile and the team's turns.
  void begin(Turns& turns, const float* x) {  // x: [batch][C][cells]
    each_band(turns, [&](Band& b) { read_planes(b, x, b.sample->x, false); });
    settle_state(turns);
  }

  void unpack(Turns& turns, const float* packed) {
    each_band(turns, [&](Band& b) {
      each_row_cell(b, [&](long cell, long at) {
        for (long c = 0; c < g.CS; c += VL)
          store(b.sample->x + cell * g.CS + c, select(loadi(n.is_channel + c), load(packed + pack_place(b, at) + c), vec{}));
      });
    });
    settle_state(turns);
  }

  void pack(Turns& turns, float* packed) {
    each_band(turns, [&](Band& b) {
      each_row_cell(b, [&](long cell, long at) {
        memcpy(packed + pack_place(b, at), b.sample->x + cell * g.CS, (size_t)g.C * 4);
      });
    });
  }
  size_t packed_floats() const { return samples_.size() * (size_t)(g.cells() * g.C) + 16; }

  // One step forward; what changes is logged where logs are given.
  void step(Turns& turns, Tile& tile, long t, std::vector<std::unique_ptr<Log>>* logs, float* out) {
    set_time(n, t, tile);
    bool skip = dead_space_stays_dead(tile);
    each_band_number(turns, [&](long i) { think(bands_[i], tile, t, skip, logs ? (*logs)[i].get() : nullptr); });
    each_band_number(turns, [&](long i) { act(bands_[i], t, logs ? (*logs)[i].get() : nullptr); });
    if (!n.keeps_all()) each_band_number(turns, [&](long i) { settle(bands_[i], t, logs ? (*logs)[i].get() : nullptr); });
    refresh_halo(turns);
    if (out) each_band(turns, [&](Band& b) { write_planes(b, b.sample->x, out); });
  }

  void begin_backward(Turns& turns) {
    each_band(turns, [&](Band& b) {
      if (b.row0) return;
      memset(b.sample->grad, 0, (size_t)g.floats() * 4);
      for (auto* map : {&b.sample->has_grad, &b.sample->updated[0], &b.sample->updated[1]}) memset(map->get(), 0, words_bytes());
    });
  }

  void add_gradient(Turns& turns, const float* grad) {
    each_band(turns, [&](Band& b) {
      read_planes(b, grad, b.sample->grad, true);
      fill_rows(b, b.sample->has_grad);
    });
  }

  // One step backward: the state becomes what it was, the gradient that of the state before.
  void unstep(Turns& turns, Tile& tile, long t, const Segment& segment, std::vector<Gradients>& sums) {
    set_time(n, t, tile);
    each_band_number(turns, [&](long i) { undo(bands_[i], t, *segment.logs[i], segment.logs[i]->steps[t - segment.from]); });
    refresh_halo(turns);
    for (int parity = 0; parity < 2; parity++)
      each_band_number(turns, [&](long i) {
        if (parity_[i] == parity) blame(bands_[i], tile, t, sums[i]);
      });
    if (g.padding != NCA_ZEROS)
      turns.each((long)samples_.size(), [&](long s) { fold_halo(g, samples_[s].grad); });
  }

  void write_gradient(Turns& turns, float* out) {
    each_band(turns, [&](Band& b) { write_planes(b, b.sample->grad, out); });
  }

  // Bytes that the log of a step can take at most, for all samples.
  size_t worst_step() const {
    return samples_.size() * (size_t)(g.cells() * g.C * 4 + (n.keeps_all() ? 1 : 3) * g.rows * g.words * 8);
  }

 private:
  const Net& n;
  const Grid& g;
  const nca_job& j;
  std::vector<Sample> samples_;
  std::vector<Band> bands_;
  std::vector<int> parity_;

  long radius() const { return std::max({g.rd, g.rh, g.rw}); }
  size_t words_bytes() const { return (size_t)(g.rows * g.words) * 8; }

  template <class F>
  void each_band(Turns& turns, F f) {
    turns.each((long)bands_.size(), [&](long i) { f(bands_[i]); });
  }
  template <class F>
  void each_band_number(Turns& turns, F f) {
    turns.each((long)bands_.size(), f);
  }
  // f(number of the cell in the padded grid, number of the cell in the sample)
  template <class F>
  void each_row_cell(const Band& b, F f) {
    for (long row = b.row0; row < b.row1; row++)
      for (long i = 0; i < g.width; i++) f(g.first(row) + i, row * g.width + i);
  }
  long pack_place(const Band& b, long at) const { return ((b.sample - samples_.data()) * g.cells() + at) * g.C; }

  void read_planes(Band& b, const float* planes, float* rows, bool add) {
    planes += b.sample->number * g.C * g.cells();
    for (long row = b.row0; row < b.row1; row++)
      for (long c = 0; c < g.C; c++) {
        const float* from = planes + c * g.cells() + row * g.width;
        float* to = rows + g.first(row) * g.CS + c;
        if (add)
          for (long i = 0; i < g.width; i++) to[i * g.CS] += from[i];
        else
          for (long i = 0; i < g.width; i++) to[i * g.CS] = from[i];
      }
  }

  void write_planes(Band& b, const float* rows, float* planes) {
    planes += b.sample->number * g.C * g.cells();
    for (long row = b.row0; row < b.row1; row++)
      for (long c = 0; c < g.C; c++) {
        float* to = planes + c * g.cells() + row * g.width;
        const float* from = rows + g.first(row) * g.CS + c;
        for (long i = 0; i < g.width; i++) to[i] = from[i * g.CS];
      }
  }

  void refresh_halo(Turns& turns) {
    if (g.padding == NCA_ZEROS) return;
    turns.each((long)samples_.size(), [&](long s) { fill_halo(g, samples_[s].x); });
  }

  void fill_rows(Band& b, Word* map) {
    for (long row = b.row0; row < b.row1; row++)
      for (long w = 0; w < g.words; w++) map[row * g.words + w] = full_word(g, w);
  }

  // Finds out who lives and what is not zero, after a state was written.
  void settle_state(Turns& turns) {
    refresh_halo(turns);
    if (n.keeps_all()) return;
    each_band(turns, [&](Band& b) {
      Sample& s = *b.sample;
      for (long row = b.row0; row < b.row1; row++)
        for (long w = 0; w < g.words; w++) {
          Word living = 0, occupied = 0;
          for (long i = 64 * w; i < std::min(64 * w + 64, g.width); i++) {
            const float* x = s.x + (g.first(row) + i) * g.CS;
            bool any = false;
            for (long c = g.fixed; c < g.C; c++) any |= !(x[c] == 0.f);
            living |= (Word)(x[j.alive_channel] > j.threshold) << i % 64, occupied |= (Word)any << i % 64;
          }
          s.alive[0][row * g.words + w] = s.alive[1][row * g.words + w] = living, s.occupied[row * g.words + w] = occupied;
        }
    });
  }

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
    uint32_t x = pcg_begin(j.seed), y = pcg_begin((uint32_t)t), z = pcg_begin((uint32_t)sample);
    for (long w = 0; w < g.words; w++)
      out[w] = !among[w] || j.fire_threshold >= 1u << 24
                   ? among[w]
                   : among[w] & fire_word(x, y, z, (uint32_t)(row * g.width + 64 * w), j.fire_threshold);
  }

  // Chooses the cells that fire, and computes their updates.
  void think(Band& b, Tile& tile, long t, bool skip, Log* log) {
    b.cells.clear();
    if (log) log->steps.push_back({log->bits.end(), {}, {}, {}});
    for (long row = b.row0; row < b.row1; row++) {
      Word* living = b.living + (row - b.row0) * g.words;
      Word* fired = b.fired + (row - b.row0) * g.words;
      candidates(b, row, t, skip, living);
      who_fires(b, row, t, living, fired);
      if (log) memcpy(log->bits.write((size_t)g.words * 8), fired, (size_t)g.words * 8);
      uint32_t first = (uint32_t)g.first(row);
      for (long w = 0; w < g.words; w++)
        each_bit(fired[w], [&](int i) { b.cells.push_back(first + (uint32_t)(64 * w + i)); });
    }
    b.n = (long)b.cells.size();
    for (long i = 0; i < b.n; i += TILE) {
      long m = std::min(TILE, b.n - i);
      if (j.bf16)
        forward_tile(n, n.layers16, b.sample->x, b.cells.data() + i, m, tile, b.update + i * g.CS);
      else
        forward_tile(n, n.layers, b.sample->x, b.cells.data() + i, m, tile, b.update + i * g.CS);
    }
    if (j.noise != 0.f) make_noise(b, t);
  }

  void make_noise(Band& b, long t) {
    uint32_t x = pcg_begin(j.seed + NOISE_STREAM), y = pcg_begin((uint32_t)t), z = pcg_begin((uint32_t)b.sample->number);
    float* update = b.update;
    for (long row = b.row0; row < b.row1; row++)
      for (long w = 0; w < g.words; w++)
        each_bit(b.fired[(row - b.row0) * g.words + w], [&](int i) {
          add_noise(update, x, y, z, (uint32_t)(row * g.width + 64 * w + i), (uint32_t)g.C, (uint32_t)g.fixed, j.noise);
          update += g.CS;
        });
  }

  // Adds the updates to the cells that fired.
  void act(Band& b, long t, Log* log) {
    Sample& s = *b.sample;
    if (log) log->steps.back().rows = log->rows.end();
    const uint32_t* cell = b.cells.data();
    const float* update = b.update;
    long alive = j.alive_channel;
    Word* life = s.alive[t & 1];
    for (long row = b.row0; row < b.row1; row++)
      for (long w = 0; w < g.words; w++) {
        Word fired = b.fired[(row - b.row0) * g.words + w], living = 0;
        if (!fired) continue;
        each_bit(fired, [&](int i) {
          float* x = s.x + (long)*cell++ * g.CS;
          if (log) log_row(*log, x);
          for (long c = 0; c < g.CS; c += VL) {
            vec old = load(x + c);
            store(x + c, select(loadi(n.is_free + c), old + load(update + c), old));
          }
          update += g.CS;
          if (alive >= 0) living |= (Word)(x[alive] > j.threshold) << i;
        });
        if (alive >= 0) {
          life[row * g.words + w] = (life[row * g.words + w] & ~fired) | living;
          s.occupied[row * g.words + w] |= fired;
        }
      }
  }

  void log_row(Log& log, const float* x) {
    float* to = (float*)log.rows.write((size_t)g.C * 4, 64);
    for (long c = 0; c < g.C; c += VL) store(to + c, load(x + c));
  }

  // Lets cells die.
  void settle(Band& b, long t, Log* log) {
    Sample& s = *b.sample;
    if (log) log->steps.back().settled = log->bits.end(), log->steps.back().died_rows = log->rows.end();
    bool dead_lives = j.threshold < 0, fixed = j.alive_channel < g.fixed;  // a cell of zeros may be above the threshold
    std::vector<Word> after(j.after ? g.words : 0);
    for (long row = b.row0; row < b.row1; row++) {
      Word* life = b.living + (row - b.row0) * g.words;
      if (!j.before)
        for (long w = 0; w < g.words; w++) life[w] = full_word(g, w);
      if (j.after) {
        dilated(g, s.alive[t & 1], row, 1, after.data());
        for (long w = 0; w < g.words; w++) life[w] &= after[w];
      }
      Word* died = nullptr;
      if (log) {
        memcpy(log->bits.write((size_t)g.words * 8), life, (size_t)g.words * 8);
        died = (Word*)log->bits.write((size_t)g.words * 8);
      }
      for (long w = 0; w < g.words; w++) {
        long at = row * g.words + w;
        Word dies = s.occupied[at] & ~life[w], fired = b.fired[(row - b.row0) * g.words + w];
        if (died) died[w] = dies & ~fired;
        each_bit(dies, [&](int i) {
          float* x = s.x + (g.first(row) + 64 * w + i) * g.CS;
          if (log && !(fired >> i & 1)) log_row(*log, x);
          for (long c = 0; c < g.CS; c += VL) store(x + c, select(loadi(n.is_free + c), vec{}, load(x + c)));
        });
        s.occupied[at] &= life[w];
        Word now = s.alive[t & 1][at];
        if (!fixed) now = dead_lives ? now | (full_word(g, w) & ~life[w]) : now & life[w];
        s.alive[(t + 1) & 1][at] = now;
      }
    }
  }

  // Restores the state before a step, and collects the gradients of the updates of the cells that fired and lived.
  void undo(Band& b, long t, const Log& log, Log::Step at) {
    Sample& s = *b.sample;
    b.cells.clear();
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
          b.cells.push_back((uint32_t)(first + i));
          for (long c = 0; c < g.CS; c += VL) store(update + c, select(loadi(n.is_free + c), load(grad + c), vec{}));
          update += g.CS;
        });
      }
    }
    b.n = (long)b.cells.size();
  }

  void restore_row(const Log& log, Stream::Place& at, float* x) {
    const float* from = (const float*)log.rows.read(at, (size_t)g.C * 4, 64);
    for (long c = 0; c < g.CS; c += VL) store(x + c, select(loadi(n.is_channel + c), load(from + c), vec{}));
  }

  // Sums the gradients of the weights over the cells of a band, and scatters those of the state.
  void blame(Band& b, Tile& tile, long t, Gradients& sum) {
    float *x = b.sample->x, *grad = b.sample->grad;
    for (long i = 0; i < b.n; i += TILE) {
      long m = std::min(TILE, b.n - i);
      const uint32_t* cells = b.cells.data() + i;
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
};
