"""Launcher that runs tasks as Slurm jobs, or as processes of this machine with the same interface."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, MissingDependencyError, require_choice
from delira_nca.experiment.launchers.attempt import Dumps, PackedTask, attempt
from delira_nca.experiment.launchers.engine import EngineLauncher, Queue
from delira_nca.experiment.launchers.launcher import LaunchError, ProcessDiedError
from delira_nca.io.paths import absolute
from delira_nca.machine import usable_cores
from delira_nca.training.interruption import Interruption, Terminated

__all__ = ["SubmititLauncher", "SubmittedJob"]


class SubmittedJob:
    """One task, which submitit calls in a separate process.

    Before the time limit, submitit receives a signal and would requeue the job in the middle of a step. Here, a
    training first saves its state and ends, and the job is requeued afterwards.

    Parameters
    ----------
    job : PackedTask
        Task to run.
    """

    def __init__(self, job: PackedTask) -> None:
        self.job = job

    def __call__(self) -> bytes:
        """Run the job and return its report."""
        with _saved_before_requeue():
            return attempt(self.job)

    def checkpoint(self) -> Any:
        """Return the same job for submitit to requeue; the training resumes from its saved state."""
        return importlib.import_module("submitit.helpers").DelayedSubmission(self)


@contextlib.contextmanager
def _saved_before_requeue() -> Iterator[None]:
    number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"), None)
    requeue: Any = signal.getsignal(number) if number is not None else None
    if number is None or not callable(requeue):  # submitit runs the task in the launching process
        yield
        return
    received: list[FrameType | None] = []

    def ask(_: int, frame: FrameType | None) -> None:
        if received:
            return
        received.append(frame)
        if number != signal.SIGUSR1 and callable(signal.getsignal(signal.SIGUSR1)):  # a training handles the signal
            signal.raise_signal(signal.SIGUSR1)
        else:
            raise Terminated(signal.Signals(number).name)

    signal.signal(number, ask)
    try:
        yield
    except Terminated:
        if received:
            requeue(number, received[0])
        raise
    finally:
        signal.signal(number, requeue)


_LOOKS_EVERY = {"slurm": 2.0, "local": 0.1, "debug": 0.1}  # seconds between two checks of the files of the jobs
_SECONDS_TO_END = 5.0


class SubmititLauncher(EngineLauncher):
    """Run each task as a separate job by submitit; on Slurm, the tasks are one job array.

    Before its time limit or a preemption, a job saves the state of its training, is requeued, and resumes; after time
    limits, up to three times. A job that ends without a result counts as dead. Ctrl+C and SIGTERM cancel all jobs.

    Parameters
    ----------
    folder : str or path
        Folder of arguments, results and logs of the jobs; on a cluster, a shared folder. It is not removed.
    cluster : str, optional
        ``"slurm"``; ``"local"`` for one process per task on this machine; ``"debug"`` for this process; by default
        Slurm if available.
    threads : int
        Number of threads of torch in each task, and of processors per job.
    num_workers : int, optional
        Number of concurrent jobs; by default limited by this machine or by Slurm.
    timeout_min : int
        Time limit of a job in minutes.
    **parameters
        Further parameters of submitit: ``mem_gb=8``, ``gpus_per_node=1``, ``slurm_partition="long"``, ...

    Raises
    ------
    MissingDependencyError
        If submitit is not installed.
    ConfigError, UnknownNameError
        For a cluster or a parameter unknown to submitit, for Slurm if it is not available, or for numbers out of range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        cluster: str | None = None,
        *,
        threads: int = 1,
        num_workers: int | None = None,
        timeout_min: int = 60,
        **parameters: Any,
    ) -> None:
        super().__init__(threads)
        if importlib.util.find_spec("submitit") is None:
            raise MissingDependencyError("this launcher needs submitit: pip install 'delira_nca[slurm]'")
        if cluster is not None:
            require_choice("cluster", cluster, _LOOKS_EVERY)
        self.num_workers = None if num_workers is None else require_whole("num_workers", num_workers, 1)
        submitit = importlib.import_module("submitit")
        settings = {"timeout_min": require_whole("timeout_min", timeout_min, 1), "cpus_per_task": threads, **parameters}
        try:
            self._executor = submitit.AutoExecutor(folder=absolute(folder), cluster=cluster)
            self.cluster = self._executor.cluster
            if self.num_workers is not None and self.cluster == "slurm":
                settings.setdefault("slurm_array_parallelism", self.num_workers)
            self._executor.update_parameters(**settings)
        except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"submitit: {error}") from error

    def _dumps(self) -> Dumps:
        dumps: Dumps = importlib.import_module("cloudpickle").dumps
        return dumps

    @contextlib.contextmanager
    def _open(self, num_tasks: int) -> Iterator[_Jobs]:
        at_a_time = num_tasks
        if self.cluster != "slurm":
            at_a_time = self.num_workers or max(1, usable_cores() // self.threads)
        with Interruption(lambda name: None) as interruption:
            jobs = _Jobs(self._executor, at_a_time, _LOOKS_EVERY[self.cluster], interruption)
            try:
                yield jobs
            finally:
                jobs.cancel()


class _Jobs(Queue):
    def __init__(self, executor: Any, at_a_time: int, looks_every: float, interruption: Interruption) -> None:
        self._executor, self._at_a_time = executor, at_a_time
        self._looks_every, self._interruption = looks_every, interruption
        super().__init__()
        self._running: dict[int, Any] = {}

    def wait(self) -> tuple[int, bytes | Exception]:
        while True:
            self._submit()
            for number, job in self._running.items():
                self._interruption.conclude()
                if job.done():
                    del self._running[number]
                    return number, self._answer(job)
            time.sleep(self._looks_every)

    def _submit(self) -> None:
        fit = min(self._at_a_time - len(self._running), len(self._waiting))
        if fit:
            numbers, jobs = zip(*(self._waiting.popleft() for _ in range(fit)), strict=True)
            submitted = self._executor.submit_array([SubmittedJob(job) for job in jobs])
            self._running.update(zip(numbers, submitted, strict=True))

    def _answer(self, job: Any) -> bytes | Exception:
        if self._executor.cluster == "local" and not job.paths.result_pickle.exists():
            return ProcessDiedError(
                f"the process of job {job.job_id} ended without a result. Its log: {job.paths.stderr}"
            )
        errors = importlib.import_module("submitit.core.utils")
        try:
            return bytes(job.result())
        except errors.FailedJobError as error:
            failure = LaunchError(f"job {job.job_id} could not run the task: {error}")
            failure.__cause__ = error
            return failure
        except errors.UncompletedJobError as error:
            return ProcessDiedError(str(error))

    def cancel(self) -> None:
        """Cancel running jobs, and wait for local ones."""
        for job in self._running.values():
            job.cancel(check=False)
        end = time.monotonic() + (_SECONDS_TO_END if self._executor.cluster == "local" else 0.0)
        while time.monotonic() < end and not all(job.done() for job in self._running.values()):
            time.sleep(0.05)
