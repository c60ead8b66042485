// The page as a whole: the world, what shows it, and everything that a person can ask for.

import { Chart } from "./chart.js";
import { dice, maskOf, readCases } from "./cases.js";
import { Cell } from "./cell.js";
import { classColour, countVotes, cssColour } from "./colours.js";
import { choice, connect, element } from "./controls.js";
import { Dish } from "./dish.js";
import { chooseEngine } from "./engines.js";
import { Player } from "./player.js";
import { World } from "./world.js";

const SIDES = ["right", "left", "top", "bottom"];
export const ENGINES = [["Auto", "auto"], ["WebGL", "webgl"], ["JavaScript", "javascript"]];
const THUMBNAILS_EVERY = 350; // milliseconds

export class App {
  constructor(page, cell, sources, wanted) {
    Object.assign(this, { page, cell, sources, wanted, cuts: 0, drawnAt: 0, stop: Infinity, overlay: "mask" });
    this.cases = readCases(page);
    const [height, width] = page.image ? page.image.shape.slice(1) : page.grid;
    this.chosen = chooseEngine(wanted, sources, cell, height, width);
    this.world = new World(page, cell, this.chosen.make);
    this.player = new Player(() => this.world.step(), () => this.stop - this.world.t);
    this.dish = new Dish(element("dish"), page, this.world, (...stroke) => this.stroke(...stroke));
    this.chart = new Chart(element("chart"), page.horizon, this.cases.length > 0);
    this.watchTheme();
    this.fillIn();
    if (this.cases.length) this.player.speed = 8; // the way to the horizon is short
    connect(this);
    if (this.cases.length) this.look(0);
    choice(element("engines"), "engine", ENGINES, wanted, (name) => this.use(name));
    this.showEngine();
    this.measure();
    this.redraw();
  }

