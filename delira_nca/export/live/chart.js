// How far the pattern is from its target, over the last steps, on a logarithmic scale; or its score from 0 to 1.

const KEPT = 400;

export class Chart {
  constructor(canvas, horizon, isScore = false) {
    Object.assign(this, { canvas, horizon, isScore });
    this.clear();
  }

  clear() {
    this.points = []; // {t, error}, where the error may be a score
    this.wounds = []; // steps at which somebody did something
  }

  add(t, error) {
    if (this.points.at(-1)?.t === t) this.points.pop();
    this.points.push({ t, error });
    if (this.points.length > KEPT) this.points.shift();
  }

  wound(t) {
    if (this.wounds.at(-1) !== t) this.wounds.push(t);
  }

  draw(style) {
    const { canvas, points } = this;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale)) [canvas.width, canvas.height] = [width * scale, height * scale].map(Math.round);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!points.length) return;
    const [left, bottom] = [30, height - 14];
    const first = points[0].t;
    const last = Math.max(points.at(-1).t, first + 2 * this.horizon);
    const [high, low] = this.isScore ? [1, 0] : [0, -4];
    const x = (t) => left + ((width - left - 2) * (t - first)) / (last - first);
    const rank = (value) => (this.isScore ? value : Math.log10(value + 1e-9));
    const y = (value) => 4 + ((bottom - 4) * (high - Math.max(low, Math.min(high, rank(value))))) / (high - low);
    pen.font = "10px system-ui, sans-serif";
    pen.fillStyle = style.soft;
    pen.strokeStyle = style.line;
    pen.lineWidth = 1;
    const ticks = this.isScore ? [[1, "1"], [0.5, "0.5"], [0, "0"]] : [[1, "1"], [1e-2, "1e-2"], [1e-4, "1e-4"]];
    for (const [value, text] of ticks) {
      pen.beginPath();
      pen.moveTo(left, y(value));
      pen.lineTo(width, y(value));
      pen.stroke();
      pen.fillText(text, 0, y(value) + (value === 1 && this.isScore ? 6 : 3));
    }
    if (this.isScore && this.horizon >= first) this.drawHorizon(pen, x(this.horizon), bottom, style);
    pen.fillText(`step ${first}`, left, height - 2);
    pen.textAlign = "right";
    pen.fillText(`${last}`, width - 1, height - 2);
    pen.textAlign = "left";
    pen.setLineDash([2, 3]);
    pen.strokeStyle = style.soft;
    for (const t of this.wounds.filter((t) => t >= first)) {
      pen.beginPath();
      pen.moveTo(x(t), 4);
      pen.lineTo(x(t), bottom);
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.strokeStyle = style.accent;
    pen.lineWidth = 1.75;
    pen.beginPath();
    points.forEach(({ t, error }, k) => (k ? pen.lineTo(x(t), y(error)) : pen.moveTo(x(t), y(error))));
    pen.stroke();
  }

  /** The number of steps of the training, a line with its name. */
  drawHorizon(pen, x, bottom, style) {
    pen.beginPath();
    pen.moveTo(x, 4);
    pen.lineTo(x, bottom);
    pen.strokeStyle = style.soft;
    pen.stroke();
    pen.fillText(`horizon: ${this.horizon} steps`, x + 4, bottom - 5);
  }
}
