"""Automata of all kinds, the page's own JavaScript in Node, and pages in a browser."""

import base64
import itertools
import json
import math
import shutil
import subprocess
import threading

import numpy as np
import pytest
import torch

from delira_nca.errors import ExportError
from delira_nca.export import to_html
from delira_nca.export.cell import describe_cell
from delira_nca.export.html import script
from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception, build_model, presets
from delira_nca.models.perception import PADDINGS, FullFilters, LearnedFilters
from delira_nca.models.rule import _NONLINEARITIES
from delira_nca.rollout import trajectory, using_backend

# Automata that the engines have to compute ----------------------------------------------------------------------------

SQUARE, WIDE, TALL = (9, 9), (7, 11), (12, 6)
KERNEL_5 = (LearnedFilters(2, 5, bias=True), FullFilters(1, 6, 5))


def is_shown(preset):
    try:
        describe_cell(build_model(preset))
    except ExportError:  # for which test_cell.py has a list
        return False
    return True


def all_cells():
    """Name to (arguments of the model, grid)."""
    cells = {f"preset {name}": (getattr(presets, name)(), SQUARE) for name in presets.__all__ if is_shown(name)}

    def add(name, grid=SQUARE, **changes):
        cells[name] = (presets.growing(**{"rule": MLPRule(24), **changes}), grid)

    for padding in PADDINGS:
        add(f"{padding} padding", WIDE, perception=Perception("identity", "sobel", padding=padding), alive=None)
        wide = Perception("sobel", *KERNEL_5, padding=padding)
        add(f"{padding} padding, kernel 5", TALL, perception=wide, alive=None)
        add(f"{padding} padding, kernel 5, alive", WIDE, perception=wide)
    add("laplacian", TALL, perception=Perception("identity", "sobel", "laplacian"))
    add("laplacian of another scale", perception=Perception("laplacian", "identity", laplacian_scale=0.25))
    add("turned filters", perception=Perception("identity", "sobel", angle=0.7))
    add("identity alone", perception=Perception("identity"))
    add("kernel 1", perception=Perception("sobel", LearnedFilters(1, 1, bias=True)), alive=None)
    add("learned filters without bias", WIDE, perception=Perception("learned", padding="circular"), alive=None)
    add("several learned filters", perception=Perception(LearnedFilters(3), "identity", LearnedFilters(1, bias=True)))
    add("full filters", WIDE, perception=Perception("identity", "full"))
    add("full filters with relu", perception=Perception(FullFilters(2, 7, relu=True), "identity"))
    add("full filters without bias", perception=Perception("sobel", FullFilters(1, 5, bias=False)), alive=None)
    for nonlinearity in _NONLINEARITIES:
        rule = MLPRule((20, 13), nonlinearity=nonlinearity)
        add(f"{nonlinearity}, two hidden layers", WIDE, rule=rule, alive=None)
    add("three hidden layers", rule=MLPRule((9, 30, 5), nonlinearity="tanh"))
    add("no final bias", rule=MLPRule(24, final_bias=False))
    for before, after in itertools.product((False, True), repeat=2):
        mask = AliveMask(3, 0.1, before=before, after=after)
        add(f"alive mask before {before}, after {after}", WIDE, alive=mask)
        mask = AliveMask(6, -0.05, before=before, after=after)
        add(f"negative threshold, before {before}, after {after}", WIDE, alive=mask)
    add("fixed channels", WIDE, immutable_image_channels=True)
    add("five fixed channels, alive channel among them", num_image_channels=5, immutable_image_channels=True)
    add("fixed channels, no alive mask", immutable_image_channels=True, alive=None, num_image_channels=3)
    add("time channel", use_temporal_encoding=True)
    add("time channel after full filters", perception=Perception("full", "sobel"), use_temporal_encoding=True)
    add("update noise", WIDE, update_noise=0.02)
    add("update noise and fixed channels", TALL, update_noise=0.1, immutable_image_channels=True, alive=None)
    for channels in (1, 2, 3, 4, 5, 7, 8, 17, 33, 40):
        alive = AliveMask(channels - 1, 0.1) if channels % 2 else None
        add(f"{channels} channels", num_image_channels=1, num_hidden_channels=channels - 1, alive=alive)
    for hidden in (1, 2, 3, 5, 127, 200):
        add(f"{hidden} hidden", rule=MLPRule(hidden))
    for grid in ((1, 8), (8, 1), (1, 1), (2, 3)):
        add(f"grid of {grid[0]} x {grid[1]}", grid)
    add("everything at once", TALL, num_image_channels=3, num_hidden_channels=9, num_output_channels=1,
        perception=Perception("sobel", *KERNEL_5, "laplacian", padding="reflect"),
        rule=MLPRule((30, 21), nonlinearity="gelu", final_bias=False), immutable_image_channels=True,
        use_temporal_encoding=True, update_noise=0.01, alive=AliveMask(5, -0.2, before=False))  # fmt: skip
    return cells


