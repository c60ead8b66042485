// What a forward pass leaves for the backward pass.
#pragma once
#include <memory>
#include <vector>

#include "pool.h"

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
  long from = 0, to = 0;     // numbers of steps
  bool logged = false;
  std::vector<std::unique_ptr<Log>> logs;  // of each band
  Buffer<float> snapshot;    // state at `from`, [cells][C]; none for the first if it is logged
};

// What the backward pass needs of a sample.
struct SampleTape {
  std::vector<Segment> segments;
  Buffer<float> end;         // last state, [cells][C]
};
