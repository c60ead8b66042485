// Samples that are rolled out together, step by step, and the bands of rows that they are divided into.
//
// The bands depend on the shape of the batch only, and so does the order of every sum: how many threads share the
// work changes nothing. A sample is one team of its own where there are enough of them, so that threads never wait.
#pragma once
#include "band.h"
#include "crew.h"

class Team {
 public:
  Team(const Net& net, long samples, bool with_grad) : n(net), g(net.grid), j(net.job), work_(net), samples_(samples) {
    long bands = num_bands(g, j.batch);
    for (long s = 0; s < samples; s++) {
      Sample& sample = samples_[s];
      sample.number = s;
      sample.x = Buffer<float>(g.floats());
      if (with_grad) sample.grad = Buffer<float>(g.floats());
      size_t words = (size_t)(g.rows * g.words);
      for (auto* map : {&sample.alive[0], &sample.alive[1], &sample.occupied, &sample.grown, &sample.dying, &sample.raised,
                        &sample.updated[0], &sample.updated[1], &sample.has_grad})
        *map = Buffer<Word>(words);
      for (long b = 0; b < bands; b++) {
        Band band;
        long slabs = g.rows / g.slab();
        band.sample = &sample, band.row0 = slabs * b / bands * g.slab(), band.row1 = slabs * (b + 1) / bands * g.slab();
        size_t cells = (size_t)((band.row1 - band.row0) * g.width), bits = (size_t)((band.row1 - band.row0) * g.words);
        band.cells = Buffer<uint32_t>(cells, Fill::nothing);
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
    bool skip = work_.dead_space_stays_dead(tile);
    each_number(turns, [&](long i) { work_.think(bands_[i], tile, t, skip, logs ? (*logs)[i].get() : nullptr); });
    if (!n.keeps_all()) each_band(turns, [&](Band& b) { work_.judge(b); });
    if (work_.may_rescue()) each_band(turns, [&](Band& b) { work_.rescue(b, tile, t); });
    each_number(turns, [&](long i) {
      Log* log = logs ? (*logs)[i].get() : nullptr;
      work_.act(bands_[i], log);
      if (!n.keeps_all()) work_.settle(bands_[i], t, log);
    });
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
    each_number(turns, [&](long i) { work_.undo(bands_[i], t, *segment.logs[i], segment.logs[i]->steps[t - segment.from]); });
    refresh_halo(turns);
    for (int parity = 0; parity < 2; parity++)
      each_number(turns, [&](long i) {
        if (parity_[i] == parity) work_.blame(bands_[i], tile, t, sums[i]);
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
  BandWork work_;
  std::vector<Sample> samples_;
  std::vector<Band> bands_;
  std::vector<int> parity_;

  size_t words_bytes() const { return (size_t)(g.rows * g.words) * 8; }

  template <class F>
  void each_band(Turns& turns, F f) {
    turns.each((long)bands_.size(), [&](long i) { f(bands_[i]); });
  }
  template <class F>
  void each_number(Turns& turns, F f) {
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
};