CELLS = all_cells()
FEW_CELLS = (
    *("preset growing", "reflect padding, kernel 5, alive", "circular padding, kernel 5", "replicate padding"),
    *("learned filters without bias", "full filters with relu", "gelu, two hidden layers", "silu, two hidden layers"),
    *("leaky_relu, two hidden layers", "three hidden layers", "alive mask before True, after False"),
    *("negative threshold, before False, after True", "fixed channels", "update noise", "33 channels", "40 channels"),
    *("200 hidden", "1 channels", "grid of 1 x 8", "everything at once"),
)
"""One for each way through the shaders."""
QUICK_CELLS = {
    *("preset growing", "circular padding, kernel 5", "full filters with relu", "gelu, two hidden layers"),
    *("everything at once", "40 channels"),
}
"""Cells of the engines in a browser that are not slow; the engine in JavaScript computes all of them in Node."""


def pytest_generate_tests(metafunc):
    for fixture, names in (("any_cell", CELLS), ("some_cell", FEW_CELLS)):
        if fixture in metafunc.fixturenames:
            quick = QUICK_CELLS if fixture == "some_cell" else names
            metafunc.parametrize(
                fixture, [pytest.param(n, marks=() if n in quick else pytest.mark.slow) for n in names]
            )


@pytest.fixture(scope="session")
def make_cell():
    """(model, (1, C, *grid) state) by the name of a cell: it lives and stays small; a third of the state is alive."""

    def make(name, fire_rate=None):
        arguments, grid = CELLS[name]
        model = BasicNCAModel(**{**arguments, **({} if fire_rate is None else {"fire_rate": fire_rate})})
        source = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                gain = 0.04 if "last" in key else 1.0
                fan_in = math.prod(parameter.shape[1:])
                parameter.copy_(gain * torch.randn(parameter.shape, generator=source) / math.sqrt(fan_in))
            state = torch.randn(1, model.num_channels, *grid, generator=source)
            if model.alive is not None and model.alive.channel >= model.num_fixed_channels:
                state[:, model.alive.channel].abs_()
            if math.prod(grid) > 10:
                state *= torch.rand(1, 1, *grid, generator=source) < 0.35
            first = getattr(model.rule, "hidden", [model.rule.last])[0]
            first.weight /= model.perceive(state, 0).std(correction=0).clamp(min=0.5)
        return model, state

    return make


