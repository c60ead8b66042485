// Time: how many steps belong into the next frame, so that the speed is kept and the page stays quick.

const FRAME_SECONDS = 0.025; // of a frame that steps may take
export const FASTEST = 512;

export class Player {
  constructor(step, left = () => Infinity) {
    Object.assign(this, { step, left, playing: false, speed: 32, due: 0, last: null, stepSeconds: 0.002 });
    this.done = []; // [time, steps] of the last second
  }

  /** Steps for a frame at a time in milliseconds, at most those left; returns how many were made. `finish` waits until they are done. */
  frame(now, finish) {
    const elapsed = this.last === null ? 0 : Math.min(0.25, (now - this.last) / 1000);
    this.last = now;
    if (!this.playing) return 0;
    const most = Math.max(1, Math.floor(FRAME_SECONDS / this.stepSeconds));
    this.due = this.speed >= FASTEST ? most : Math.min(this.due + elapsed * this.speed, most);
    const count = Math.min(Math.floor(this.due), this.left());
    this.due -= count;
    if (!count) return 0;
    const begin = performance.now();
    for (let k = 0; k < count; ++k) this.step();
    finish();
    const seconds = (performance.now() - begin) / 1000 / count;
    this.stepSeconds = 0.8 * this.stepSeconds + 0.2 * Math.max(1e-5, seconds);
    this.done.push([now, count]);
    while (now - this.done[0][0] > 1000) this.done.shift();
    return count;
  }

  /** Steps in the last second. */
  rate(now) {
    return this.done.reduce((sum, [time, count]) => sum + (now - time <= 1000 ? count : 0), 0);
  }
}
