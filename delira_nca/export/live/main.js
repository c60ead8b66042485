// Reads what the exporter wrote, and starts. `live` is there for the console.

import { App, ENGINES } from "./app.js";
import { Cell } from "./cell.js";
import { restoreDish, showEpochs, Training } from "./weights.js";

const read = (id) => document.getElementById(id).textContent;
const asked = new URLSearchParams(location.hash.slice(1)); // #engine=javascript&paused
const page = JSON.parse(read("page"));
const sources = { update: read("update.glsl"), life: read("life.glsl") };
const engine = ENGINES.some(([, name]) => name === asked.get("engine")) ? asked.get("engine") : "auto";
const app = new App(page, new Cell(page.cell), sources, engine);
restoreDish(app);
showEpochs(app);
if (page.training) app.training = new Training(app);
const still = asked.has("paused") || matchMedia("(prefers-reduced-motion: reduce)").matches;
app.play(!still);
app.run();
window.live = app;
