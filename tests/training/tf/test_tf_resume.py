"""Trainings in TensorFlow that are stopped or killed are finished in new processes as if they had not been."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from delira_nca.io.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[3]
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here"),
]


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def train(folder, num_epochs, *options):
    run("benchmarks.faults.tensorflow_run", folder, num_epochs, *options)
    return load_checkpoint(folder / "state.pt")


def test_three_and_three_epochs_are_six_to_the_last_bit(tmp_path, assert_same):
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    expected = train(straight, 6)
    assert train(halves, 3)["epoch"] == 3
    found = train(halves, 6, "resume")
    assert found["epoch"] == 6
    assert_same(found, expected)
    assert (halves / "metrics.jsonl").read_text() == (straight / "metrics.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("no_other_faults")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_training_that_is_ended_after_any_step_is_finished_exactly(name, tmp_path):
    counts = tmp_path / "counts.json"
    options = ["--trials", 1, "--match", f"{name} to a training in TensorFlow", "--json", counts]
    run("benchmarks.faults", "training", *options, "--page", tmp_path / "page.rst")
    [row] = json.loads(counts.read_text())["training"]
    assert row[2] == row[3] == "1"
