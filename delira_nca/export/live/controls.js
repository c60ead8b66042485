// Buttons, sliders and keys. They call the app and hold nothing themselves.

import { readPicture } from "./picture.js";
import { FASTEST } from "./player.js";

export const element = (id) => document.getElementById(id);

const DOUBLINGS = Math.log2(FASTEST); // of the speed, from one end of its dial to the other
const OVERLAYS = [["Mask", "mask"], ["Reference", "reference"], ["Both", "both"], ["Image", "image"]];
const TOOLS = { grow: ["Erase", "Plant"], segment: ["Erase"], classify: ["Draw", "Rub out"] };

/** A row of radio buttons: names to values; calls `chosen` with the value. */
export function choice(box, name, options, value, chosen) {
  box.replaceChildren(
    ...options.map(([text, option]) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), {
        type: "radio",
        name,
        value: option,
        checked: option === value,
      });
      input.addEventListener("change", () => chosen(option));
      label.append(input, Object.assign(document.createElement("span"), { textContent: text }));
      return label;
    }),
  );
}

/** A slider that shows its value in words. */
function dial(id, value, text, changed) {
  const input = element(id);
  const output = input.nextElementSibling;
  const show = () => {
    output.textContent = text(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.value = value;
  show();
  input.addEventListener("input", () => {
    show();
    changed(Number(input.value));
  });
}

export function connect(app) {
  const { page, world, player, dish } = app;
  element("play").addEventListener("click", () => app.play(!player.playing));
  element("step").addEventListener("click", () => app.stepOnce());
  element("restart").addEventListener("click", () => app.restart());
  element("cut").addEventListener("click", () => app.cut());

  const tools = TOOLS[page.task].filter((tool) => tool !== "Plant" || (world.seedBlock && !page.seed.whole));
  app.tool = tools[0];
  choice(element("tools"), "tool", tools.map((tool) => [tool, tool]), app.tool, (tool) => (app.tool = tool));

  const speed = (value) => Math.round(2 ** value);
  element("speed").max = DOUBLINGS;
  dial("speed", Math.log2(player.speed), (v) => (v >= DOUBLINGS ? "fastest" : `${speed(v)}/s`), (v) => {
    player.speed = speed(v);
  });
  dial("fire", world.options.fireRate, (v) => v.toFixed(2), (v) => (world.options.fireRate = v));
  dial("turn", 0, (v) => `${v}°`, (v) => app.turn(v));
  element("turning").hidden = element("turn-note").hidden = !page.cell.gradients.length;
  element("brush").max = Math.max(3, Math.round(Math.min(...page.grid) / 3));
  dish.radius = Math.max(1, Math.round(Math.min(...page.grid) / (page.task === "classify" ? 24 : 8)));
  dial("brush", dish.radius, String, (v) => (dish.radius = v));

  if (page.goals.length) {
    element("goals").hidden = false;
    const goals = page.goals.map(({ name }, k) => [name, k]);
    choice(element("goals").querySelector(".choice"), "goal", goals, 0, (k) => app.choose(k));
  }
  connectPictures(app);
  connectCases(app);
  element("clear").hidden = page.task !== "classify";
  element("cut").hidden = page.task === "classify";
  element("clear").addEventListener("click", () => app.clear());
  connectKeys(app);
}

/** The cases of a segmentation, and what lies over their pictures. */
function connectCases(app) {
  element("cases").hidden = element("overlays").hidden = !app.cases.length;
  if (!app.cases.length) return;
  const cases = app.cases.map(({ name }, k) => [name, k]);
  choice(element("cases").querySelector(".choice"), "case", cases, 0, (k) => app.open(k));
  for (const label of element("cases").querySelectorAll("label")) label.title = label.textContent;
  choice(element("overlays"), "overlay", OVERLAYS, "mask", (overlay) => app.cover(overlay));
  element("restart").textContent = "Again";
}

/** A picture of the person's own: by button, or dropped anywhere. */
function connectPictures(app) {
  if (app.page.task !== "segment" || app.cases.length) return;
  const [open, file, drop] = ["open", "file", "drop"].map(element);
  open.hidden = false;
  const read = async (picture) => {
    if (!picture) return;
    try {
      app.show(await readPicture(picture, app.page, Math.max(...app.page.grid)), picture.name);
    } catch {
      app.announce(`${picture.name} is not a picture that this browser can read.`, true);
    }
  };
  open.addEventListener("click", () => file.click());
  file.addEventListener("change", () => read(file.files[0]));
  const hover = (shown) => (event) => {
    event.preventDefault();
    drop.hidden = !shown;
  };
  addEventListener("dragover", hover(true));
  addEventListener("dragleave", hover(false));
  addEventListener("drop", (event) => {
    hover(false)(event);
    read(event.dataTransfer.files[0]);
  });
}

function connectKeys(app) {
  const actions = {
    " ": () => app.play(!app.player.playing),
    ".": () => app.stepOnce(),
    r: () => app.restart(),
    c: () => !element("cut").hidden && app.cut(),
    "[": () => resize(-1),
    "]": () => resize(1),
  };
  const resize = (change) => {
    const brush = element("brush");
    brush.value = Number(brush.value) + change;
    brush.dispatchEvent(new Event("input"));
  };
  addEventListener("keydown", (event) => {
    const busy = event.target.closest("button") && event.key === " ";
    if (busy || event.ctrlKey || event.metaKey || event.altKey || !actions[event.key.toLowerCase()]) return;
    event.preventDefault();
    actions[event.key.toLowerCase()]();
  });
}
