// Which weights the cells live by: those of a training that still runs, or of one of its epochs. The dish stays.

import { choice, element } from "./controls.js";
import { pack, unpack } from "./tensors.js";

const WAYS = [["Use", "use"], ["Regrow", "regrow"], ["Hold", "hold"]];
const SILENCE = 60; // seconds without news after which a training may have been stopped
const LOOKS_AFTER_THE_END = 20; // its figures may follow

/** A training that still runs: it writes its news into a script beside the page, which calls `live.training.hear`. */
export class Training {
  constructor(app) {
    Object.assign(this, { app, way: "use", latest: app.page.training, isBlind: false, looks: Infinity });
    this.used = this.latest.epoch;
    element("training").hidden = false;
    choice(element("ways"), "way", WAYS, this.way, (way) => {
      this.way = way;
      if (way !== "hold") this.use();
      this.show();
    });
    element("newer").addEventListener("click", () => {
      this.use();
      this.show();
      app.announce(`The weights are those of epoch ${this.used}.`);
    });
    element("reload").addEventListener("click", () => {
      keepDish(app);
      location.reload();
    });
    this.show();
    this.look();
  }

  /** Load the news, and again in a while. A page that is opened from the disk may load scripts, and nothing else. */
  look() {
    const { news, every } = this.app.page.training;
    const script = document.createElement("script");
    script.onload = script.onerror = ({ type }) => {
      script.remove();
      this.isBlind = type === "error";
      this.show();
      if (--this.looks > 0) setTimeout(() => this.look(), 1000 * Math.max(0.5, every / 2));
    };
    script.src = `${news}?${Date.now()}`;
    document.head.append(script);
  }

  hear(news) {
    if (news.written <= this.latest.written) return;
    this.latest = news;
    if (news.run !== this.app.page.run) return;
    if (news.isDone) this.finish();
    else if (this.way !== "hold") this.use();
    this.show();
  }

  /** Take the latest weights, and begin again where that was asked for or nothing is left to keep. */
  use() {
    const { app, latest } = this;
    if (latest.epoch === this.used || !latest.cell) return;
    this.used = latest.epoch;
    app.adopt(latest.cell);
    const isOver = app.player.playing && app.world.isHopeless(app.world.snapshot());
    if (this.way === "regrow" || isOver) app.restart();
  }

  finish() {
    const { app, latest } = this;
    const first = this.looks === Infinity;
    if (first) this.looks = LOOKS_AFTER_THE_END;
    app.showFigures(latest.figures);
    if (!first) return;
    app.page.cell = { ...app.page.cell, ...latest.cell };
    app.page.epochs = latest.epochs;
    if (this.way !== "hold") this.use();
    showEpochs(app, this.used === latest.epoch ? null : this.used);
    app.announce("The training has ended.");
  }

  show() {
    const { epoch, numEpochs, score, written, isDone } = this.latest;
    const silence = Math.round(Date.now() / 1000 - written);
    const isOther = (this.latest.run ?? this.app.page.run) !== this.app.page.run;
    element("training").hidden = Boolean(isDone) && !isOther;
    element("progress").max = numEpochs;
    element("progress").value = epoch;
    element("news").textContent = isOther
      ? "Another training has begun here."
      : score && `${score}, after epoch ${epoch}`;
    element("count").textContent = `${epoch} of ${numEpochs} epochs`;
    element("silence").textContent = this.isBlind
      ? "This page cannot look for newer weights by itself. Reload it; the dish stays."
      : silence > Math.max(SILENCE, 4 * this.app.page.training.every)
        ? `No news for ${Math.round(silence / 60)} min: it may have been stopped.`
        : "";
    element("newer").textContent = `Use epoch ${epoch}`;
    element("newer").hidden = isOther || epoch === this.used || this.way !== "hold";
    element("reload").hidden = !isOther && !this.isBlind;
    element("ways").hidden = element("ways-note").hidden = isOther || this.isBlind;
  }
}

/** A slider over the epochs of a training that is done; it begins at `epoch`, or where the page's own weights are. */
export function showEpochs(app, epoch = null) {
  const { epochs } = app.page;
  element("epochs").hidden = epochs.length < 2;
  if (epochs.length < 2) return;
  const [slider, output] = [element("epoch"), element("epochs").querySelector("output")];
  const own = epochs.findIndex(({ cell }) => !cell);
  const before = epochs.findLastIndex((kept) => kept.epoch <= epoch);
  const show = () => {
    const kept = epochs[slider.value];
    output.textContent = `${kept.epoch}${kept.isBest ? " (best)" : ""}`;
    element("epoch-score").textContent = kept.score;
    slider.setAttribute("aria-valuetext", `${output.textContent} ${kept.score}`);
    return kept;
  };
  slider.max = epochs.length - 1;
  slider.value = epoch === null ? own : Math.max(0, before);
  show();
  slider.addEventListener("input", () => app.adopt(show().cell ?? {}));
  element("regrow").addEventListener("click", () => app.restart());
}

// A page that is loaded again ------------------------------------------------------------------------------------

const key = (app) => `dish of ${app.page.run}`;

/** Write down what lives in the dish, for the same page after it was loaded again. */
function keepDish(app) {
  const { world } = app;
  const state = pack([world.height, world.width, world.cell.channels], world.snapshot());
  try {
    sessionStorage.setItem(key(app), JSON.stringify({ t: world.t, state }));
  } catch {
    app.announce("The dish is too large to be kept.", true);
  }
}

/** Take up the dish that this page had before it was loaded again. */
export function restoreDish(app) {
  const { world } = app;
  const kept = JSON.parse(sessionStorage.getItem(key(app)));
  sessionStorage.removeItem(key(app));
  const state = unpack(kept?.state ?? null);
  if (String(state?.shape) !== String([world.height, world.width, world.cell.channels])) return;
  world.engine.write(0, 0, world.width, world.height, state.values);
  world.t = kept.t;
  app.chart.clear();
  app.measure();
}
