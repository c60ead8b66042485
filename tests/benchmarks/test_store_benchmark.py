import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here")


@pytest.mark.slow
def test_benchmark_shows_what_recording_costs_and_that_nothing_is_lost(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-W", "error", "-m", "benchmarks.store", "--iterations", "400", "--chunk", "100"]
    done = subprocess.run(
        [*command, "--rounds", "1", "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "records lost: 0" in done.stdout
    results = json.loads(figures.read_text())
    assert results["table"].keys() == {"store", "store, opened for each chunk", "one pickle"}
    assert all(min(row["write"], row["read"], row["bytes"]) > 0 for row in results["table"].values())
    assert results["two processes"]["lost"] == 0
    assert len(results["recorder"]) == 1


def test_ratios_are_those_of_the_medians(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.store import summarise

    row = {"write": [1.0, 5.0, 2.0], "read": [1.0], "bytes": [1e6]}
    table = summarise({"store": row, "one pickle": {**row, "write": [9.0, 8.0, 1.0]}})
    assert table["store"]["times the store"] == 1.0
    assert table["one pickle"]["times the store"] == 4.0
