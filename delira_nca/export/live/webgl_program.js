// The shaders of one automaton: its sizes become #defines, its numbers one long list of vec4.

import { noiseNumbers } from "./random.js";

const HEAD = "#version 300 es\nprecision highp float;\nprecision highp int;\n";
const PADDINGS = ["zeros", "reflect", "replicate", "circular"];
const ACTIVATIONS = ["relu", "leaky_relu", "gelu", "silu", "tanh"];
export const TEXTURE_ROW = 1024;

export const VERTEX_SHADER = `${HEAD}
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0); }`;

const quarter = (count) => Math.ceil(count / 4);

/** All numbers of a cell as vec4s, and where each part of them begins. */
export function packNumbers(cell, filters) {
  const layers = quarter(cell.channels);
  const numbers = [];
  const at = {};
  const vectors = (values) => {
    const begin = numbers.length / 4;
    for (const value of values) numbers.push(value);
    return begin;
  };
  const padded = (length, value) => Array.from({ length: length * 4 }, (_, k) => value(k) ?? 0);

  const { taps, channels, numFilters, numFull, full } = cell;
  const fulls = quarter(numFull);
  at.FILTER = vectors(
    padded(numFilters * taps * layers, (k) => {
      const [channel, look] = [k % (layers * 4), Math.floor(k / (layers * 4))];
      const [tap, filter] = [look % taps, Math.floor(look / taps)];
      return channel < channels ? filters[(filter * channels + channel) * taps + tap] : 0;
    }),
  );
  at.FILTER_BIAS = vectors(
    padded(numFilters * layers, (k) => {
      const [channel, filter] = [k % (layers * 4), Math.floor(k / (layers * 4))];
      return channel < channels && cell.filterBias ? cell.filterBias.values[filter * channels + channel] : 0;
    }),
  );
  at.FULL_BIAS = vectors(padded(fulls, (o) => (o < numFull && cell.fullBias ? cell.fullBias.values[o] : 0)));
  at.FULL_FILTER = vectors(
    padded(fulls * taps * layers * 4, (k) => {
      const [row, column, block] = [k % 4, Math.floor(k / 4) % 4, Math.floor(k / 16)];
      const [layer, tap] = [block % layers, Math.floor(block / layers) % taps];
      const [output, channel] = [Math.floor(block / (layers * taps)) * 4 + row, layer * 4 + column];
      const inside = output < numFull && channel < channels;
      return inside ? full.values[(output * channels + channel) * taps + tap] : 0;
    }),
  );
  at.layers = cell.layers.map((layer, l) => {
    const last = l === cell.layers.length - 1;
    const column = l === 0 ? perceptionColumns(cell, layers) : Array.from({ length: layer.inputs }, (_, k) => k);
    const skip = last ? cell.fixed : 0; // the rows of the fixed channels are zeros
    const [inputs, outputs] = [quarter(column.length), quarter(layer.outputs + skip)];
    const weight = vectors(
      padded(outputs * inputs * 4, (k) => {
        const [row, part, block] = [k % 4, Math.floor(k / 4) % 4, Math.floor(k / 16)];
        const output = Math.floor(block / inputs) * 4 + row - skip;
        const input = column[(block % inputs) * 4 + part] ?? -1;
        const inside = output >= 0 && output < layer.outputs && input >= 0;
        return inside ? layer.weight[output * layer.inputs + input] : 0;
      }),
    );
    const bias = vectors(
      padded(outputs, (k) => (layer.bias && k >= skip && k - skip < layer.outputs ? layer.bias[k - skip] : 0)),
    );
    return { weight, bias, inputs, outputs };
  });
  return { numbers: Float32Array.from(numbers), at };
}

/** For every component that a shader sees, the column of the first layer's weights; -1 where it sees nothing. */
function perceptionColumns(cell, layers) {
  const columns = [];
  for (let filter = 0; filter < cell.numFilters; ++filter) {
    for (let k = 0; k < layers * 4; ++k) columns.push(k < cell.channels ? filter * cell.channels + k : -1);
  }
  const depthwise = cell.numFilters * cell.channels;
  for (let k = 0; k < quarter(cell.numFull) * 4; ++k) columns.push(k < cell.numFull ? depthwise + k : -1);
  if (cell.timeScale !== null) columns.push(depthwise + cell.numFull, -1, -1, -1);
  return columns;
}

