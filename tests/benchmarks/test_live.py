import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_benchmark_compares_the_engine_with_a_loop_that_computes_the_same(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-W", "error", "-m", "benchmarks.live", "--rounds", "2", "--seconds", "0.01"]
    done = subprocess.run(
        [*command, "--size", "16", "--no-browser", "--json", str(figures)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Steps a second, 16 x 16 cells" in done.stdout
    results = json.loads(figures.read_text())
    assert results["table"].keys() == {"every cell lives", "a disc lives"}
    for engines in results["rates"].values():
        assert engines.keys() == {"JavaScript", "naive"}
        assert all(len(rates) == 2 and min(rates) > 0 for rates in engines.values())


def test_rates_are_compared_within_a_round(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.live import table

    rows = table({"dish": {"naive": [1.0, 10.0, 2.0], "JavaScript": [6.0, 40.0, 10.0]}})["dish"]
    assert rows["JavaScript"] == {"median": 10.0, "min": 6.0, "max": 40.0, "times naive": 5.0}
    assert rows["naive"]["times naive"] == 1.0


def test_a_third_of_the_cells_of_the_disc_live(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.live import dishes, make_model

    full, disc = dishes().values()
    alive = make_model().alive
    assert alive(full.unsqueeze(0)).all()
    assert alive(disc.unsqueeze(0)).float().mean() == pytest.approx(1 / 3, abs=0.02)