  /** Go with the browser's frames, for good. */
  run() {
    const frame = (now) => {
      if (this.player.frame(now, () => this.measure())) this.isStale = false;
      if (this.player.playing && this.world.t >= this.stop) this.end();
      if (this.isStale) this.measure();
      this.redraw(now);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  // What a person does -------------------------------------------------------------------------------------------

  play(playing) {
    this.player.playing = playing;
    // With cases it stops at the horizon; whoever plays there runs on.
    this.stop = this.cases.length && this.world.t < this.page.horizon ? this.page.horizon : Infinity;
    this.showPlay();
    this.announce(playing ? "Playing." : `Paused at step ${this.world.t}.`);
  }

  stepOnce() {
    this.play(false);
    this.world.step();
    this.measure();
    this.showPlay();
    this.announce(`Step ${this.world.t}.`);
  }

  /** The horizon is reached. */
  end() {
    this.play(false);
    this.announce(`Stopped at step ${this.world.t}, the horizon. Dice score ${this.dice.toFixed(3)}.`);
  }

  /** Look at a case from step 0. */
  open(number) {
    this.look(number);
    this.play(true);
    this.announce(`Case ${this.cases[number].name}.`);
  }

  look(number) {
    this.case = this.cases[number];
    this.world.show(this.case.image);
    this.dish.fit();
    this.cover(this.overlay);
    this.chart.clear();
    this.showEngine();
    this.measure();
  }

  /** What lies over the picture of a case: mask, reference, both, or nothing. */
  cover(overlay) {
    this.overlay = overlay;
    const outline = overlay === "reference" || overlay === "both" ? this.case.outline : null;
    this.dish.layers = { normalize: this.case.normalize, mask: overlay === "mask" || overlay === "both", outline };
    this.thumbnailsAt = null;
  }

  restart() {
    this.world.restart();
    this.chart.clear();
    this.measure();
    if (this.cases.length) this.play(true);
    this.announce(this.page.task === "grow" ? "Restarted from the seed." : "Restarted.");
  }

  clear() {
    this.world.clear();
    this.measure();
    this.announce("Cleared.");
  }

  stroke(x, y, radius, first) {
    const actions = {
      Erase: () => this.world.erase(x, y, radius),
      Plant: () => first && this.world.plant(x, y),
      Draw: () => this.world.draw(x, y, radius, 1),
      "Rub out": () => this.world.draw(x, y, radius, 0),
    };
    actions[this.tool]();
    this.chart.wound(this.world.t);
    this.isStale = true; // a stroke has many pieces, and a look at the card takes its time
    if (first) this.announce(`${this.tool} at column ${x}, row ${y}.`);
  }

  cut() {
    const side = SIDES[this.cuts++ % SIDES.length];
    this.world.cut(side);
    this.chart.wound(this.world.t);
    this.measure();
    this.announce(`The ${side} half was removed at step ${this.world.t}.`);
  }

  turn(degrees) {
    this.world.turn(degrees);
  }

  choose(goal) {
    this.world.choose(goal);
    this.chart.clear();
    this.measure();
    this.announce(`The goal is ${this.page.goals[goal].name}.`);
  }

  show(image, name) {
    this.world.show(image);
    this.dish.fit();
    this.showEngine();
    this.measure();
    this.announce(`${name}, ${image.shape[2]} by ${image.shape[1]} cells.`);
  }

  /** Live on by other weights: what changes of the page's own cell. */
  adopt(changes) {
    this.cell = new Cell({ ...this.page.cell, ...changes });
    this.world.adopt(this.cell);
  }

  use(wanted) {
    this.wanted = wanted;
    this.chosen = chooseEngine(wanted, this.sources, this.cell, this.world.height, this.world.width);
    this.world.move(this.chosen.make);
    this.showEngine();
    this.announce(`The engine is ${this.world.engine.name}.`);
  }

  /** The graphics card was taken away: go on with what was seen last. */
  loseWebGL() {
    this.chosen = chooseEngine("javascript", this.sources, this.cell, this.world.height, this.world.width);
    this.chosen.why = "the graphics card was taken away";
    this.world.move(this.chosen.make, this.state);
    this.showEngine();
    this.announce("The graphics card was taken away. JavaScript goes on.");
  }

  // What a person sees -------------------------------------------------------------------------------------------

  announce(text, shown = false) {
    element("announcer").textContent = text;
    if (shown) element("clock").textContent = text;
  }

  watchTheme() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const read = () => {
      const css = getComputedStyle(document.documentElement);
      const colour = (name) => css.getPropertyValue(`--${name}`).trim();
      const paper = [1, 3, 5].map((k) => parseInt(colour("dish").slice(k, k + 2), 16));
      this.style = { paper, ink: colour("ink"), card: colour("card"), soft: colour("soft"), line: colour("line"), accent: colour("accent") };
      this.thumbnailsAt = null;
    };
    dark.addEventListener("change", read);
    read();
  }

  /** Everything that stays as the page was written. */
  fillIn() {
    const { page } = this;
    element("explanation").append(
      ...page.explanation.map((line) => Object.assign(document.createElement("p"), { textContent: line })),
    );
    this.showFigures(page.figures);
    if (this.cases.length) element("distance-title").textContent = "Dice against the reference";
    element("score-note").hidden = !this.cases.length;
    element("votes").hidden = page.task !== "classify";
    page.classes.forEach((name, k) => {
      const row = document.createElement("li");
      row.append(name, document.createElement("i"), document.createElement("b"));
      row.children[0].style.background = cssColour(classColour(k));
      element("votes").querySelector("ol").append(row);
    });
    this.views = [-1, ...page.channelNames.keys()].map((view) => this.makeView(view));
    element("views").append(...this.views.map(({ label }) => label));
    this.showView(-1);
  }

  showFigures(figures) {
    element("figures").hidden = !figures.length;
    const named = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
    element("figures").querySelector("dl").replaceChildren(
      ...figures.flatMap(([name, value]) => [named("dt", name), named("dd", value)]),
    );
  }

  makeView(view) {
    const name = view < 0 ? { grow: "picture", segment: "decision", classify: "votes" }[this.page.task] : this.page.channelNames[view];
    const label = Object.assign(document.createElement("label"), { title: name });
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "view", value: view, checked: view < 0 });
    input.setAttribute("aria-label", name);
    input.addEventListener("change", () => this.showView(view));
    const canvas = Object.assign(document.createElement("canvas"), { width: 48, height: 48 });
    label.append(input, canvas);
    return { view, name, label, canvas };
  }

  showView(view) {
    this.dish.view = view;
    element("shown").textContent = this.views[view + 1].name;
  }

  showPlay() {
    const goesOn = this.cases.length && this.world.t >= this.page.horizon;
    element("play").textContent = this.player.playing ? "Pause" : goesOn ? "Run on" : "Play";
  }

  showEngine() {
    const { engine } = this.world;
    engine.canvas?.addEventListener("webglcontextlost", () => this.world.engine === engine && this.loseWebGL());
    element("engine").textContent = `${engine.name} runs: ${this.chosen.why}.`;
  }

  measure() {
    this.state = this.world.snapshot();
    this.isStale = false;
    this.error = this.world.error(this.state);
    if (this.case) {
      this.mask = maskOf(this.state, this.page);
      this.dice = dice(this.mask, this.case.reference, this.page);
    }
    const value = this.dice ?? this.error;
    if (value !== null) this.chart.add(this.world.t, value);
  }

  redraw(now = performance.now()) {
    this.dish.draw(this.state, this.style);
    element("clock").textContent = `step ${this.world.t}`;
    element("rate").textContent = this.player.playing ? `${this.player.rate(now)}/s` : "";
    const value = this.dice?.toFixed(3) ?? this.error?.toExponential(1);
    element("distance").hidden = value == null;
    if (value != null) {
      element("distance").querySelector("output").textContent = value;
      this.chart.draw(this.style);
    }
    if (this.thumbnailsAt != null && now - this.thumbnailsAt < THUMBNAILS_EVERY) return;
    this.thumbnailsAt = now;
    this.describe();
    for (const { view, canvas } of this.views) this.dish.thumbnail(this.state, view, canvas, this.style);
    if (this.page.task === "classify") this.showVotes();
  }

  /** The dish in words, for who does not see it. */
  describe() {
    const score = this.case && `, Dice score ${this.dice.toFixed(3)}`;
    const far = score ?? (this.error == null ? "" : `, ${this.error.toExponential(1)} from its target`);
    element("dish").setAttribute("aria-label", `${this.page.title}: ${this.world.width} by ${this.world.height} cells at step ${this.world.t}${far}`);
    const charted = this.case ? `Dice score over the last steps, horizon ${this.page.horizon}` : "Mean squared error over the last steps";
    element("chart").setAttribute("aria-label", `${charted}${far}`);
  }

  showVotes() {
    const votes = countVotes(this.state, this.page);
    [...element("votes").querySelectorAll("li")].forEach((row, k) => {
      row.children[0].style.width = `${100 * votes[k]}%`;
      row.children[1].textContent = `${Math.round(100 * votes[k])} %`;
    });
  }
}
