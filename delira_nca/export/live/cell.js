// An automaton as numbers: what both engines read. The fields are those of delira_nca.rollout.CellParameters, in 2D.

import { unpack } from "./tensors.js";

export const NONLINEARITIES = {
  relu: (v) => (v > 0 ? v : 0),
  leaky_relu: (v) => (v > 0 ? v : 0.01 * v),
  gelu: (v) => 0.5 * v * (1 + erf(v * Math.SQRT1_2)),
  silu: (v) => v / (1 + Math.exp(-v)),
  tanh: Math.tanh,
};

/** Error function, to 1.2e-7 (the Chebyshev fit of Numerical Recipes' erfcc). */
function erf(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const series = [1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223];
  let sum = 0.17087277;
  for (let k = series.length - 1; k >= 0; --k) sum = series[k] + t * sum;
  const tail = t * Math.exp(-x * x - 1.26551223 + t * sum);
  return x >= 0 ? 1 - tail : tail - 1;
}

export class Cell {
  constructor(described) {
    Object.assign(this, described);
    this.free = this.channels - this.fixed;
    const filters = unpack(described.filters); // (F, C, height, width)
    [this.numFilters, , this.kernelHeight, this.kernelWidth] = filters.shape;
    this.filters = filters.values;
    this.filterBias = unpack(described.filterBias); // (F, C)
    this.full = unpack(described.full); // (O, C, height, width)
    this.fullBias = unpack(described.fullBias);
    this.numFull = this.full ? this.full.shape[0] : 0;
    this.layers = described.layers.map((layer) => {
      const weight = unpack(layer.weight);
      const [outputs, inputs] = weight.shape;
      return { outputs, inputs, weight: weight.values, bias: layer.bias ? unpack(layer.bias).values : null };
    });
    this.activate = NONLINEARITIES[this.nonlinearity];
    if (this.alive) this.alive = { ...this.alive, threshold: Math.fround(this.alive.threshold) }; // as exact as a state
  }

  /** Numbers that the rule sees of a cell. */
  get perceived() {
    return this.numFilters * this.channels + this.numFull + (this.timeScale === null ? 0 : 1);
  }

  get taps() {
    return this.kernelHeight * this.kernelWidth;
  }

  /** The filters with every pair of gradients turned by an angle in radians, like Perception(angle=...). */
  filtersTurned(angle) {
    const turned = this.filters.slice();
    const size = this.channels * this.taps;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    for (const [alongX, alongY] of this.gradients) {
      for (let k = 0; k < size; ++k) {
        const [x, y] = [this.filters[alongX * size + k], this.filters[alongY * size + k]];
        turned[alongX * size + k] = cos * x - sin * y;
        turned[alongY * size + k] = sin * x + cos * y;
      }
    }
    return turned;
  }
}

/** Number of the row or column at `index`, which may lie beyond the border; -1 where zeros lie there. */
export function padded(index, size, padding) {
  if (index >= 0 && index < size) return index;
  if (padding === "circular") return ((index % size) + size) % size;
  if (padding === "replicate") return index < 0 ? 0 : size - 1;
  if (padding === "reflect") return index < 0 ? -index : 2 * (size - 1) - index;
  return -1;
}
