// What is known of one sample, and of one band of its rows, while they are rolled out.
#pragma once
#include "grid.h"
#include "tape.h"

struct Sample {
  long number;
  Buffer<float> x, grad;
  Buffer<Word> alive[2], occupied;          // above the threshold, by parity of the step; rows that may not be zero
  Buffer<Word> grown, dying, raised;        // above it after the updates; see BandWork::reevaluate_neighbours
  Buffer<Word> updated[2], has_grad;        // cells that were evaluated, by parity; rows with a gradient
};

struct Band {
  Sample* sample;
  long row0, row1;
  long n = 0;                               // cells to evaluate
  Buffer<uint32_t> cells;
  Buffer<float> update;                     // [n][CS]: updates, or their gradients
  Buffer<Word> fired, living;               // of the step at work
};
