import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here")


@pytest.mark.slow
def test_benchmark_shows_what_a_trainer_adds_to_a_bare_loop(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-W", "error", "-m", "benchmarks.trainer", "--iterations", "20", "--rounds", "2"]
    done = subprocess.run(
        [*command, "--json", str(figures)], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "what a trainer adds to the bare loop" in done.stdout
    results = json.loads(figures.read_text())
    table = results["over the bare loop"]
    assert {"bare loop", "DataManager alone", "no callbacks", "all of the usual callbacks"} <= table.keys()
    assert {"PoolUpdate only", "WeightAverage only", "MetricLogger only"} <= table.keys()
    assert all(len(values) == 2 and min(values) > 0 for values in results["spent"].values())


def test_differences_are_taken_within_a_round(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.trainer import over_the_bare_loop

    table = over_the_bare_loop({"bare loop": [10.0, 50.0, 20.0], "trainer": [30.0, 60.0, 90.0]})
    assert table["trainer"] == {"median": 20.0, "of the least": 20.0, "min": 10.0, "max": 70.0}
    assert table["bare loop"]["median"] == 20.0
