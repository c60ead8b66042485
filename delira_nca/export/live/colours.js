// From values to colours: the picture, one channel, or what the cells have decided.

const PALETTE = [
  [47, 91, 208], [226, 87, 44], [29, 148, 92], [168, 66, 184], [201, 152, 18],
  [14, 140, 163], [214, 51, 108], [110, 124, 36], [120, 94, 74], [96, 103, 122],
];

const REFERENCE = [47, 168, 92]; // as in the report

export const classColour = (k) => PALETTE[k % PALETTE.length];
export const cssColour = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

const byte = (value) => Math.max(0, Math.min(255, Math.round(value * 255)));
const sigmoid = (value) => 1 / (1 + Math.exp(-value));

/**
 * Fills `pixels` (RGBA bytes) with what `view` asks for: -1 the picture, or the number of a channel. Over the picture of
 * a segmentation lie the `layers`: whether the mask of the cells, and an outline of classes.
 */
export function paint(pixels, state, page, view, paper, layers = {}) {
  if (view >= 0) paintChannel(pixels, state, page.cell.channels, view, paper);
  else if (page.task === "segment") paintSegments(pixels, state, page, layers);
  else if (page.task === "classify") paintVotes(pixels, state, page, paper);
  else paintPicture(pixels, state, page, paper);
}

/** RGBA with premultiplied alpha over the paper, RGB, or grey. */
function paintPicture(pixels, state, page, paper) {
  const { channels } = page.cell;
  const { first, count } = page.picture;
  for (let at = first, to = 0; to < pixels.length; at += channels, to += 4) {
    const rest = count === 4 ? 1 - Math.max(0, Math.min(1, state[at + 3])) : 0;
    for (let k = 0; k < 3; ++k) {
      pixels[to + k] = byte(state[count === 1 ? at : at + k] + (rest * paper[k]) / 255);
    }
    pixels[to + 3] = 255;
  }
}

/** Below zero blue, above it orange, full at 1. */
function paintChannel(pixels, state, channels, channel, paper) {
  const [below, above] = [classColour(0), classColour(1)];
  for (let at = channel, to = 0; to < pixels.length; at += channels, to += 4) {
    const value = state[at];
    const strength = Math.min(1, Math.abs(value));
    const colour = value < 0 ? below : above;
    for (let k = 0; k < 3; ++k) pixels[to + k] = paper[k] + strength * (colour[k] - paper[k]);
    pixels[to + 3] = 255;
  }
}

/** Class of a cell from its outputs, and how sure it is; of one output, whether it is above zero. */
export function decide(state, from, count) {
  if (count === 1) {
    const sure = sigmoid(state[from]);
    return { kind: sure > 0.5 ? 0 : -1, sure };
  }
  let kind = 0;
  for (let k = 1; k < count; ++k) if (state[from + k] > state[from + kind]) kind = k;
  let sum = 0;
  for (let k = 0; k < count; ++k) sum += Math.exp(state[from + k] - state[from + kind]);
  return { kind, sure: 1 / sum };
}

/** The picture that is looked at, with the cells' decisions over it. Of several classes, the first is background. */
function paintSegments(pixels, state, page, { normalize = page.normalize, mask = true, outline = null }) {
  const { channels, fixed } = page.cell;
  const { mean, std } = normalize;
  const { first, count } = page.outputs;
  for (let at = 0, to = 0; to < pixels.length; at += channels, to += 4) {
    pixels[to + 3] = 255;
    const border = outline?.[to / 4];
    if (border) {
      pixels.set(count === 1 ? REFERENCE : classColour(border), to);
      continue;
    }
    const { kind, sure } = decide(state, at + first, count);
    const marked = mask && kind >= (count === 1 ? 0 : 1);
    const colour = classColour(count === 1 ? 1 : kind);
    for (let k = 0; k < 3; ++k) {
      const channel = fixed === 1 ? 0 : k;
      const grey = byte(state[at + channel] * std[channel] + mean[channel]);
      pixels[to + k] = marked ? grey + 0.6 * sure * (colour[k] - grey) : grey;
    }
  }
}

const INK = 0.1; // as bright as a cell must be to live and to vote

/** Inked cells in the colour of the class that they vote for. */
function paintVotes(pixels, state, page, paper) {
  const { channels } = page.cell;
  for (let at = 0, to = 0; to < pixels.length; at += channels, to += 4) {
    const colour = state[at] > INK ? classColour(decide(state, at + page.outputs.first, page.outputs.count).kind) : paper;
    for (let k = 0; k < 3; ++k) pixels[to + k] = colour[k];
    pixels[to + 3] = 255;
  }
}

/** Share of the inked cells that vote for each class. */
export function countVotes(state, page) {
  const votes = new Array(page.outputs.count).fill(0);
  let inked = 0;
  for (let at = 0; at < state.length; at += page.cell.channels) {
    if (state[at] <= INK) continue;
    ++inked;
    ++votes[decide(state, at + page.outputs.first, page.outputs.count).kind];
  }
  return votes.map((count) => (inked ? count / inked : 0));
}
