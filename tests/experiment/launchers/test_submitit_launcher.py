"""Jobs of submitit: saved and put back ahead of a time limit, as an array on Slurm, in this process to debug."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.experiment.launchers import ProcessDiedError, SubmititLauncher

pytest.importorskip("submitit", reason="submitit is not installed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="submitit needs POSIX")
SLURM = Path(__file__).parent / "importable" / "pretended_slurm.py"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Folder of the commands of a Slurm of one machine, which come first on the path."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel"):
        (folder / name).write_text(f"#!{sys.executable}\n{SLURM.read_text()}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0)  # no network file system to wait for
    return folder


@pytest.mark.slow
def test_a_job_that_nears_its_time_limit_is_saved_within_an_epoch_and_goes_on(tasks, tmp_path):
    expected = tasks.train(seed=5, epochs=4)["mse"]
    task = {"seed": 5, "folder": str(tmp_path), "epochs": 4, "dies_in": 3, "number": int(signal.SIGUSR2)}
    (outcome,) = SubmititLauncher(tmp_path / "jobs", "local").run(tasks.train, [task])
    assert outcome.value["mse"] == expected
    assert outcome.attempts == 1
    assert "checkpoint_epoch_3_iter_1.safetensors" in (tmp_path / "found-1").read_text()
    assert not (tmp_path / "begun-2").exists()


@pytest.mark.slow
def test_a_task_without_a_training_goes_back_into_the_queue_at_once(tasks, tmp_path):
    task = {"folder": str(tmp_path), "name": "late", "times": 1, "number": int(signal.SIGUSR2)}
    (outcome,) = SubmititLauncher(tmp_path / "jobs", "local").run(tasks.die, [task])
    assert (outcome.value, outcome.attempts) == ("late", 1)
    assert outcome.seconds < 10
    assert (tmp_path / "late-1").exists()


@pytest.mark.slow
def test_tasks_are_an_array_of_slurm_and_the_one_that_ran_out_of_memory_is_tried_again(slurm, tasks, tmp_path):
    launcher = SubmititLauncher(
        tmp_path / "jobs", threads=3, num_workers=2, timeout_min=7, slurm_partition="long", mem_gb=2
    )
    assert launcher.cluster == "slurm"
    given = [
        {"what": "divide", "number": 1, "by": 4},
        {"what": "die", "folder": str(tmp_path), "name": "once", "times": 1},
    ]
    divided, died = launcher.run(tasks.do, given)
    assert (divided.value, divided.attempts) == (0.25, 1)
    assert (died.value, died.attempts) == ("once", 2)
    array, again = (Path(slurm / f"script-{number}").read_text() for number in range(2))
    for line in ("array=0-1%2", "cpus-per-task=3", "time=7", "partition=long", "mem=2GB", "signal=USR2@90"):
        assert f"#SBATCH --{line}\n" in array
    assert "--array" not in again


@pytest.mark.slow
def test_what_slurm_says_of_a_job_that_is_gone_is_told(slurm, tasks, tmp_path):
    launcher = SubmititLauncher(tmp_path / "jobs", "slurm")
    task = {"folder": str(tmp_path), "name": "always", "times": 9}
    (outcome,) = launcher.run(tasks.die, [task], retries=0)
    assert isinstance(outcome.error, ProcessDiedError)
    assert "has not produced any output (state: OUT_OF_MEMORY)" in str(outcome.error)


@pytest.mark.slow
def test_jobs_are_cancelled_where_the_run_is_ended(slurm, tasks, tmp_path):
    launcher = SubmititLauncher(tmp_path / "jobs", "slurm")

    def interrupt():
        while not (tmp_path / "slow-0").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        launcher.run(tasks.be_slow, [{"folder": str(tmp_path), "name": "slow", "seconds": 100}])
    thread.join()
    (job,) = slurm.glob("*.pid")
    assert job.with_suffix(".cancelled").exists()


@pytest.mark.filterwarnings("ignore:unclosed file .*DEBUG_:ResourceWarning")  # submitit leaves its logs open there
@pytest.mark.filterwarnings("ignore:Exception ignored in.*DEBUG_:pytest.PytestUnraisableExceptionWarning")
def test_debugging_runs_the_task_in_this_process(tasks, tmp_path):
    (outcome,) = SubmititLauncher(tmp_path / "jobs", "debug").run(
        tasks.be_slow, [{"folder": str(tmp_path), "name": "here", "seconds": 0}]
    )
    assert outcome.value == "here"
    assert (tmp_path / "here-0").read_text() == str(os.getpid())


def test_what_submitit_does_not_know_is_refused_at_once(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown cluster 'slrum'\..* Did you mean 'slurm'\?"):
        SubmititLauncher(tmp_path, "slrum")
    with pytest.raises(ConfigError, match="submitit: Could not detect"):
        SubmititLauncher(tmp_path, "slurm")
    with pytest.raises(ConfigError, match="Unknown argument 'partitoin' for executor 'slurm'"):
        SubmititLauncher(tmp_path, "local", slurm_partitoin="long")
    with pytest.raises(ConfigError, match='submitit: Parameter "mem_gb" expected type'):
        SubmititLauncher(tmp_path, "local", mem_gb="2GB")
    with pytest.raises(ConfigError, match="timeout_min must be a whole number of at least 1, not 0"):
        SubmititLauncher(tmp_path, "local", timeout_min=0)
