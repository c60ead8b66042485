"""The benchmark of TensorFlow computes the same loss on both sides."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")


@pytest.mark.slow
def test_a_quick_run_prints_both_medians_and_their_ratio():
    command = [sys.executable, "-m", "benchmarks.keras_nca", "--rounds", "1", "--size", "12", "--steps", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["native", "TensorFlow", "ratio"]
