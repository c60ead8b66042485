// The canvas: shows the cells, and turns pointer and keys into strokes of the brush.

import { paint } from "./colours.js";

const PIXELS = 960; // along the longer side of the canvas

export class Dish {
  constructor(canvas, page, world, use) {
    Object.assign(this, { canvas, page, world, use });
    this.view = -1;
    this.layers = {}; // over the picture of a segmentation
    this.radius = 6;
    this.cursor = null; // [x, y] in cells, where the brush is
    this.showsBrush = false;
    this.small = document.createElement("canvas");
    this.fit();
    this.listen();
  }

  /** Take the size of the world, which may have changed. */
  fit() {
    const { canvas, small, world } = this;
    [small.width, small.height] = [world.width, world.height];
    this.pixels = small.getContext("2d").createImageData(world.width, world.height);
    this.zoom = Math.max(1, Math.ceil(PIXELS / Math.max(world.width, world.height)));
    [canvas.width, canvas.height] = [world.width * this.zoom, world.height * this.zoom];
    const besides = this.page.cases?.length ? 26 : 19; // rem of what stands above and below
    canvas.style.maxWidth = `calc(max(18rem, 100vh - ${besides}rem) * ${world.width / world.height})`;
  }

  draw(state, style) {
    const { canvas, small, zoom } = this;
    paint(this.pixels.data, state, this.page, this.view, style.paper, this.layers);
    small.getContext("2d").putImageData(this.pixels, 0, 0);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    if (!this.showsBrush || !this.cursor) return;
    const [x, y] = this.cursor;
    pen.beginPath();
    pen.arc((x + 0.5) * zoom, (y + 0.5) * zoom, Math.max(0.5, this.radius) * zoom, 0, 2 * Math.PI);
    pen.lineWidth = 3;
    pen.strokeStyle = style.card;
    pen.stroke();
    pen.lineWidth = 1.5;
    pen.strokeStyle = style.ink;
    pen.stroke();
  }

  /** One view, small, into another canvas. */
  thumbnail(state, view, canvas, style) {
    paint(this.pixels.data, state, this.page, view, style.paper, this.layers);
    this.small.getContext("2d").putImageData(this.pixels, 0, 0);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = true;
    pen.drawImage(this.small, 0, 0, canvas.width, canvas.height);
  }

  cellAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.world.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.world.height);
    return [x, y];
  }

  /** The brush from where it was to here, without gaps. */
  stroke([x, y]) {
    const [u, v] = this.stroked ?? [x, y];
    const pieces = Math.max(1, Math.ceil(Math.hypot(x - u, y - v) / Math.max(1, this.radius / 2)));
    for (let k = 1; k <= pieces; ++k) {
      const part = k / pieces;
      this.use(Math.round(u + (x - u) * part), Math.round(v + (y - v) * part), this.radius, !this.stroked && k === 1);
    }
    this.stroked = [x, y];
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.stroked = null;
      this.pressed = true;
      this.cursor = this.cellAt(event);
      this.showsBrush = event.pointerType !== "touch";
      this.stroke(this.cursor);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.showsBrush = event.pointerType !== "touch";
      this.cursor = this.cellAt(event);
      if (this.pressed) this.stroke(this.cursor);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.pressed = false));
    canvas.addEventListener("pointerleave", () => (this.showsBrush = document.activeElement === canvas && this.byKeys));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => (this.showsBrush = this.byKeys = false));
  }

  key(event) {
    const far = event.shiftKey ? 5 : 1;
    const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
    const { width, height } = this.world;
    this.cursor ??= [Math.floor(width / 2), Math.floor(height / 2)];
    if (moves[event.key]) {
      const [x, y] = moves[event.key];
      this.cursor = [
        Math.max(0, Math.min(width - 1, this.cursor[0] + x)),
        Math.max(0, Math.min(height - 1, this.cursor[1] + y)),
      ];
    } else if (event.key === "Enter") {
      this.stroked = null;
      this.stroke(this.cursor);
    } else {
      return;
    }
    event.preventDefault();
    this.showsBrush = this.byKeys = true;
  }
}
