// Where cells lie: a grid with a halo for the padding, rows of cells, and one bit per cell.
#pragma once
#include <stdint.h>
#include <string.h>

#include <vector>

#include "nca.h"
#include "vec.h"

struct Grid {
  long depth, height, width, rd, rh, rw;  // sizes and radii
  long PD, PH, PW;                        // sizes with the halo
  long rows, words;                       // rows of cells, and words of 64 bits in one of them
  long C, CS, fixed;                      // channels, and floats from one cell to the next
  int padding;

  explicit Grid(const nca_job& j)
      : depth(j.shape[0]), height(j.shape[1]), width(j.shape[2]), rd(j.kernel[0] / 2), rh(j.kernel[1] / 2),
        rw(j.kernel[2] / 2), PD(depth + 2 * rd), PH(height + 2 * rh), PW(width + 2 * rw), rows(depth * height),
        words((width + 63) / 64), C(j.channels), CS(round_up(j.channels, 16)), fixed(j.fixed), padding((int)j.padding) {}

  long cells() const { return rows * width; }
  long floats() const { return PD * PH * PW * CS + 16; }
  long first(long row) const { return ((row / height + rd) * PH + row % height + rh) * PW + rw; }  // number of a cell
  // Rows that a band must have so that the bands next to it never touch the same cells.
  long slab() const { return depth > 1 ? height : 1; }
  long reach() const { return (depth > 1 ? rd : rh) * slab(); }
};

typedef uint64_t Word;

template <class F>
NCA_INLINE void each_bit(Word w, F f) {
  for (; w; w &= w - 1) f(__builtin_ctzll(w));
}

// One row of a bitmap, grown by q cells along every axis. The border of the grid is the end of the world.
static inline void dilated(const Grid& g, const Word* map, long row, long q, Word* out) {
  long z = row / g.height, y = row % g.height;
  long z0 = z > q ? z - q : 0, z1 = z + q < g.depth ? z + q : g.depth - 1;
  long y0 = y > q ? y - q : 0, y1 = y + q < g.height ? y + q : g.height - 1;
  Word any = 0;
  for (long w = 0; w < g.words; w++) {
    Word bits = 0;
    for (long zz = z0; zz <= z1; zz++)
      for (long yy = y0; yy <= y1; yy++) bits |= map[(zz * g.height + yy) * g.words + w];
    out[w] = bits, any |= bits;
  }
  if (!any) return;
  for (long i = 0; i < q; i++) {
    Word left = 0;  // the word before this one, as it was
    for (long w = 0; w < g.words; w++) {
      Word bits = out[w], right = w + 1 < g.words ? out[w + 1] : 0;
      out[w] = bits | bits << 1 | bits >> 1 | left >> 63 | right << 63;
      left = bits;
    }
  }
  if (g.width % 64) out[g.words - 1] &= ((Word)1 << g.width % 64) - 1;
}

static inline Word full_word(const Grid& g, long w) {
  return w + 1 < g.words || g.width % 64 == 0 ? ~(Word)0 : ((Word)1 << g.width % 64) - 1;
}

// The cell that the padding shows at a place outside of an axis.
static inline long mirrored(long i, long size, int padding) {
  if (i >= 0 && i < size) return i;
  switch (padding) {
    case NCA_REFLECT: return i < 0 ? -i : 2 * size - 2 - i;
    case NCA_REPLICATE: return i < 0 ? 0 : size - 1;
    default: return i < 0 ? i + size : i - size;
  }
}

// Calls f(halo, source, floats) for each run of halo cells along an axis: 0 columns, 1 rows, 2 slabs.
template <class F>
static void each_halo(const Grid& g, int axis, F f) {
  long size = axis == 0 ? g.width : axis == 1 ? g.height : g.depth, r = axis == 0 ? g.rw : axis == 1 ? g.rh : g.rd;
  for (long n = 0; n < 2 * r; n++) {
    long i = n < r ? -1 - n : size + n - r, s = mirrored(i, size, g.padding);
    if (axis == 2) f((i + r) * g.PH * g.PW * g.CS, (s + r) * g.PH * g.PW * g.CS, g.PH * g.PW * g.CS);
    if (axis == 1)
      for (long z = 0; z < g.depth; z++) {
        long slab = (z + g.rd) * g.PH;
        f((slab + i + r) * g.PW * g.CS, (slab + s + r) * g.PW * g.CS, g.PW * g.CS);
      }
    if (axis == 0)
      for (long row = 0; row < g.rows; row++) f((g.first(row) + i) * g.CS, (g.first(row) + s) * g.CS, g.CS);
  }
}

// Fills the halo of a state; columns first, then rows of the full width, then slabs of the full area.
static inline void fill_halo(const Grid& g, float* x) {
  for (int axis = 0; axis < 3; axis++)
    each_halo(g, axis, [&](long to, long from, long n) { memcpy(x + to, x + from, (size_t)n * 4); });
}

// Brings the gradient of the halo home, and empties the halo.
static inline void fold_halo(const Grid& g, float* grad) {
  for (int axis = 2; axis >= 0; axis--)
    each_halo(g, axis, [&](long from, long to, long n) {
      for (long i = 0; i < n; i += VL) store(grad + to + i, load(grad + to + i) + load(grad + from + i));
      memset(grad + from, 0, (size_t)n * 4);
    });
}
