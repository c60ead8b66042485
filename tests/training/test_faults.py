"""A training that something happens to ends well: one trial of each fault, and the harness sees what does not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the runner reads /proc"),
    pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here"),
]
QUICK = {
    "SIGKILL at any moment": "saved every 3 iterations, 2 workers",
    "SIGKILL while it does nothing but save": "one file",
    "files may not grow": 'on_error="warn"',
    "the disk is full": 'on_error="raise"',
    "the newest checkpoint is empty": "others are there: exact",
    "SIGTERM": "2 workers",
    "a callback raises in at_iter_end": "2 workers, then exact",
    "the closure raises in validation": "2 workers, then exact",
    "NaN in the loss": 'NaNGuard("skip")',
    "a worker is killed": "2 workers, then exact",
    "a second process trains in the folder": "one after the other",
}
QUICKEST = {"SIGKILL at any moment", "NaN in the loss"}


@pytest.mark.timeout(280)
@pytest.mark.usefixtures("no_other_faults")
@pytest.mark.parametrize(
    ("match", "setting"),
    [pytest.param(*row, marks=() if row[0] in QUICKEST else pytest.mark.slow) for row in QUICK.items()],
)
def test_what_happens_to_a_training_ends_well(match, setting, tmp_path, modules):
    if match == "the disk is full" and not modules.may_mount():
        pytest.skip("this system lets nobody mount a disk")
    counts, page = tmp_path / "counts.json", tmp_path / "page.rst"
    options = ["--trials", "1", "--match", match, "--setting", setting, "--json", str(counts), "--page", str(page)]
    command = [sys.executable, "-m", "benchmarks.faults", "training", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(counts.read_text())["training"]
    assert rows
    assert all(row[2] == row[3] for row in rows)
    assert match in page.read_text()


@pytest.fixture
def modules(monkeypatch, tmp_path):
    """The modules of the harness, with a folder for a trial."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("DELIRA_NCA_FAULT_FOLDER", str(tmp_path))
    monkeypatch.setenv("DELIRA_NCA_FAULT_TRIAL", "3")
    from benchmarks.faults import case, disk, training_run

    return SimpleNamespace(case=case, runs=training_run, may_mount=disk.may_mount)


def test_a_run_that_is_not_the_same_is_seen(modules, tmp_path):
    case, runs = modules.case, modules.runs
    for name, changes in {"a": {}, "b": {}, "c": {"seed": 4}}.items():
        runs.train(case.folder(name), 1, **changes)
    runs.require_same(tmp_path / "b", tmp_path / "a")
    with pytest.raises(case.WrongError, match="entries are not as in the straight run"):
        runs.require_same(tmp_path / "c", tmp_path / "a")
    (tmp_path / "b" / "metrics.jsonl").write_text("")
    with pytest.raises(case.WrongError, match=r"metrics\.jsonl"):
        runs.require_same(tmp_path / "b", tmp_path / "a")


@pytest.mark.parametrize("name", [".checkpoint_epoch_1.safetensors.1.tmp"])
def test_files_that_are_left_are_seen(modules, name):
    case, runs = modules.case, modules.runs
    folder = case.folder("run")
    runs.require_clean(folder)
    (folder / name).write_bytes(b"")
    with pytest.raises(case.WrongError, match="files left"):
        runs.require_clean(folder)


@pytest.mark.parametrize(("of_20", "numbers"), [(20, [1, 2, 20]), (100, [5, 10, 100]), (9, [1, 1, 9]), (3, [1, 1, 3])])
def test_some_cases_have_more_trials_than_others(modules, of_20, numbers):
    case = modules.case.Case("a fault", "here", os.getpid, of_20=of_20)
    assert [case.num_trials(asked) for asked in (1, 2, 20)] == numbers
