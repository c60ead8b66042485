"""What a step on the live page costs: ``python -m benchmarks.live``.

Steps a second of the preset ``growing`` with 64 x 64 cells: the page's JavaScript engine in Node, against a loop over
all cells as it is usually written, in turns; and both engines of the page in Chromium, where it is there. On one dish
every cell lives, on the other a disc of about a third of the cells. The weights leave a dish as it is, so that every
step does the same work.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from delira_nca.export import to_html
from delira_nca.export.cell import describe_cell
from delira_nca.export.html import script
from delira_nca.models import BasicNCAModel, presets

HERE = Path(__file__).with_name("live")
SIZE = 64
TOLERANCE = 1e-4
ENGINE = ("random", "tensors", "cell", "javascript_engine")
NAMES = "Cell, fires, fireThreshold, JavaScriptEngine"
FLAGS = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
IN_THE_PAGE = """
  const [engine, state, seconds, rounds] = arguments;
  live.use(engine);
  const world = live.world;
  world.engine.write(0, 0, world.width, world.height, Float32Array.from(state));
  const rates = [];
  for (let round = 0; round <= rounds; ++round) {
    const begin = performance.now();
    let steps = 0;
    while (steps < 2 || performance.now() - begin < 1000 * seconds) {
      world.step();
      ++steps;
      if (steps % 4 === 0) world.engine.read(0, 0, 1, 1); // wait for the card
    }
    world.engine.read(0, 0, 1, 1);
    rates.push((1000 * steps) / (performance.now() - begin));
  }
  return [world.engine.name, rates.slice(1)];
"""


def make_model(gain: float = 0.0) -> BasicNCAModel:
    """Of a gain of zero, the last layer is as it begins: every update is zero."""
    torch.manual_seed(0)
    model = BasicNCAModel(**presets.growing())
    with torch.no_grad():
        model.rule.last.weight.normal_(0, gain)  # type: ignore[union-attr,operator]
    return model


def dishes(size: int = SIZE) -> dict[str, Tensor]:
    """(16, size, size) states: one full of life, and one in which a disc of about a third of the cells lives."""
    full = torch.rand(16, size, size, generator=torch.Generator().manual_seed(0))
    full[3] = 1.0
    reach = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(reach, reach, indexing="ij")
    disc = x**2 + y**2 < (math.sqrt(size * size / 3 / math.pi) - 1) ** 2  # cells beside it are alive, too
    return {"every cell lives": full, "a disc lives": full * disc}


def cell_by_cell(state: Tensor) -> list[float]:
    numbers: list[float] = state.permute(1, 2, 0).flatten().tolist()
    return numbers


def in_node(node: str, rounds: int, seconds: float, size: int = SIZE) -> dict[str, Any]:
    """Rates of the page's engine and of the usual loop on each dish, and how far their results lie apart."""
    job = {
        "cell": describe_cell(make_model()),
        "lively": describe_cell(make_model(0.01)),
        "height": size,
        "width": size,
        "dishes": {name: cell_by_cell(state) for name, state in dishes(size).items()},
        "rounds": rounds,
        "seconds": seconds,
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "engine.mjs").write_text(script(ENGINE) + f"\nexport {{ {NAMES} }};\n", encoding="utf-8")
        shutil.copy(HERE / "naive.js", place / "naive.mjs")
        shutil.copy(HERE / "rounds.mjs", place)
        command = [node, str(place / "rounds.mjs")]
        done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"node: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    if not result["difference"] < TOLERANCE:
        raise SystemExit(f"the two loops are {result['difference']:.1e} apart: their times mean nothing")
    return result


def in_chromium(rounds: int, seconds: float, size: int = SIZE) -> dict[str, dict[str, list[float]]] | str:
    """Rates of both engines of a page on each dish, or why there are none."""
    try:
        from selenium import webdriver
    except ImportError:
        return "needs selenium"
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        return "needs chromium and chromedriver"
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = chromium
    rates: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        page = to_html(make_model(), Path(folder) / "live.html", grid=(size, size))
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            still = {"source": "window.requestAnimationFrame = () => 0;"}
            browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", still)
            browser.set_script_timeout(600)
            browser.get(f"{page.as_uri()}#engine=javascript&paused")
            for dish, state in dishes(size).items():
                for engine in ("javascript", "webgl"):
                    name, rate = browser.execute_script(IN_THE_PAGE, engine, cell_by_cell(state), seconds, rounds)
                    rates.setdefault(dish, {})[f"{name} in Chromium"] = rate
        finally:
            browser.quit()
    return rates


def table(rates: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Median, least and most of the rates, and how many times the usual loop they are, round by round.

    Examples
    --------
    >>> table({"dish": {"naive": [1.0, 2.0, 3.0], "JavaScript": [8.0, 8.0, 9.0]}})["dish"]["JavaScript"]
    {'median': 8.0, 'min': 8.0, 'max': 9.0, 'times naive': 4.0}
    """
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for dish, engines in rates.items():
        for name, values in engines.items():
            times = [value / usual for value, usual in zip(values, engines["naive"], strict=True)]
            rows.setdefault(dish, {})[name] = {
                "median": statistics.median(values),
                "min": min(values),
                "max": max(values),
                "times naive": statistics.median(times),
            }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn of a round")
    parser.add_argument("--size", type=int, default=SIZE, help="cells along an edge")
    parser.add_argument("--no-browser", action="store_true", help="Node alone")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    node = shutil.which("node")
    if node is None:
        raise SystemExit("needs node")
    result = in_node(node, given.rounds, given.seconds, given.size)
    rates = result["rates"]
    browser = "not asked for" if given.no_browser else in_chromium(given.rounds, given.seconds, given.size)
    if isinstance(browser, str):
        print(f"Chromium: {browser}")
    else:
        for dish, engines in browser.items():
            rates[dish] |= engines
    rows = table(rates)
    print(f"Steps a second, {given.size} x {given.size} cells, 16 channels, 128 hidden; {given.rounds} rounds")
    for dish, engines in rows.items():
        print(f"\n{dish:52}{'steps/s':>10}{'x naive':>10}   (min .. max)")
        for name, row in engines.items():
            spread = f"({row['min']:.1f} .. {row['max']:.1f})"
            print(f"  {name:50}{row['median']:10.1f}{row['times naive']:10.1f}   {spread}")
    if given.json:
        given.json.write_text(json.dumps({"size": given.size, "rates": rates, "table": rows}, indent=1))


if __name__ == "__main__":
    main()
