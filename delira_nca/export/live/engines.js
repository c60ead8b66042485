// Which engine runs: the faster one of those that pass a check against the JavaScript one.

import { JavaScriptEngine } from "./javascript_engine.js";
import { NoWebGL, WebGLEngine } from "./webgl_engine.js";

const TOLERANCE = 1e-3;

export const makeJavaScript = (cell, height, width) => new JavaScriptEngine(cell, height, width);

export function makeWebGLWith(sources) {
  return (cell, height, width) => new WebGLEngine(cell, height, width, sources);
}

/** A state in which every cell lives. */
function crowd(cell, cells) {
  const state = Float32Array.from({ length: cells * cell.channels }, (_, k) => Math.sin(k * 12.9898) * 0.5);
  if (cell.alive) for (let at = 0; at < cells; ++at) state[at * cell.channels + cell.alive.channel] = 1;
  return state;
}

function secondsOfAStep(engine, state, steps) {
  engine.write(0, 0, engine.width, engine.height, state);
  const options = { seed: 1, fireRate: engine.cell.fireRate };
  engine.step(0, options);
  engine.read(0, 0, 1, 1);
  const begin = performance.now();
  for (let t = 1; t <= steps; ++t) engine.step(t, options);
  engine.read(0, 0, 1, 1);
  return (performance.now() - begin) / 1000 / steps;
}

/** Raises NoWebGL where a small dish does not come out as it must. */
function check(makeWebGL, cell) {
  const [height, width] = [12, 9];
  const engines = [makeJavaScript, makeWebGL].map((make) => make(cell, height, width));
  const state = crowd(cell, height * width);
  const [truth, shown] = engines.map((engine) => {
    engine.write(0, 0, width, height, state);
    engine.step(3, { seed: 1, fireRate: 0.5 });
    const result = engine.read(0, 0, width, height);
    engine.dispose();
    return result;
  });
  const wrong = truth.some((value, k) => !(Math.abs(value - shown[k]) <= TOLERANCE * Math.max(1, Math.abs(value))));
  if (wrong) throw new NoWebGL("this graphics card computes something else");
}

/** {make, why}: how to make the engine that was asked for (auto, webgl or javascript), and why it is this one. */
export function chooseEngine(wanted, sources, cell, height, width) {
  if (wanted === "javascript") return { make: makeJavaScript, why: "as chosen" };
  const makeWebGL = makeWebGLWith(sources);
  try {
    check(makeWebGL, cell);
    const engine = makeWebGL(cell, height, width);
    if (wanted === "webgl") {
      engine.dispose();
      return { make: makeWebGL, why: "as chosen" };
    }
    const state = crowd(cell, height * width);
    const card = secondsOfAStep(engine, state, 8);
    engine.dispose();
    const processor = secondsOfAStep(makeJavaScript(cell, height, width), state, 2);
    const make = card < processor ? makeWebGL : makeJavaScript;
    return { make, why: `WebGL ${(1 / card).toFixed(0)}, JavaScript ${(1 / processor).toFixed(0)} full steps a second` };
  } catch (error) {
    if (!(error instanceof NoWebGL)) throw error;
    return { make: makeJavaScript, why: error.message };
  }
}
