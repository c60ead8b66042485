"""The benchmark of growing trains what it says, and prints tables."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here")


def rows_of(*arguments):
    """Cells of the rows below the head of the table."""
    command = [sys.executable, "-m", "benchmarks.growing", *arguments, "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("|").split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


@pytest.mark.slow
def test_seeds_are_runs_of_the_command_with_their_median_and_worst():
    rows = rows_of("seeds", "--seeds", "2")
    assert [row[0] for row in rows] == ["0", "1", "median", "worst"]
    first, second, median, worst = ([float(cell) for cell in row[2:]] for row in rows)
    assert first != second
    assert worst == [max(pair) for pair in zip(first, second, strict=True)]
    assert median == pytest.approx([sum(pair) / 2 for pair in zip(first, second, strict=True)], abs=0.011)


@pytest.mark.slow
def test_recipes_are_trained_with_what_they_change():
    rows = rows_of("recipes", "learning rate")
    assert sorted(row[0] for row in rows) == ["learning rate 2e-3", "learning rate 8e-3"]
    assert rows[0][2:] != rows[1][2:]