/** Fragment shaders that write so many layers of the state from the first one on: update, and who lives. */
export function fragmentShaders(sources, cell, packed, { first, outputs, inUniforms }) {
  const { at } = packed;
  const layers = quarter(cell.channels);
  const [hidden, last] = [at.layers.slice(0, -1), at.layers.at(-1)];
  const streamed = hidden.at(-1); // the last hidden layer is never stored
  const calls = hidden.slice(0, -1).map((l) => `dense(${l.weight}, ${l.bias}, ${l.inputs}, ${l.outputs});`);
  const number = (value) => value.toPrecision(9).replace(/^(-?\d+)$/, "$1.0");
  const defines = {
    LAYERS: layers,
    FIRST: first,
    OUTPUTS: outputs,
    FIXED: cell.fixed,
    CHANNELS: cell.channels,
    FILTERS: cell.numFilters,
    DEPTHWISE: cell.numFilters * layers,
    FULL: quarter(cell.numFull),
    FULL_RELU: Number(cell.fullRelu),
    TAPS: cell.taps,
    KERNEL: `ivec2(${cell.kernelWidth}, ${cell.kernelHeight})`,
    TIME: Number(cell.timeScale !== null),
    PADDING: PADDINGS.indexOf(cell.padding),
    ACTIVATION: ACTIVATIONS.indexOf(cell.nonlinearity),
    NOISE: Number(cell.updateNoise > 0),
    NOISE_SCALE: number(noiseNumbers.scale),
    UPDATE_NOISE: number(cell.updateNoise),
    ALIVE_BEFORE: Number(Boolean(cell.alive?.before)),
    ALIVE_AFTER: Number(Boolean(cell.alive?.after)),
    ALIVE_LAYER: Math.floor((cell.alive?.channel ?? 0) / 4),
    ALIVE_COMPONENT: (cell.alive?.channel ?? 0) % 4,
    ALIVE_THRESHOLD: number(cell.alive?.threshold ?? 0),
    NUMBERS_IN_UNIFORMS: Number(inUniforms),
    COUNT: packed.numbers.length / 4,
    ROW: TEXTURE_ROW,
    WIDEST: Math.max(...at.layers.map((l) => l.inputs), ...hidden.map((l) => l.outputs)),
    FILTER: at.FILTER,
    FILTER_BIAS: at.FILTER_BIAS,
    FULL_BIAS: at.FULL_BIAS,
    FULL_FILTER: at.FULL_FILTER,
    LAST: last.weight,
    LAST_BIAS: last.bias,
    LAST_INPUTS: last.inputs,
    "LAST_INPUT(i)": streamed ? `activate(neuron(${streamed.weight}, ${streamed.bias}, ${streamed.inputs}, i))` : "seen[i]",
    HIDDEN_LAYERS: calls.join(" "),
  };
  const written = Array.from({ length: outputs }, (_, k) => k);
  const declarations = written.map((k) => `layout(location = ${k}) out vec4 layer${k};`).join("\n");
  const write = (value) => written.map((k) => `layer${k} = ${value(k)};`).join(" ");
  const shader = (source, value) =>
    [
      HEAD,
      ...Object.entries({ ...defines, WRITE_OUTPUTS: write(value) }).map(([name, text]) => `#define ${name} ${text}`),
      declarations,
      source,
    ].join("\n");
  const fetched = (grid, k) => `texelFetch(${grid}, ivec3(cell, ${first + k}), 0)`;
  return {
    update: shader(sources.update, (k) => `${fetched("state", k)} + update[${k}]`),
    life: shader(
      sources.life,
      (k) => `alive ? ${fetched("candidate", k)} : keepFixed(${fetched("candidate", k)}, ${first + k})`,
    ),
  };
}
