// One sample while it is rolled out, step by step, and the bands of rows that it is divided into.
//
// The bands depend on the shape of the batch only, and so does the order of every sum: the number of threads that share
// the work changes no bit.
#pragma once
#include "band.h"
#include "thread_team.h"

class SampleRollout {
 public:
  SampleRollout(const Net& net, const std::vector<std::unique_ptr<Tile>>& tiles, bool with_grad)
      : n(net), g(net.grid), j(net.job), work_(net), tiles_(tiles) {
    sample_.x = Buffer<float>(g.floats());
    if (with_grad) sample_.grad = Buffer<float>(g.floats());
    size_t words = (size_t)(g.rows * g.words);
    for (auto* map : {&sample_.alive[0], &sample_.alive[1], &sample_.occupied, &sample_.grown, &sample_.dying, &sample_.raised,
                      &sample_.updated[0], &sample_.updated[1], &sample_.has_grad})
      *map = Buffer<Word>(words);
    long bands = num_bands(g, j.batch), slabs = g.rows / g.slab();
    for (long b = 0; b < bands; b++) {
      Band band;
      band.sample = &sample_, band.row0 = slabs * b / bands * g.slab(), band.row1 = slabs * (b + 1) / bands * g.slab();
      size_t cells = (size_t)((band.row1 - band.row0) * g.width), bits = (size_t)((band.row1 - band.row0) * g.words);
      band.cells = Buffer<uint32_t>(cells, Fill::nothing);
      band.update = Buffer<float>((cells + ROW_SLACK) * g.CS, Fill::nothing);
      band.fired = Buffer<Word>(bits), band.living = Buffer<Word>(bits);
      bands_.push_back(std::move(band));
    }
  }
  SampleRollout(const SampleRollout&) = delete;  // the bands point to the sample

  // Bands of one sample. Every number of bands gives the same values, and its own order of the sums of gradients.
  static long num_bands(const Grid& g, long batch) {
    long slabs = g.rows / g.slab(), least = std::max<long>({1, 2 * g.reach() / g.slab(), 512 / (g.slab() * g.width) + 1});
    return std::max<long>(1, std::min((16 + batch - 1) / batch, slabs / least));
  }

  size_t bands() const { return bands_.size(); }

  // Number of the sample in the batch, and the loops that its leader shares with other threads.
  void begin(long number, Loops& loops) {
    sample_.number = number;
    loops_ = &loops;
  }

  void read(const float* x) {  // x: [batch][C][cells]
    each_band([&](Band& b) { read_planes(b, x, sample_.x, false); });
    settle_state();
  }

  void unpack(const float* packed) {
    each_band([&](Band& b) {
      each_row_cell(b, [&](long cell, long at) {
        for (long c = 0; c < g.CS; c += VL)
          store(sample_.x + cell * g.CS + c, select(loadi(n.is_channel + c), load(packed + at * g.C + c), vec{}));
      });
    });
    settle_state();
  }

  void pack(float* packed) {
    each_band([&](Band& b) {
      each_row_cell(b, [&](long cell, long at) { memcpy(packed + at * g.C, sample_.x + cell * g.CS, (size_t)g.C * 4); });
    });
  }
  size_t packed_floats() const { return (size_t)(g.cells() * g.C) + 16; }

  // One step forward; what changes is logged where logs are given.
  void step(long t, std::vector<std::unique_ptr<Log>>* logs, float* out) {
    bool skip = work_.dead_space_stays_dead(tile(loops_->leader(), t));
    each_number([&](long i, int thread) {
      work_.compute_update(bands_[i], tile(thread, t), t, skip, logs ? (*logs)[i].get() : nullptr);
    });
    if (!n.keeps_all()) each_band([&](Band& b) { work_.find_alive(b); });
    if (work_.may_reevaluate()) each_number([&](long i, int thread) { work_.reevaluate_neighbours(bands_[i], tile(thread, t), t); });
    each_number([&](long i, int) {
      Log* log = logs ? (*logs)[i].get() : nullptr;
      work_.apply_update(bands_[i], log);
      if (!n.keeps_all()) work_.apply_alive_mask(bands_[i], t, log);
    });
    refresh_halo();
    if (out) each_band([&](Band& b) { write_planes(b, sample_.x, out); });
  }

