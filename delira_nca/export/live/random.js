// The randomness of a roll-out: the same bits as delira_nca.rollout.masks, from pcg4d (Jarzynski and Olano, JCGT 2020).

const MULTIPLIER = 1664525;
const INCREMENT = 1013904223;
const NOISE_STREAM = 0x9e3779b9;
const NOISE_MEAN = (8 * 65535) / 2;
const NOISE_SCALE = Math.sqrt(12 / (8 * (2 ** 32 - 1)));

/** Number of the 2**24 equally likely hashes that make a cell fire; a half becomes the even one beside it. */
export function fireThreshold(fireRate) {
  const hashes = fireRate * 2 ** 24;
  const nearest = Math.round(hashes);
  return nearest - hashes === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

/** Writes four 32-bit words for one item of sample 0 into `words`. */
function hash(seed, step, item, words) {
  const x = (Math.imul(seed, MULTIPLIER) + INCREMENT) | 0;
  const y = (Math.imul(step, MULTIPLIER) + INCREMENT) | 0;
  let z = INCREMENT | 0;
  let w = (Math.imul(item, MULTIPLIER) + INCREMENT) | 0;
  let a = (Math.imul(w, y) + x) | 0;
  let b = (Math.imul(z, a) + y) | 0;
  z = (z + Math.imul(a, b)) | 0;
  w = (w + Math.imul(b, z)) | 0;
  a ^= a >>> 16;
  b ^= b >>> 16;
  z ^= z >>> 16;
  w ^= w >>> 16;
  a = (a + Math.imul(b, w)) | 0;
  b = (b + Math.imul(z, a)) | 0;
  z = (z + Math.imul(a, b)) | 0;
  w = (w + Math.imul(b, z)) | 0;
  words[0] = a;
  words[1] = b;
  words[2] = z;
  words[3] = w;
}

const words = new Int32Array(4);

/** Whether a cell, by its number in row-major order, updates in a step. */
export function fires(seed, step, cell, threshold) {
  hash(seed, step, cell, words);
  return words[3] >>> 8 < threshold;
}

/** A nearly normal number with mean 0 and variance 1: the sum of the eight halves of four words. */
export function noise(seed, step, item) {
  hash((seed + NOISE_STREAM) | 0, step, item, words);
  let total = 0;
  for (let k = 0; k < 4; ++k) total += (words[k] & 0xffff) + (words[k] >>> 16);
  return Math.fround(Math.fround(total - NOISE_MEAN) * Math.fround(NOISE_SCALE));
}

export const noiseNumbers = { mean: NOISE_MEAN, scale: NOISE_SCALE, stream: NOISE_STREAM };
