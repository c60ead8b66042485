import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here")
def test_benchmark_shows_data_manager_and_rivals_side_by_side(tmp_path):
    figures = tmp_path / "figures.json"
    options = ["--only", "transport", "--rounds", "1", "--batches", "6", "--json", str(figures)]
    command = [sys.executable, "-m", "benchmarks.data", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "times the best rival with 2" in done.stdout
    table = json.loads(figures.read_text())["transport"]
    assert {"bare loop", "DataManager, 0", "DataManager, 2", "torch DataLoader, 2"} <= table.keys()
    assert {"MultiThreadedAugmenter, 2", "NonDetMultiThreadedAugmenter, 2"} <= table.keys()
    assert all(row["batches per s"] > 0 for row in table.values())
