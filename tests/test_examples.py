"""The examples run, and the README shows what they do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SLOW = {
    "brain",
    "cluster",
    "conditional",
    "depth",
    "assembly",
    "digits",
    "distributed",
    "experiment",
    "film",
    "graph",
    "nuclei",
    "nuclei_3d",
    "regimes",
    "self_classifying",
    "tensorflow_growing",
    "texture",
}
"""Examples of parts that have tests of their own."""


@pytest.mark.parametrize(
    "example",
    [pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in SLOW else ()) for path in EXAMPLES],
)
def test_example_runs_quickly(example, tmp_path):
    if "tensorflow" in example.stem:
        pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, example, "--quick"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = re.findall(r"^runs/\S+$", done.stdout, flags=re.MULTILINE)
    assert all((tmp_path / file).stat().st_size > 0 for file in printed)
    assert done.stdout


def test_readme_shows_the_lines_of_the_growing_example():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    example = "".join((ROOT / "examples" / "grow.py").read_text().split())
    sizes, *lines = blocks[0].splitlines()
    missing = [line for line in lines if "".join(line.split("  #")[0].split()) not in example]
    assert not missing
    names, values = sizes.split(" = ")
    assert names in (ROOT / "examples" / "grow.py").read_text()
    assert f"else ({values})" in (ROOT / "examples" / "grow.py").read_text()
