// Which engine runs: the faster one of those that pass a check against the JavaScript one.

import { JavaScriptEngine } from "./javascript_engine.js";
import { NoWebGL, WebGLEngine } from "./webgl_engine.js";

const TOLERANCE = 1e-3;
const SAMPLE = 48; // cells along the edges of the dish that is checked and measured in JavaScript

export const makeJavaScript = (cell, height, width) => new JavaScriptEngine(cell, height, width);

/** Makes engines on the card; the first one is there already. */
function makeWebGLWith(sources, ready) {
  return (cell, height, width) => {
    const engine = ready?.isLost === false ? ready : new WebGLEngine(cell, height, width, sources);
    ready = null;
    if (engine.height !== height || engine.width !== width) engine.resize(height, width);
    return engine;
  };
}

/** A state in which every cell lives. */
function crowd(cell, cells) {
  const state = Float32Array.from({ length: cells * cell.channels }, (_, k) => Math.sin(k * 12.9898) * 0.5);
  if (cell.alive) for (let at = 0; at < cells; ++at) state[at * cell.channels + cell.alive.channel] = 1;
  return state;
}

function secondsOfAStep(engine, steps) {
  engine.write(0, 0, engine.width, engine.height, crowd(engine.cell, engine.height * engine.width));
  const options = { seed: 1, fireRate: engine.cell.fireRate };
  engine.step(0, options);
  engine.read(0, 0, 1, 1);
  const begin = performance.now();
  for (let t = 1; t <= steps; ++t) engine.step(t, options);
  engine.read(0, 0, 1, 1);
  return (performance.now() - begin) / 1000 / steps;
}

/** Raises NoWebGL where a dish does not come out as it must. */
function check(engine, exact) {
  const { height, width, cell } = exact;
  const state = crowd(cell, height * width);
  const [truth, shown] = [exact, engine].map((each) => {
    each.write(0, 0, width, height, state);
    each.step(3, { seed: 1, fireRate: 0.5 });
    return each.read(0, 0, width, height);
  });
  const wrong = truth.some((value, k) => !(Math.abs(value - shown[k]) <= TOLERANCE * Math.max(1, Math.abs(value))));
  if (wrong) throw new NoWebGL("this graphics card computes something else");
}

/** {make, why}: how to make the engine that was asked for (auto, webgl or javascript), and why it is this one. */
export function chooseEngine(wanted, sources, cell, height, width) {
  if (wanted === "javascript") return { make: makeJavaScript, why: "as chosen" };
  let engine = null;
  try {
    const [rows, columns] = [height, width].map((size) => Math.min(size, SAMPLE));
    engine = new WebGLEngine(cell, rows, columns, sources);
    const exact = makeJavaScript(cell, rows, columns);
    check(engine, exact);
    engine.resize(height, width);
    const makeWebGL = makeWebGLWith(sources, engine);
    if (wanted === "webgl") return { make: makeWebGL, why: "as chosen" };
    const card = secondsOfAStep(engine, 8);
    const processor = (secondsOfAStep(exact, 2) * height * width) / (rows * columns);
    const why = `WebGL ${(1 / card).toFixed(0)}, JavaScript ${(1 / processor).toFixed(0)} full steps a second`;
    if (card < processor) return { make: makeWebGL, why };
    engine.dispose();
    return { make: makeJavaScript, why };
  } catch (error) {
    engine?.dispose();
    if (!(error instanceof NoWebGL)) throw error;
    return { make: makeJavaScript, why: error.message };
  }
}
