"""Every fault of the table ends well, and the runner that makes the table sees what does not."""

import json
import os
import subprocess
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.usefixtures("no_other_faults"),
    pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the runner reads /proc"),
    pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here"),
]


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.faults.runner as module

    return module


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_every_fault_of_forked_workers_ends_well(tmp_path):
    counts, page = tmp_path / "counts.json", tmp_path / "page.rst"
    options = ["--trials", "1", "--jobs", "2", "--setting", "2, fork", "--json", str(counts), "--page", str(page)]
    command = [sys.executable, "-m", "benchmarks.faults", "data", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(counts.read_text())["data"]
    assert len(rows) >= 13
    assert all(row[2] == row[3] == "1" for row in rows)
    assert "worker is killed (SIGKILL)" in page.read_text()
    assert "make faults" in page.read_text()


def run(runner, monkeypatch, tmp_path, source, **expected):
    """Run one trial of a body that is given as source."""
    module = tmp_path / "some_cases.py"
    module.write_text(
        "import os, signal, subprocess, sys, time\n"
        "from multiprocessing import resource_tracker, shared_memory\n"
        "from benchmarks.faults.case import Case, happens_now, is_ready\n"
        f"def body():\n    {source}\n"
        f"CASES = [Case('a fault', 'here', body, **{expected!r})]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "some_cases", raising=False)
    import some_cases

    return runner.run_trial("some_cases", 0, some_cases.CASES[0], 0).wrong


FAILS = "happens_now(); raise ValueError('broken 4711')"


@pytest.mark.parametrize(
    ("source", "expected", "wrong"),
    [
        (FAILS, {"error": "ValueError", "texts": ("4711",), "exit_code": 1}, ""),
        (FAILS, {"error": "KeyError", "exit_code": 1}, "raised ValueError, not KeyError"),
        (FAILS, {"error": "ValueError", "texts": ("4712",), "exit_code": 1}, "'4712' is not in 'broken 4711'"),
        (FAILS, {"exit_code": 1}, "raised ValueError: broken 4711"),
        ("happens_now()", {"error": "ValueError"}, "no ValueError was raised"),
        ("happens_now(); sys.exit(3)", {"error": "SystemExit"}, "exit code 3, not 0"),
        ("happens_now(); time.sleep(1)", {"limit": 0.5}, "s, not 0 to 0.5"),
        ("is_ready(); time.sleep(60)", {"signal": 15, "exit_code": -15}, ""),
        ("happens_now(); subprocess.Popen(['sleep', '50'])", {}, "processes left: ["),
    ],
)
def test_runner_sees_what_is_wrong(runner, monkeypatch, tmp_path, source, expected, wrong):
    monkeypatch.setattr(runner, "GONE_LIMIT", 1.0)
    found = run(runner, monkeypatch, tmp_path, source, **expected)
    assert (found == []) if not wrong else any(wrong in text for text in found)


def test_runner_sees_a_trial_that_hangs(runner, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "HARD_LIMIT", 1.0)
    start = time.perf_counter()
    assert run(runner, monkeypatch, tmp_path, "time.sleep(60)") == ["still running after 1 s"]
    assert time.perf_counter() - start < 10


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system does not list shared memory")
def test_runner_sees_shared_memory_that_is_left(runner, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "GONE_LIMIT", 1.0)
    name = f"delira_nca_test_{os.getpid()}"
    source = (
        f"happens_now(); kept = shared_memory.SharedMemory('{name}', create=True, size=100); "
        "resource_tracker.unregister(kept._name, 'shared_memory')"
    )
    try:
        found = run(runner, monkeypatch, tmp_path, source)
    finally:
        left = shared_memory.SharedMemory(name)
        left.close()
        left.unlink()
    assert found == [f"shared memory left: ['{name}']"]
