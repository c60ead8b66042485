// Cases of a segmentation: pictures with references, and how far the cells agree with them.

import { decide } from "./colours.js";
import { unpack } from "./tensors.js";

/** The cases of a page with their numbers, and which cells are at the border of the reference. */
export function readCases(page) {
  return (page.cases ?? []).map((given) => {
    const image = unpack(given.image); // (fixed, height, width)
    const reference = unpack(given.reference).values;
    return { ...given, image, reference, outline: outlineOf(reference, image.shape[2]) };
  });
}

/** The class of each cell that is beside a cell of another class, and 0 elsewhere. */
function outlineOf(classes, width) {
  return classes.map((kind, at) => {
    const column = at % width;
    const beside = [at - width, at + width, column ? at - 1 : at, column < width - 1 ? at + 1 : at];
    return beside.some((other) => (classes[other] ?? kind) !== kind) ? kind : 0;
  });
}

/** The class of each cell of a state; 0 is the background. */
export function maskOf(state, page) {
  const { first, count } = page.outputs;
  const mask = new Uint8Array(state.length / page.cell.channels);
  for (let at = 0; at < mask.length; ++at) {
    const { kind } = decide(state, at * page.cell.channels + first, count);
    mask[at] = count === 1 ? kind + 1 : kind;
  }
  return mask;
}

/** Mean Dice score of the classes that a mask or its reference contains; 1 if there are none. */
export function dice(mask, reference, page) {
  const numClasses = Math.max(2, page.outputs.count);
  const [sizes, shared] = [new Array(numClasses).fill(0), new Array(numClasses).fill(0)];
  mask.forEach((kind, at) => {
    ++sizes[kind];
    ++sizes[reference[at]];
    if (kind === reference[at]) ++shared[kind];
  });
  let [sum, found] = [0, 0];
  for (let kind = 1; kind < numClasses; ++kind) {
    if (!sizes[kind]) continue;
    sum += (2 * shared[kind]) / sizes[kind];
    ++found;
  }
  return found ? sum / found : 1;
}
