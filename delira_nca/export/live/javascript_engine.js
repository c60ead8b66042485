// One step after the other on typed arrays. Cells that do not fire, and cells without life around them, cost nothing.

import { padded } from "./cell.js";
import { fires, fireThreshold, noise } from "./random.js";

const TILE = 4; // cells that go through the rule together: their sums stay in registers

export class JavaScriptEngine {
  constructor(cell, height, width) {
    this.name = "JavaScript";
    this.isLost = false;
    Object.assign(this, { height, width });
    const cells = height * width;
    this.state = new Float32Array(cells * cell.channels); // cell by cell
    this.updates = new Float32Array(cells * cell.free);
    this.before = new Uint8Array(cells);
    this.thought = new Uint8Array(cells); // 0 not yet, 1 its update is known
    this.due = new Int32Array(cells + TILE);
    this.rows = neighbours(height, cell.kernelHeight, cell.padding);
    this.columns = neighbours(width, cell.kernelWidth, cell.padding);
    const widest = Math.max(cell.perceived, ...cell.layers.map((layer) => layer.outputs + 1));
    this.tiles = [new Float64Array(widest * TILE), new Float64Array(widest * TILE)];
    this.load(cell, 0);
  }

  /** Take other weights of the same automaton, its gradients turned by an angle in radians; the state stays. */
  load(cell, angle) {
    this.cell = cell;
    this.layers = cell.layers.map((layer) => ({
      ...layer,
      weight: Float64Array.from(layer.weight),
      bias: layer.bias ? Float64Array.from(layer.bias) : new Float64Array(layer.outputs),
    }));
    this.turn(angle);
  }

  /** Turn the gradients that cells see by an angle in radians. */
  turn(angle) {
    const { cell } = this;
    this.depthwise = packTaps(cell.filtersTurned(angle), cell.numFilters, cell.channels, cell.taps);
  }

  /** Values of a rectangle, cell by cell, row by row. */
  read(left, top, width, height) {
    const { channels } = this.cell;
    const block = new Float32Array(width * height * channels);
    for (let y = 0; y < height; ++y) {
      const from = ((top + y) * this.width + left) * channels;
      block.set(this.state.subarray(from, from + width * channels), y * width * channels);
    }
    return block;
  }

  write(left, top, width, height, block) {
    const row = width * this.cell.channels;
    for (let y = 0; y < height; ++y) {
      this.state.set(block.subarray(y * row, (y + 1) * row), ((top + y) * this.width + left) * this.cell.channels);
    }
  }

  dispose() {}

  /** Update every cell once: the step of delira_nca.rollout.reference. */
  step(t, { seed, fireRate }) {
    const { cell, height, width } = this;
    const threshold = fireThreshold(fireRate);
    const { alive } = cell;
    if (alive?.before) this.markAlive(this.before, (at) => this.state[at * cell.channels + alive.channel]);
    else this.before.fill(1);
    this.thought.fill(0);
    let count = 0;
    for (let at = 0; at < height * width; ++at) {
      if (this.before[at] && fires(seed, t, at, threshold)) this.due[count++] = at;
    }
    this.think(this.due, count, t, seed);
    if (alive?.before && alive.after) this.thinkOfNeighboursOfTheDying(t, seed, threshold);
    this.apply();
  }

