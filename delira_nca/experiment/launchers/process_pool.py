"""Launcher that runs tasks in worker processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from delira_nca.data_loading.child_process import require_importable_main
from delira_nca.experiment.launchers.attempt import Job
from delira_nca.experiment.launchers.engine import EngineLauncher, require_count
from delira_nca.experiment.launchers.pool_worker import Worker, end
from delira_nca.machine import usable_cores
from delira_nca.training.interruption import Interruption

__all__ = ["ProcessPoolLauncher"]


class ProcessPoolLauncher(EngineLauncher):
    """Run tasks in spawned worker processes.

    If a process dies, only its current task is affected. Ctrl+C and SIGTERM end all processes; trainings have time to
    save their state. If the parent is killed, workers end in the same way. A script that starts the launcher must
    protect its main code by ``if __name__ == "__main__":``. Functions and classes of a notebook, of ``python -c`` or of
    a program on standard input raise an error, since other processes cannot import them.

    Parameters
    ----------
    num_workers : int, optional
        Number of processes; by default the number of usable cores divided by ``threads``.
    threads : int
        Number of threads of torch in each task.
    patience : int
        Seconds that a training has to save its state before its process is killed.

    Raises
    ------
    ConfigError
        For numbers out of range.
    """

    def __init__(self, num_workers: int | None = None, *, threads: int = 1, patience: int = 30) -> None:
        super().__init__(threads)
        default = max(1, usable_cores() // self.threads)
        self.num_workers = default if num_workers is None else require_count("num_workers", num_workers)
        self.patience = require_count("patience", patience, least=0)

    def _check(self, function: Callable[..., Any], tasks: Sequence[Mapping[str, Any]]) -> None:
        require_importable_main((function, tasks), "the task")

    @contextlib.contextmanager
    def _open(self, num_tasks: int) -> Iterator[_Pool]:
        heard, bell = multiprocessing.Pipe(duplex=False)
        with heard, bell, Interruption(lambda name: bell.send_bytes(b"!")) as interruption:
            pool = _Pool(self.num_workers, self.patience, interruption, heard)
            try:
                yield pool
            except BaseException:
                pool.end(self.patience)
                raise
            pool.end(None)


class _Pool:
    def __init__(self, num_workers: int, patience: int, interruption: Interruption, heard: Connection) -> None:
        self._num_workers, self._patience = num_workers, patience
        self._interruption, self._heard = interruption, heard
        self._waiting: deque[tuple[int, Job]] = deque()
        self._workers: list[Worker] = []

    def start(self, jobs: Mapping[int, Job]) -> None:
        self._waiting.extend(jobs.items())

    def wait(self) -> tuple[int, bytes | Exception]:
        while True:
            self._give()
            ends = {end: worker for worker in self._workers for end in (worker.connection, worker.process.sentinel)}
            ready = wait([self._heard, *ends])
            self._interruption.conclude()
            for worker in {id(ends[each]): ends[each] for each in ready if each in ends}.values():
                answer = self._listen(worker)
                if answer is not None:
                    return answer

    def _listen(self, worker: Worker) -> tuple[int, bytes | Exception] | None:
        number = worker.job
        try:
            answer: bytes | Exception = worker.answer()
        except (EOFError, OSError):
            self._workers.remove(worker)
            answer = worker.died()
        if answer == b"":
            worker.has_started = True
            return None
        worker.job = None
        return None if number is None else (number, answer)

    def _give(self) -> None:
        """Assign waiting jobs to idle workers, and to new ones up to ``num_workers``."""
        while self._waiting:
            worker = next((each for each in self._workers if each.job is None), None)
            if worker is None:
                if len(self._workers) == self._num_workers:
                    return
                worker = Worker(self._patience)
                self._workers.append(worker)
            number, job = self._waiting[0]
            with contextlib.suppress(OSError):  # a dead worker is detected when its answer is received
                worker.connection.send(job)
            worker.job = number
            self._waiting.popleft()

    def end(self, patience: int | None) -> None:
        end([(worker.process, worker.connection) for worker in self._workers], patience)
