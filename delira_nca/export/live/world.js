// The dish: a state, its time, and all that a person can do to it. It knows neither page nor canvas.

import { noise } from "./random.js";
import { unpack } from "./tensors.js";

export class World {
  constructor(page, cell, makeEngine) {
    Object.assign(this, { page, cell, makeEngine });
    this.seedBlock = page.seed && unpack(page.seed.block); // (C, height, width)
    this.targets = page.targets.map(unpack); // of each goal, (channels, height, width)
    this.options = { seed: page.randomSeed, fireRate: cell.fireRate };
    this.angle = 0;
    this.goal = 0;
    this.image = page.image ? unpack(page.image) : null; // (fixed, height, width)
    [this.height, this.width] = this.image ? this.image.shape.slice(1) : page.grid;
    this.engine = makeEngine(cell, this.height, this.width);
    this.begin();
  }

  get cells() {
    return this.height * this.width;
  }

  /** Begin again: from the seed, from the picture, or from what was drawn. */
  restart() {
    this.begin(this.page.task === "classify" ? this.snapshot() : null);
  }

  /** Step 0; the fixed channels are those of `drawn` where it is given. */
  begin(drawn = null) {
    const { cell, page } = this;
    const state = new Float32Array(this.cells * cell.channels);
    if (page.hiddenNoise) this.fillHidden(state);
    this.setFixed(state);
    if (drawn) keepFixed(drawn, state, cell);
    this.engine.write(0, 0, this.width, this.height, state);
    this.t = 0;
    if (this.seedBlock) this.plant(Math.floor(this.width / 2), Math.floor(this.height / 2));
  }

  /** An empty dish. */
  clear() {
    this.image = null;
    this.begin();
  }

  fillHidden(state) {
    const { mean, std, first, count } = this.page.hiddenNoise;
    for (let at = 0; at < this.cells; ++at) {
      for (let k = 0; k < count; ++k) {
        state[at * this.cell.channels + first + k] = mean + std * noise(this.options.seed, 0xffffffff, at * count + k);
      }
    }
  }

  /** Channels that never change by themselves: the goal, or the picture. */
  setFixed(state) {
    const { channels, fixed } = this.cell;
    const goal = this.page.goals[this.goal];
    for (let at = 0; at < this.cells; ++at) {
      for (let k = 0; k < fixed; ++k) {
        if (goal) state[at * channels + k] = goal.values[k];
        else if (this.image) state[at * channels + k] = this.image.values[k * this.cells + at];
      }
    }
  }

  step() {
    this.engine.step(this.t, this.options);
    this.t = (this.t + 1) >>> 0;
  }

  get radians() {
    return (this.angle * Math.PI) / 180;
  }

  turn(degrees) {
    this.angle = degrees;
    this.engine.turn(this.radians);
  }

  /** Live on by other weights of the same automaton. */
  adopt(cell) {
    this.cell = cell;
    this.engine.load(cell, this.radians);
  }

  /** Whether a pattern is not worth keeping: dead, blown up, or farther from its target than an empty dish. */
  isHopeless(state) {
    const { channels, alive } = this.cell;
    if (this.page.task !== "grow") return false;
    if (!state.every(Number.isFinite)) return true;
    if (alive && !state.some((value, k) => k % channels === alive.channel && value > alive.threshold)) return true;
    const target = this.targets[this.goal]?.values;
    if (!target || this.t <= this.page.horizon) return false;
    return this.error(state) > target.reduce((sum, value) => sum + value ** 2, 0) / target.length;
  }

  /** All values, cell by cell; of an engine that was lost, those that were seen last. */
  snapshot() {
    const state = this.engine.read(0, 0, this.width, this.height);
    if (!this.engine.isLost || this.seen?.length !== state.length) this.seen = state;
    return this.seen;
  }