  markAlive(mask, alphaOf) {
    const { height, width } = this;
    mask.fill(0);
    const { threshold } = this.cell.alive;
    for (let y = 0, at = 0; y < height; ++y) {
      for (let x = 0; x < width; ++x, ++at) {
        if (!(alphaOf(at) > threshold)) continue;
        for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); ++v) {
          for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, width - 1); ++u) mask[v * width + u] = 1;
        }
      }
    }
  }

  /** Alive channel of a cell after its update. */
  nextAlpha(at) {
    const { channels, fixed, free, alive } = this.cell;
    const alpha = this.state[at * channels + alive.channel];
    if (alive.channel < fixed || !this.thought[at]) return alpha;
    return Math.fround(alpha + this.updates[at * free + alive.channel - fixed]);
  }

  /** A dead cell's own update may keep a living neighbour alive that would die otherwise: it must be known then. */
  thinkOfNeighboursOfTheDying(t, seed, threshold) {
    const { height, width, before, thought, due } = this;
    const after = (this.after ??= new Uint8Array(height * width));
    this.markAlive(after, (at) => this.nextAlpha(at));
    let count = 0;
    for (let y = 0, at = 0; y < height; ++y) {
      for (let x = 0; x < width; ++x, ++at) {
        if (!before[at] || after[at]) continue;
        for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); ++v) {
          for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, width - 1); ++u) {
            const neighbour = v * width + u;
            if (before[neighbour] || thought[neighbour] || !fires(seed, t, neighbour, threshold)) continue;
            thought[neighbour] = 1;
            due[count++] = neighbour;
          }
        }
      }
    }
    this.think(due, count, t, seed);
  }

  /** Put the updates on, and let die what is not alive. */
  apply() {
    const { cell, state, updates, thought, before } = this;
    const { channels, fixed, free, alive } = cell;
    let after = null;
    if (alive?.after) {
      after = this.after ??= new Uint8Array(before.length);
      this.markAlive(after, (at) => this.nextAlpha(at));
    }
    for (let at = 0; at < before.length; ++at) {
      const from = at * channels + fixed;
      if (!before[at] || (after && !after[at])) {
        for (let k = 0; k < free; ++k) state[from + k] = 0;
      } else if (thought[at]) {
        for (let k = 0; k < free; ++k) state[from + k] += updates[at * free + k];
      }
    }
  }

  /** Updates of the first `count` cells of a list. */
  think(list, count, t, seed) {
    const { cell, thought } = this;
    const last = this.layers.length - 1;
    for (let k = count; k % TILE && count; ++k) list[k] = list[count - 1]; // the last tile repeats its last cell
    for (let first = 0; first < count; first += TILE) {
      let [input, output] = this.tiles;
      this.perceive(list, first, t, input);
      for (let l = 0; l <= last; ++l) {
        dense(this.layers[l], input, output);
        if (l < last) activate(cell.nonlinearity, cell.activate, output, this.layers[l].outputs * TILE);
        [input, output] = [output, input];
      }
      for (let c = 0; c < TILE && first + c < count; ++c) {
        const at = list[first + c];
        for (let k = 0; k < cell.free; ++k) this.updates[at * cell.free + k] = input[k * TILE + c];
        if (cell.updateNoise > 0) this.addNoise(at, t, seed);
        thought[at] = 1;
      }
    }
  }

  addNoise(at, t, seed) {
    const { channels, fixed, free, updateNoise } = this.cell;
    for (let k = 0; k < free; ++k) {
      this.updates[at * free + k] += updateNoise * noise(seed, t, at * channels + fixed + k);
    }
  }

  /** What TILE cells see, number by number, the TILE values of each side by side. */
  perceive(list, first, t, tile) {
    const { cell, state, width } = this;
    const { channels, numFilters, numFull, taps, kernelHeight, kernelWidth } = cell;
    const seen = numFilters * channels + numFull;
    tile.fill(0, 0, seen * TILE);
    for (let c = 0; c < TILE; ++c) {
      const at = list[first + c];
      const y = Math.floor(at / width);
      const x = at - y * width;
      for (let tap = 0; tap < taps; ++tap) {
        const v = Math.floor(tap / kernelWidth);
        const row = this.rows[y * kernelHeight + v];
        const column = this.columns[x * kernelWidth + tap - v * kernelWidth];
        if (row < 0 || column < 0) continue;
        const from = (row * width + column) * channels;
        for (const { filter, factors } of this.depthwise[tap]) {
          for (let k = 0, to = filter * channels * TILE + c; k < channels; ++k, to += TILE) {
            tile[to] += factors[k] * state[from + k];
          }
        }
        if (numFull) this.addFull(tile, numFilters * channels * TILE + c, from, tap);
      }
      this.finishPerception(tile, c, t);
    }
  }

  addFull(tile, to, from, tap) {
    const { channels, numFull, taps, full } = this.cell;
    for (let o = 0; o < numFull; ++o) {
      let sum = 0;
      for (let k = 0; k < channels; ++k) sum += full.values[(o * channels + k) * taps + tap] * this.state[from + k];
      tile[to + o * TILE] += sum;
    }
  }

  /** Biases of the filters, their rectifier, and the time. */
  finishPerception(tile, c, t) {
    const { channels, numFilters, numFull, filterBias, fullBias, fullRelu, timeScale } = this.cell;
    const depthwise = numFilters * channels;
    if (filterBias) for (let k = 0; k < depthwise; ++k) tile[k * TILE + c] += filterBias.values[k];
    for (let o = 0; o < numFull; ++o) {
      const to = (depthwise + o) * TILE + c;
      if (fullBias) tile[to] += fullBias.values[o];
      if (fullRelu && tile[to] < 0) tile[to] = 0;
    }
    if (timeScale !== null) tile[(depthwise + numFull) * TILE + c] = Math.fround(t * timeScale);
  }
}

/** For every place along an axis and every tap, the place that is seen. */
function neighbours(size, kernel, padding) {
  const reach = (kernel - 1) / 2;
  return Int32Array.from({ length: size * kernel }, (_, k) => {
    const at = Math.floor(k / kernel);
    return padded(at + (k % kernel) - reach, size, padding);
  });
}

/** For every tap, the filters that look there, each with one factor per channel. */
function packTaps(filters, numFilters, channels, taps) {
  return Array.from({ length: taps }, (_, tap) => {
    const looking = [];
    for (let filter = 0; filter < numFilters; ++filter) {
      const factors = Float64Array.from({ length: channels }, (_, k) => filters[(filter * channels + k) * taps + tap]);
      if (factors.some((factor) => factor !== 0)) looking.push({ filter, factors });
    }
    return looking;
  });
}

/** Two neurons of four cells at a time: eight sums, six loads. */
function dense({ weight, bias, inputs, outputs }, input, output) {
  let o = 0;
  for (; o + 1 < outputs; o += 2) {
    let [a0, b0] = [bias[o], bias[o + 1]];
    let [a1, a2, a3, b1, b2, b3] = [a0, a0, a0, b0, b0, b0];
    for (let i = 0, a = o * inputs, b = a + inputs, x = 0; i < inputs; ++i, ++a, ++b, x += 4) {
      const [v, w] = [weight[a], weight[b]];
      const [x0, x1, x2, x3] = [input[x], input[x + 1], input[x + 2], input[x + 3]];
      a0 += v * x0;
      a1 += v * x1;
      a2 += v * x2;
      a3 += v * x3;
      b0 += w * x0;
      b1 += w * x1;
      b2 += w * x2;
      b3 += w * x3;
    }
    output.set([a0, a1, a2, a3, b0, b1, b2, b3], o * 4);
  }
  for (; o < outputs; ++o) {
    for (let c = 0; c < 4; ++c) {
      let sum = bias[o];
      for (let i = 0; i < inputs; ++i) sum += weight[o * inputs + i] * input[i * 4 + c];
      output[o * 4 + c] = sum;
    }
  }
}

function activate(name, function_, values, count) {
  if (name === "relu") {
    for (let k = 0; k < count; ++k) if (values[k] < 0) values[k] = 0;
  } else {
    for (let k = 0; k < count; ++k) values[k] = function_(values[k]);
  }
}
