// A step of an automaton as it is usually written: every cell, every filter, every neuron, and the masks at the end.
// It does what the preset `growing` needs: depth-wise filters, zeros beyond the border, a rectifier, both alive masks.

export class Naive {
  constructor(cell, height, width) {
    Object.assign(this, { cell, height, width });
    const cells = height * width;
    const [hidden, last] = cell.layers;
    this.state = new Float32Array(cells * cell.channels);
    this.next = new Float32Array(cells * cell.channels);
    this.perception = new Float32Array(cells * hidden.inputs);
    this.hidden = new Float32Array(cells * hidden.outputs);
    this.update = new Float32Array(cells * last.outputs);
  }

  /** `fires` says of a step and a cell whether it updates. */
  step(t, fires) {
    const { cell, height, width, state, next } = this;
    const { channels } = cell;
    const [hidden, last] = cell.layers;
    this.perceive();
    dense(hidden, this.perception, this.hidden, height * width);
    for (let k = 0; k < this.hidden.length; ++k) this.hidden[k] = Math.max(0, this.hidden[k]);
    dense(last, this.hidden, this.update, height * width);
    for (let at = 0; at < height * width; ++at) {
      const fire = fires(t, at) ? 1 : 0;
      for (let k = 0; k < channels; ++k) next[at * channels + k] = state[at * channels + k] + fire * this.update[at * channels + k];
    }
    const alive = Array.from({ length: height * width }, (_, at) => this.isAlive(state, at) && this.isAlive(next, at));
    for (let at = 0; at < height * width; ++at) {
      for (let k = 0; k < channels; ++k) if (!alive[at]) next[at * channels + k] = 0;
    }
    [this.state, this.next] = [next, state];
  }

  perceive() {
    const { cell, height, width, state, perception } = this;
    const { channels, numFilters, filters, kernelHeight, kernelWidth } = cell;
    for (let y = 0; y < height; ++y) {
      for (let x = 0; x < width; ++x) {
        for (let filter = 0; filter < numFilters; ++filter) {
          for (let k = 0; k < channels; ++k) {
            let sum = 0;
            for (let v = 0; v < kernelHeight; ++v) {
              for (let u = 0; u < kernelWidth; ++u) {
                const row = y + v - (kernelHeight >> 1);
                const column = x + u - (kernelWidth >> 1);
                if (row < 0 || row >= height || column < 0 || column >= width) continue;
                const factor = filters[((filter * channels + k) * kernelHeight + v) * kernelWidth + u];
                sum += factor * state[(row * width + column) * channels + k];
              }
            }
            perception[((y * width + x) * numFilters + filter) * channels + k] = sum;
          }
        }
      }
    }
  }

  isAlive(state, at) {
    const { cell, height, width } = this;
    const [y, x] = [Math.floor(at / width), at % width];
    for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); ++v) {
      for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, width - 1); ++u) {
        if (state[(v * width + u) * cell.channels + cell.alive.channel] > cell.alive.threshold) return true;
      }
    }
    return false;
  }
}

function dense({ weight, bias, inputs, outputs }, input, output, cells) {
  for (let at = 0; at < cells; ++at) {
    for (let o = 0; o < outputs; ++o) {
      let sum = bias[o];
      for (let i = 0; i < inputs; ++i) sum += weight[o * inputs + i] * input[at * inputs + i];
      output[at * outputs + o] = sum;
    }
  }
}
