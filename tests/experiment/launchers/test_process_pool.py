"""Processes of the pool die, are told to end, and lose their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delira_nca.experiment.launchers import LaunchError, ProcessDiedError, ProcessPoolLauncher
from delira_nca.io.process import is_alive

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
ROOT = Path(__file__).parents[3]


def test_how_a_process_died_is_told(tasks, tmp_path):
    given = [
        {"what": "die", "folder": str(tmp_path), "name": "killed", "times": 9},
        {"what": "die", "folder": str(tmp_path), "name": "crashed", "times": 9, "number": int(signal.SIGSEGV)},
        {"what": "quit_at_once", "code": 3},
    ]
    outcomes = ProcessPoolLauncher(1).run(tasks.do, given, retries=0)
    killed, crashed, quit_at_once = (str(outcome.error) for outcome in outcomes)
    assert killed.endswith("was ended by SIGKILL: probably out of memory")
    assert f"process {(tmp_path / 'killed-0').read_text()} " in killed
    assert crashed.endswith("was ended by SIGSEGV")
    assert quit_at_once.endswith("exited with code 3 in the middle of the task")
    assert all(isinstance(outcome.error, ProcessDiedError) and outcome.attempts == 1 for outcome in outcomes)


def test_a_training_whose_process_is_killed_goes_on_and_disturbs_no_other_one(tasks, tmp_path):
    expected = tasks.train(seed=3, epochs=6)["mse"]
    notes = [str(tmp_path / name) for name in ("killed", "slow")]
    for folder in notes:
        Path(folder).mkdir()
    killed, slow = ProcessPoolLauncher(2).run(
        tasks.do,
        [
            {"what": "train", "seed": 3, "folder": notes[0], "epochs": 6, "dies_in": 4},
            {"what": "be_slow", "folder": notes[1], "name": "slow", "seconds": 2.0},
        ],
    )
    assert (killed.value["mse"], killed.attempts) == (expected, 2)
    assert (slow.value, slow.attempts) == ("slow", 1)
    assert [path.name for path in Path(notes[1]).iterdir()] == ["slow-0"]


SCRIPT = """
import sys
sys.path.append(sys.argv[1])
import launcher_tasks
from delira_nca.experiment.launchers import ProcessPoolLauncher
if __name__ == "__main__":
    given = [
        {"what": "train", "seed": 0, "folder": sys.argv[2], "iterations": 1000, "pause": 0.05},
        {"what": "be_slow", "folder": sys.argv[2], "name": "slow", "seconds": 100},
    ]
    ProcessPoolLauncher(2).run(launcher_tasks.do, given)
"""


def processes_of(session):
    """Processes that began with one of our own as the leader."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "to_all", "code"),
    [(signal.SIGINT, True, -signal.SIGINT), (signal.SIGTERM, False, 143), (signal.SIGKILL, False, -signal.SIGKILL)],
    ids=["Ctrl+C", "SIGTERM", "SIGKILL"],
)
def test_no_process_is_left_and_the_training_is_saved(number, to_all, code, tasks, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(Path(tasks.__file__).parent), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        assert wait_for(lambda: (tmp_path / "stepped").exists() and (tmp_path / "slow-0").exists())
        workers = [int((tmp_path / name).read_text()) for name in ("begun-0", "slow-0")]
        assert all(is_alive(worker) for worker in workers)
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code, error
        assert wait_for(lambda: not processes_of(process.pid))
        assert "launcher_tasks.py" not in error  # no worker was interrupted in the middle of something
    finally:
        for left in processes_of(process.pid):
            os.kill(left, signal.SIGKILL)
    assert list(tmp_path.glob("checkpoints/checkpoint_epoch_1_iter_*.pt"))
    assert not list(tmp_path.rglob("run.lock"))


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