  void begin_backward() {
    memset(sample_.grad, 0, (size_t)g.floats() * 4);
    for (auto* map : {&sample_.has_grad, &sample_.updated[0], &sample_.updated[1]}) memset(map->get(), 0, words_bytes());
  }

  void add_gradient(const float* grad) {
    each_band([&](Band& b) {
      read_planes(b, grad, sample_.grad, true);
      fill_rows(b, sample_.has_grad);
    });
  }

  // One step backward: the state becomes what it was, the gradient that of the state before.
  void unstep(long t, const Segment& segment, std::vector<Gradients>& sums) {
    each_number([&](long i, int) { work_.restore(bands_[i], t, *segment.logs[i], segment.logs[i]->steps[t - segment.from]); });
    refresh_halo();
    // Cells scatter gradients to those that they see, in the next band too: first the even bands, then the odd ones.
    for (long parity = 0; parity < 2; parity++)
      loops_->each(((long)bands_.size() + 1 - parity) / 2, [&](long i, int thread) {
        work_.backward(bands_[2 * i + parity], tile(thread, t), t, sums[2 * i + parity]);
      });
    if (g.padding != NCA_ZEROS) fold_halo(g, sample_.grad);
  }

  void write_gradient(float* out) {
    each_band([&](Band& b) { write_planes(b, sample_.grad, out); });
  }

  // Bytes that the log of a step can take at most.
  size_t worst_step() const { return (size_t)(g.cells() * g.C * 4 + (n.keeps_all() ? 1 : 3) * g.rows * g.words * 8); }

 private:
  const Net& n;
  const Grid& g;
  const nca_job& j;
  BandWork work_;
  const std::vector<std::unique_ptr<Tile>>& tiles_;  // of each thread
  Sample sample_;
  std::vector<Band> bands_;
  Loops* loops_ = nullptr;

  size_t words_bytes() const { return (size_t)(g.rows * g.words) * 8; }

  // Tile of a thread, for a step.
  Tile& tile(int thread, long t) {
    Tile& tile = *tiles_[(size_t)thread];
    set_time(n, t, tile);
    return tile;
  }

  template <class F>
  void each_band(F f) {
    loops_->each((long)bands_.size(), [&](long i, int) { f(bands_[i]); });
  }
  template <class F>
  void each_number(F f) {
    loops_->each((long)bands_.size(), f);
  }
  // f(number of the cell in the padded grid, number of the cell in the sample)
  template <class F>
  void each_row_cell(const Band& b, F f) {
    for (long row = b.row0; row < b.row1; row++)
      for (long i = 0; i < g.width; i++) f(g.first(row) + i, row * g.width + i);
  }

  void read_planes(Band& b, const float* planes, float* rows, bool add) {
    planes += sample_.number * g.C * g.cells();
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
    planes += sample_.number * g.C * g.cells();
    for (long row = b.row0; row < b.row1; row++)
      for (long c = 0; c < g.C; c++) {
        float* to = planes + c * g.cells() + row * g.width;
        const float* from = rows + g.first(row) * g.CS + c;
        for (long i = 0; i < g.width; i++) to[i] = from[i * g.CS];
      }
  }

  void refresh_halo() {
    if (g.padding != NCA_ZEROS) fill_halo(g, sample_.x);
  }

  void fill_rows(Band& b, Word* map) {
    for (long row = b.row0; row < b.row1; row++)
      for (long w = 0; w < g.words; w++) map[row * g.words + w] = full_word(g, w);
  }

  // Finds out who lives and what is not zero, after a state was written.
  void settle_state() {
    refresh_halo();
    if (n.keeps_all()) return;
    each_band([&](Band& b) {
      Sample& s = sample_;
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
