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