def make_quiet(value=0.0, **changes):
    model = BasicNCAModel(**presets.growing(**{"rule": MLPRule(4), **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.rule.last.bias.fill_(value)
    return model


@pytest.fixture(scope="session")
def quiet():
    """Makes models whose weights are all zero, except for the bias of their update."""
    return make_quiet


@pytest.fixture(scope="session")
def reference():
    """States of the reference after chosen numbers of steps."""

    def run(model, x, keep=(1,), seed=0, start=0):
        with using_backend("reference"), torch.no_grad():
            return trajectory(x, model, max(keep), keep=keep, seed=seed, start=start)

    return run


# JavaScript in Node ---------------------------------------------------------------------------------------------------

ENGINE_MODULES = ("random", "tensors", "cell", "javascript_engine", "webgl_program", "webgl_engine", "engines", "world",
                  "player")  # fmt: skip

DRIVER = """
import { createInterface } from "node:readline";

const floats = (text) => new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer);
const text = (values) => Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64");

createInterface({ input: process.stdin }).on("line", (line) => {
  const job = JSON.parse(line);
  let answer;
  try {
    answer = { result: eval(`(given) => { ${job.code} }`)(job.given) ?? null };
  } catch (error) {
    answer = { error: error.stack };
  }
  console.log(JSON.stringify(answer));
});
"""


class Node:
    """One process of Node that holds the modules of a page."""

    def __init__(self, file):
        command = ["node", str(file)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, code, **given):
        """Result of the body of a function; what it is given is in ``given``."""
        self.process.stdin.write(json.dumps({"code": code, "given": given}) + "\n")
        self.process.stdin.flush()
        watch = threading.Timer(60, self.process.kill)
        watch.start()
        line = self.process.stdout.readline()
        watch.cancel()
        assert line, "node stopped"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Call a piece of JavaScript that sees the engines and the world of a page."""
    if shutil.which("node") is None:
        pytest.skip("needs node")
    file = tmp_path_factory.mktemp("node") / "modules.mjs"
    file.write_text(script(ENGINE_MODULES) + DRIVER, encoding="utf-8")
    running = Node(file)
    yield running
    running.close()


# Numbers on their way -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def as_text():
    """(1, C, height, width) state to base64 of its float32 values, cell by cell."""
    return lambda x: base64.b64encode(x[0].permute(1, 2, 0).contiguous().float().numpy().tobytes()).decode()


@pytest.fixture(scope="session")
def as_state():
    """The way back; None where Node writes null."""

    def read(text, channels, grid):
        values = np.frombuffer(base64.b64decode(text), "<f4").copy()
        return torch.from_numpy(values).view(*grid, channels).permute(2, 0, 1).unsqueeze(0)

    return read


# Roll-outs ------------------------------------------------------------------------------------------------------------

ROLL_OUT = """
  const cell = new Cell(given.cell);
  const engine = new JavaScriptEngine(cell, ...given.grid);
  if (given.angle !== undefined) engine.turn(given.angle);
  engine.write(0, 0, engine.width, engine.height, floats(given.state));
  const kept = [];
  for (let t = 0; t < Math.max(...given.keep); ++t) {
    engine.step(t + given.start, { seed: given.seed, fireRate: given.fireRate ?? cell.fireRate });
    if (given.keep.includes(t + 1)) kept.push(text(engine.read(0, 0, engine.width, engine.height)));
  }
  return kept;
"""


@pytest.fixture(scope="module")
def roll_out(node, as_text, as_state):
    """States of the engine after chosen numbers of steps."""

    def run(model, x, keep=(1,), seed=0, start=0, weights="float32", **options):
        grid = list(x.shape[2:])
        given = {"cell": describe_cell(model, weights), "grid": grid, "state": as_text(x)}
        kept = node(ROLL_OUT, **given, keep=list(keep), seed=seed, start=start, **options)
        return {steps: as_state(state, model.num_channels, grid) for steps, state in zip(keep, kept, strict=True)}

    return run


# Pages in a browser ---------------------------------------------------------------------------------------------------

MEDIA = ("prefers-color-scheme", "prefers-reduced-motion")
FLAGS = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
         "--window-size=1280,1000", "--hide-scrollbars", "--disable-background-networking")  # fmt: skip


class BrowserPage:
    """A live page that is open, and a hand to touch it."""

    def __init__(self, browser):
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.support.wait import WebDriverWait

        self.browser = browser
        self.hand = lambda: ActionChains(browser, duration=20)
        self.waiting = WebDriverWait(browser, 20, poll_frequency=0.02)

    def __call__(self, code, *given):
        """Result of the body of a function that sees the page's ``live`` and what it is given."""
        return self.browser.execute_script(f"const given = arguments; {code}", *given)

    def until(self, expression, *given):
        return self.waiting.until(lambda _: self(f"return {expression}", *given), expression)

    def output(self, name):
        """Text beside the slider of a name."""
        return self("return document.getElementById(given[0]).nextElementSibling.textContent", name)

    @property
    def asked(self):
        """Addresses that were asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    @property
    def names(self):
        """(role, name) of everything that a screen reader finds."""
        nodes = self.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]

    @property
    def beyond_a_phone(self):
        """What is wider than a phone."""
        return self("""
          return [...document.querySelectorAll("button, canvas, input, progress, section, .choice label")]
            .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > 390)
            .map((each) => each.outerHTML);
        """)

    def frames(self, count=3):
        """Wait for so many frames of the browser."""
        code = """
          let [left, done] = arguments;
          const frame = () => (left-- > 0 ? requestAnimationFrame(frame) : done());
          frame();
        """
        self.browser.execute_async_script(code, count)

    def at(self, selector):
        """The element of a CSS selector; ``#dish`` is the canvas."""
        return self.browser.find_element("css selector", selector)

    def choose(self, group, name):
        """Click the radio button of a name in a group."""
        labels = self.at(group).find_elements("tag name", "label")
        (label,) = [each for each in labels if name in (each.text, each.get_attribute("title"))]
        self("given[0].scrollIntoView({ block: 'nearest' })", label)
        label.click()

    def press(self, selector, *keys):
        """Keys on a focused element."""
        self("document.querySelector(given[0]).focus()", selector)
        self.hand().send_keys(*keys).perform()

    def offset(self, x, y):
        """Pixels from the middle of the canvas to the middle of a cell."""
        box = "document.getElementById('dish').getBoundingClientRect()"
        width, height, columns, rows = self(
            f"const b = {box}; return [b.width, b.height, live.world.width, live.world.height]"
        )
        return round(((x + 0.5) / columns - 0.5) * width), round(((y + 0.5) / rows - 0.5) * height)

    def drag(self, *cells):
        """Press on the first cell, move over the others, let go."""
        canvas = self.at("#dish")
        hand = self.hand().move_to_element_with_offset(canvas, *self.offset(*cells[0])).click_and_hold()
        for cell in cells[1:]:
            hand.move_to_element_with_offset(canvas, *self.offset(*cell))
        hand.release().perform()

    @property
    def state(self):
        """(1, C, height, width) state of the dish."""
        code = "const w = live.world; return [w.height, w.width, [...w.snapshot()].map(String)]"
        height, width, values = self(code)
        return torch.tensor([float(v) for v in values]).view(height, width, -1).permute(2, 0, 1).unsqueeze(0)

    @state.setter
    def state(self, x):
        code = "live.world.engine.write(0, 0, live.world.width, live.world.height, Float32Array.from(given[0]))"
        self(code, x[0].permute(1, 2, 0).flatten().tolist())

    @property
    def colours(self):
        """(height, width, 3) colours in the middle of each cell on the canvas, without the brush."""
        code = """
          live.dish.showsBrush = false;
          live.state = live.world.snapshot();
          live.redraw();
          const { canvas, zoom } = live.dish;
          const { height, width } = live.world;
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const colours = [];
          for (let y = 0; y < height; ++y) for (let x = 0; x < width; ++x) {
            const at = ((y * zoom + (zoom >> 1)) * canvas.width + x * zoom + (zoom >> 1)) * 4;
            colours.push(...data.slice(at, at + 3));
          }
          return [height, width, colours];
        """
        height, width, values = self(code)
        return torch.tensor(values, dtype=torch.float32).view(height, width, 3)

    @property
    def t(self):
        return self("return live.world.t")

    @property
    def announced(self):
        return self("return document.getElementById('announcer').textContent")

    @property
    def engine_text(self):
        return self("return document.getElementById('engine').textContent")

    def complaints(self):
        """What the console has said since it was last asked, but for a driver's remarks on its own speed."""
        said = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] != "INFO"]
        return [text for text in said if "GL Driver Message (OpenGL, Performance" not in text]


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window, drawing WebGL on the processor."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    programs["chromium"] = programs["chromium"] or shutil.which("google-chrome")
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.skip(f"needs {' and '.join(missing)}")
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = programs["chromium"]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(programs["chromedriver"])
    running = webdriver.Chrome(options=options, service=service)
    running.set_script_timeout(60)
    yield running
    running.quit()


@pytest.fixture
def open_page(browser, tmp_path):
    """Write a model as a page and open it: by default paused and in JavaScript, which starts at once.

    ``open_page.file(path)`` opens a page that is there already.
    """
    injected = []

    def emulate(width=None, **media):
        features = [{"name": name, "value": media.get(name.replace("-", "_"), "")} for name in MEDIA]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width or 0, "height": 844 if width else 0, "deviceScaleFactor": 2 if width else 0}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "mobile": bool(width)})

    def open_file(path, fragment="engine=javascript&paused", *, before=None, width=None, media=None):
        emulate(width, **(media or {}))
        browser.get("about:blank")
        if before is not None:
            script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": before})
            injected.append(script["identifier"])
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(f"{path.as_uri()}#{fragment}")
        page = BrowserPage(browser)
        page.emulate = emulate
        page.until("window.live !== undefined")
        return page

    def open_(model, fragment="engine=javascript&paused", *, before=None, width=None, media=None, **options):
        path = to_html(model, tmp_path / "live.html", **options)
        return open_file(path, fragment, before=before, width=width, media=media)

    open_.file = open_file
    yield open_
    for identifier in injected:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": identifier})
    emulate()
    browser.get("about:blank")
