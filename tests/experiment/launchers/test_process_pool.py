"""Processes of the pool die: how is told, and no other task is disturbed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from delira_nca.experiment.launchers import LaunchError, ProcessDiedError, ProcessPoolLauncher

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_how_a_process_died_is_told(tasks, tmp_path):
    given = [
        {"what": "die", "folder": str(tmp_path), "name": "killed", "times": 9},
        {"what": "die", "folder": str(tmp_path), "name": "crashed", "times": 9, "number": int(signal.SIGSEGV)},
        {"what": "quit_at_once", "code": 3},
    ]
    outcomes = ProcessPoolLauncher(1).run(tasks.do, given, retries=0)
    killed, crashed, quit_at_once = (str(outcome.error) for outcome in outcomes)
    assert killed.endswith("was killed by SIGKILL in the middle of its task: probably out of memory")
    assert f"task process 0 (pid {(tmp_path / 'killed-0').read_text()}) " in killed
    assert crashed.endswith("was killed by SIGSEGV in the middle of its task")
    assert "exited with code 3 in the middle of its task" in quit_at_once
    assert all(isinstance(outcome.error, ProcessDiedError) and outcome.attempts == 1 for outcome in outcomes)


def test_a_training_whose_process_is_killed_goes_on_and_disturbs_no_other_one(tasks, tmp_path):
    expected = tasks.train(seed=3, epochs=3)["mse"]
    notes = [str(tmp_path / name) for name in ("killed", "slow")]
    for folder in notes:
        Path(folder).mkdir()
    killed, slow = ProcessPoolLauncher(2).run(
        tasks.do,
        [
            {"what": "train", "seed": 3, "folder": notes[0], "epochs": 3, "dies_in": 2},
            {"what": "be_slow", "folder": notes[1], "name": "slow", "seconds": 2.0},
        ],
    )
    assert (killed.value["mse"], killed.attempts) == (expected, 2)
    assert (slow.value, slow.attempts) == ("slow", 1)
    assert [path.name for path in Path(notes[1]).iterdir()] == ["slow-0"]


NO_GUARD = """
import math
from delira_nca.experiment.launchers import ProcessPoolLauncher
ProcessPoolLauncher(1).run(math.hypot, [{}])
"""


def test_a_script_without_its_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(NO_GUARD)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert 'must stand under `if __name__ == "__main__":`' in done.stderr
    assert LaunchError.__name__ in done.stderr


INTERACTIVE = """
from delira_nca.experiment.launchers import ProcessPoolLauncher
class Size:
    pass
def job(a):
    return a
for function, task in ((job, {"a": 1}), (print, {"sep": Size()})):
    try:
        ProcessPoolLauncher(1).run(function, [task])
    except ValueError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("arguments", "program"), [(["-c", INTERACTIVE], "python -c"), (["-"], "standard input")])
def test_functions_and_classes_of_a_program_without_a_file_are_refused_before_anything_starts(arguments, program):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, input=INTERACTIVE, env=environment, capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first.startswith("ConfigError the task cannot be sent to other processes: 'job' is defined in")
    assert "'Size' is defined in" in second
    assert program in first
