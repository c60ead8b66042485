"""A run is ended from outside: its trainings are saved, and no process is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delira_nca.io.process import is_alive
from delira_nca.io.run_lock import is_locked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
ROOT = Path(__file__).parents[3]

SCRIPT = """
import sys
sys.path.append(sys.argv[1])
import launcher_tasks
from delira_nca.experiment.launchers import launcher_by_name
if __name__ == "__main__":
    given = [
        {"what": "train", "seed": 0, "folder": sys.argv[2], "iterations": 1000, "pause": 0.05},
        {"what": "be_slow", "folder": sys.argv[2], "name": "slow", "seconds": 100},
    ]
    options = {"folder": sys.argv[2] + "/jobs", "cluster": "local"} if sys.argv[3] == "submitit" else {}
    launcher_by_name(sys.argv[3], num_workers=2, **options).run(launcher_tasks.do, given)
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
    ("launcher", "number", "to_all", "code"),
    [
        pytest.param("pool", signal.SIGINT, True, -signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("pool", signal.SIGTERM, False, 143, marks=pytest.mark.slow),
        pytest.param("pool", signal.SIGKILL, False, -signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGTERM, False, 143, marks=pytest.mark.slow),
        pytest.param("submitit", signal.SIGTERM, False, 143, marks=pytest.mark.slow),
    ],
    ids=["pool, Ctrl+C", "pool, SIGTERM", "pool, SIGKILL", "ray, SIGTERM", "submitit, SIGTERM"],
)
def test_no_process_is_left_and_the_training_is_saved(launcher, number, to_all, code, tasks, tmp_path):
    if launcher != "pool":
        pytest.importorskip(launcher, reason=f"{launcher} is not installed")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(Path(tasks.__file__).parent), str(tmp_path), launcher]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        assert wait_for(lambda: (tmp_path / "stepped").exists() and (tmp_path / "slow-0").exists())
        workers = [int((tmp_path / name).read_text()) for name in ("begun-0", "slow-0")]
        assert all(is_alive(worker) for worker in workers)
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code, error
        assert wait_for(lambda: not processes_of(process.pid))
        assert not any(is_alive(worker) for worker in workers)
    finally:
        for left in processes_of(process.pid):
            os.kill(left, signal.SIGKILL)
    assert list(tmp_path.glob("checkpoints/checkpoint_epoch_1_iter_*.safetensors"))
    assert not is_locked(tmp_path / "checkpoints")
