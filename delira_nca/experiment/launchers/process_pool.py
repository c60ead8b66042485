"""Launcher that runs tasks in worker processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from delira_nca.checks import require_whole
from delira_nca.experiment.launchers.attempt import PackedTask, attempt
from delira_nca.experiment.launchers.engine import EngineLauncher, Queue
from delira_nca.experiment.launchers.launcher import LaunchError, ProcessDiedError
from delira_nca.machine import usable_cores
from delira_nca.training.interruption import Interruption
from delira_nca.workers import SlotWriter, WorkerProcess, end_workers, require_importable_main

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
    """

    def __init__(self, num_workers: int | None = None, *, threads: int = 1, patience: int = 30) -> None:
        super().__init__(threads)
        default = max(1, usable_cores() // self.threads)
        self.num_workers = default if num_workers is None else require_whole("num_workers", num_workers, 1)
        self.patience = require_whole("patience", patience, 0)

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


def _attempt(task: PackedTask, slot: SlotWriter) -> bytes:
    return attempt(task)


class _Pool(Queue):
    def __init__(self, num_workers: int, patience: int, interruption: Interruption, heard: Connection) -> None:
        self._num_workers, self._patience = num_workers, patience
        self._interruption, self._heard = interruption, heard
        super().__init__()
        self._workers: list[WorkerProcess] = []
        self._num_started = 0

    def wait(self) -> tuple[int, bytes | Exception]:
        while True:
            self._assign()
            # a child of a worker may keep its connection open, so that the end of the process is checked too
            ends = [end for worker in self._workers for end in (worker.connection, worker.process.sentinel)]
            wait([self._heard, *ends])
            self._interruption.conclude()
            for worker in list(self._workers):
                has_ended = worker.has_ended
                for reply in worker.receive():
                    worker.free.append(reply.slot)
                    return reply.number, reply.content or b""
                if has_ended or worker.is_deaf:
                    self._workers.remove(worker)
                    error = _death(worker)
                    if worker.pending:
                        return worker.pending[0].number, error

    def _assign(self) -> None:
        """Assign waiting tasks to idle workers, and to new ones up to ``num_workers``."""
        while self._waiting:
            worker = next((worker for worker in self._workers if worker.free), None)
            if worker is None:
                if len(self._workers) == self._num_workers:
                    return
                name = f"task process {self._num_started}"
                # a training may take its time to save its state when the parent ends, and starts workers of its own
                worker = WorkerProcess(
                    _attempt, name, method="spawn", num_slots=1, patience=max(self._patience, 0.01), is_helper=False
                )
                self._num_started += 1
                self._workers.append(worker)
            worker.submit(0, *self._waiting.popleft())

    def end(self, patience: int | None) -> None:
        """Stop the processes by SIGTERM with a patience in seconds; None for idle ones, which end by themselves."""
        grace, patience = (5.0, 1) if patience is None else (0.0, patience)
        end_workers(self._workers, os.getpid(), grace=grace, patience=patience)


def _death(worker: WorkerProcess) -> ProcessDiedError:
    """Return an error for the task of a dead worker, or raise an error if no process can be started."""
    error = worker.death("in the middle of its task")
    if not worker.has_started:
        raise LaunchError(str(error))
    return ProcessDiedError(str(error))
