import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    """The benchmarks are no package that is installed: they are imported from the root of the project."""
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not here")
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def run_benchmark():
    def run(name, *options, warnings="error"):
        command = [sys.executable, "-W", warnings, "-m", f"benchmarks.{name}", *map(str, options)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
        assert done.returncode == 0, done.stderr
        return done

    return run
