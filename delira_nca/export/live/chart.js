// How far the pattern is from its target, over the last steps, on a logarithmic scale.

const KEPT = 400;

export class Chart {
  constructor(canvas, horizon) {
    Object.assign(this, { canvas, horizon });
    this.clear();
  }

  clear() {
    this.points = []; // {t, error}
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
    const [high, low] = [0, -4];
    const x = (t) => left + ((width - left - 2) * (t - first)) / (last - first);
    const y = (error) => 4 + ((bottom - 4) * (high - Math.max(low, Math.min(high, Math.log10(error + 1e-9))))) / (high - low);
    pen.font = "10px system-ui, sans-serif";
    pen.fillStyle = style.soft;
    pen.strokeStyle = style.line;
    pen.lineWidth = 1;
    for (let power = high; power >= low; power -= 2) {
      pen.beginPath();
      pen.moveTo(left, y(10 ** power));
      pen.lineTo(width, y(10 ** power));
      pen.stroke();
      pen.fillText(`1e${power}`.replace("1e0", "1"), 0, y(10 ** power) + 3);
    }
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
}