  /** Go on in another engine. */
  move(makeEngine, state = this.snapshot()) {
    this.makeEngine = makeEngine;
    const engine = makeEngine(this.cell, this.height, this.width);
    engine.write(0, 0, this.width, this.height, state);
    this.engine.dispose();
    this.engine = engine;
    this.turn(this.angle);
  }

  /** Change the cells of a rectangle, as far as it lies in the dish: `change(values, x, y)` for each. */
  edit(left, top, right, bottom, change) {
    const { channels } = this.cell;
    [left, top] = [Math.max(left, 0), Math.max(top, 0)];
    [right, bottom] = [Math.min(right, this.width), Math.min(bottom, this.height)];
    if (left >= right || top >= bottom) return;
    const block = this.engine.read(left, top, right - left, bottom - top);
    for (let y = top, at = 0; y < bottom; ++y) {
      for (let x = left; x < right; ++x, at += channels) change(block.subarray(at, at + channels), x, y);
    }
    this.engine.write(left, top, right - left, bottom - top, block);
  }

  disc(x, y, radius, change) {
    const reach = Math.ceil(radius);
    this.edit(x - reach, y - reach, x + reach + 1, y + reach + 1, (values, u, v) => {
      if ((u - x) ** 2 + (v - y) ** 2 <= radius ** 2) change(values);
    });
  }

  /** Kill all cells of a disc. */
  erase(x, y, radius) {
    this.disc(x, y, radius, (values) => values.fill(0, this.cell.fixed));
  }

  /** Kill one half: left, right, top or bottom. */
  cut(side) {
    const [x, y] = [Math.floor(this.width / 2), Math.floor(this.height / 2)];
    const halves = {
      left: [0, 0, x, this.height],
      right: [x, 0, this.width, this.height],
      top: [0, 0, this.width, y],
      bottom: [0, y, this.width, this.height],
    };
    this.edit(...halves[side], (values) => values.fill(0, this.cell.fixed));
  }

  /** Put the seed with its middle on a cell. */
  plant(x, y) {
    const [, height, width] = this.seedBlock.shape;
    const [left, top] = [x - Math.floor(width / 2), y - Math.floor(height / 2)];
    this.edit(left, top, left + width, top + height, (values, u, v) => {
      const at = (v - top) * width + (u - left);
      for (let k = this.cell.fixed; k < values.length; ++k) values[k] = this.seedBlock.values[k * width * height + at];
    });
  }

  /** Draw on the picture that the cells look at. */
  draw(x, y, radius, ink) {
    this.disc(x, y, radius, (values) => {
      values.fill(ink, 0, this.cell.fixed);
      if (!ink) values.fill(0, this.cell.fixed);
    });
  }

  /** Cells of another goal; the pattern stays as it is. */
  choose(goal) {
    this.goal = goal;
    const { values } = this.page.goals[goal];
    this.edit(0, 0, this.width, this.height, (cell) => cell.set(values));
  }

  /** Look at another picture: (fixed, height, width) values. */
  show(image) {
    this.image = image;
    const [, height, width] = image.shape;
    if (height !== this.height || width !== this.width) {
      this.engine.dispose();
      [this.height, this.width] = [height, width];
      this.engine = this.makeEngine(this.cell, height, width);
      this.turn(this.angle);
    }
    this.begin();
  }

  /** Mean squared difference of a snapshot from the target; null where there is none. */
  error(state) {
    const target = this.targets[this.goal];
    if (!target) return null;
    const { channels } = this.cell;
    const { first } = this.page.picture;
    const { shape, values } = target;
    let sum = 0;
    for (let at = 0; at < this.cells; ++at) {
      for (let k = 0; k < shape[0]; ++k) {
        sum += (state[at * channels + first + k] - values[k * this.cells + at]) ** 2;
      }
    }
    return sum / values.length;
  }
}

function keepFixed(from, to, { channels, fixed }) {
  for (let at = 0; at < from.length; at += channels) {
    for (let k = 0; k < fixed; ++k) to[at + k] = from[at + k];
  }
}
