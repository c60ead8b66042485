// Both engines on all dishes, in turns: {cell, lively, height, width, dishes, rounds, seconds} in, steps a second out.

import { readFileSync } from "node:fs";
import { Cell, fires, fireThreshold, JavaScriptEngine } from "./engine.mjs";
import { Naive } from "./naive.mjs";

const job = JSON.parse(readFileSync(0, "utf8"));
const { height, width } = job;
const SEED = 1;

function contenders(described) {
  const cell = new Cell(described);
  const ours = new JavaScriptEngine(cell, height, width);
  const naive = new Naive(cell, height, width);
  const threshold = fireThreshold(cell.fireRate);
  const options = { seed: SEED, fireRate: cell.fireRate };
  return {
    JavaScript: { engine: ours, step: (t) => ours.step(t, options) },
    naive: { engine: naive, step: (t) => naive.step(t, (step, at) => fires(SEED, step, at, threshold)) },
  };
}

/** Largest difference of the two after some steps of an automaton that changes. */
function difference(state) {
  const [a, b] = Object.values(contenders(job.lively)).map(({ engine, step }) => {
    engine.state.set(state);
    for (let t = 0; t < 8; ++t) step(t);
    return engine.state;
  });
  return a.reduce((most, value, k) => Math.max(most, Math.abs(value - b[k])), 0);
}

function stepsPerSecond({ engine, step }, state) {
  engine.state.set(state);
  const begin = performance.now();
  let steps = 0;
  while (steps < 2 || performance.now() - begin < 1000 * job.seconds) step(steps++);
  return (1000 * steps) / (performance.now() - begin);
}

const running = Object.entries(contenders(job.cell));
const turns = Object.entries(job.dishes).flatMap(([dish, state]) => running.map(([name, run]) => ({ dish, state, name, run })));
const rates = {};
for (let round = 0; round <= job.rounds; ++round) {
  for (let k = 0; k < turns.length; ++k) {
    const { dish, state, name, run } = turns[(k + round) % turns.length];
    const rate = stepsPerSecond(run, state);
    if (round) ((rates[dish] ??= {})[name] ??= []).push(rate); // the first round warms up
  }
}
console.log(JSON.stringify({ rates, difference: Math.max(...Object.values(job.dishes).map(difference)) }));
