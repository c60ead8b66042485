"""Groups of worker processes that compute numbered tasks ahead of time."""

from __future__ import annotations

import math
import os
import pickle
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import wait
from typing import Any

from delira_nca.errors import DeliraNCAError
from delira_nca.workers.child import Handler, NewRun, Reply
from delira_nca.workers.failures import WorkerDiedError, WorkerTimeoutError
from delira_nca.workers.process import WorkerProcess, end_workers
from delira_nca.workers.shared_memory import Arrays, Entry, read_arrays

__all__ = ["WorkerGroup"]

_START_LIMIT = 120.0  # minimum timeout in seconds until all workers have started; a new interpreter starts slowly
_CHECK_INTERVAL = 0.5  # seconds between two checks whether the workers are alive


class WorkerGroup:
    """Group of worker processes. Tasks are submitted by number, and results requested by number.

    A task is assigned to the worker with the most free slots as soon as there is one. Its slot is in use until its
    result is released. The processes are stopped by `close`, when the group is garbage-collected, and at exit.

    Parameters
    ----------
    handler : callable
        Function that a worker calls for each task. Unless the workers are forked, it must be picklable.
    num_workers : int
        Number of processes, at least 1.
    num_slots : int
        Number of slots of each worker: the maximum number of its tasks between submission and release.
    method : {"fork", "spawn", "forkserver"}
        Start method of the processes.
    name : str
        Name of a worker in messages; its number is appended.
    describe : callable
        Function that describes the content of a task, for messages.
    hint : str
        Advice if a worker was probably killed because the machine is out of memory.
    """

    def __init__(
        self,
        handler: Handler,
        num_workers: int,
        *,
        num_slots: int,
        method: str,
        name: str = "worker process",
        describe: Callable[[Any], str] = str,
        hint: str = "",
    ) -> None:
        self.owner = os.getpid()
        self._describe, self._hint = describe, hint
        self._run = 0
        self._waiting: deque[tuple[int, Any]] = deque()
        self._replies: dict[int, tuple[WorkerProcess, Reply]] = {}
        self._workers: list[WorkerProcess] = []
        self._finalizer = weakref.finalize(self, end_workers, self._workers, self.owner)
        try:
            for number in range(num_workers):
                self._workers.append(WorkerProcess(handler, f"{name} {number}", method=method, num_slots=num_slots))
        except BaseException:
            self.close()
            raise

    @property
    def is_closed(self) -> bool:
        """Whether the processes were stopped."""
        return not self._finalizer.alive

    def start_run(self) -> None:
        """Cancel all tasks that were submitted before, and discard their results."""
        self._require_usable()
        self._run += 1
        self._waiting.clear()
        for worker in self._workers:
            worker.send(NewRun(self._run))
        for number in list(self._replies):
            self.release(number)

    def submit(self, number: int, content: Any) -> None:
        """Submit a task. Its number must not be in use."""
        self._waiting.append((number, content))
        self._assign()

    def _assign(self) -> None:
        while self._waiting:
            able = (worker for worker in self._workers if not worker.is_deaf)
            worker = max(able, key=lambda worker: len(worker.free), default=None)
            if worker is None or not worker.free:
                return
            worker.submit(self._run, *self._waiting.popleft())

    def wait_for(self, number: int, seconds: float = 0.0) -> None:
        """Wait for the result of a submitted task.

        Parameters
        ----------
        number : int
            Number of the task.
        seconds : float
            Timeout, which begins when all processes have started; 0 waits forever.

        Raises
        ------
        WorkerTimeoutError
            If the result is not available in time. It can be requested again.
        WorkerDiedError
            If a worker ended, and the result is not available.
        DeliraNCAError
            If the group was closed in the meantime, or belongs to another process.
        """
        began, is_starting = time.monotonic(), True
        self._require_usable()
        while number not in self._replies:
            self._require_usable()
            if is_starting and all(worker.has_started for worker in self._workers):
                began, is_starting = time.monotonic(), False  # the timeout does not include the start
            limit, left = seconds, math.inf
            if seconds:
                limit = max(seconds, _START_LIMIT) if is_starting else seconds
                left = began + limit - time.monotonic()
            if left <= 0.0:
                raise self._timeout(number, limit)
            ended = self._collect(min(left, _CHECK_INTERVAL))
            if ended and number not in self._replies:
                raise self._death(next((worker for worker in ended if self._is_pending(worker, number)), ended[0]))

    def collect(self) -> None:
        """Receive the results that have arrived, without waiting."""
        self._collect(0.0)

    def result(self, number: int) -> tuple[Any, str, float]:
        """Return what the handler returned for a finished task, the name of the worker, and the duration in seconds."""
        worker, reply = self._replies[number]
        return pickle.loads(reply.content or b""), worker.name, reply.seconds

    def arrays(self, number: int, entries: Iterable[Entry], *, copy: bool = True) -> Arrays:
        """Return the arrays of a finished task; with ``copy=False``, views that are valid until its release."""
        worker, reply = self._replies[number]
        return read_arrays(entries, worker.segments[reply.slot], copy=copy)

    def release(self, number: int) -> None:
        """Release the slot of a finished task."""
        worker, reply = self._replies.pop(number)
        worker.free.append(reply.slot)
        self._assign()

    def close(self, *, at_once: bool = False) -> None:
        """Stop the processes, also if references to the group remain (for example in a traceback).

        Parameters
        ----------
        at_once : bool
            Whether to kill them; else they have a short time to finish.
        """
        if self._finalizer.detach():
            end_workers(self._workers, self.owner, **({"grace": 0.0, "patience": 0.0} if at_once else {}))

    def _collect(self, seconds: float) -> list[WorkerProcess]:
        """Receive results, and wait for the first message until the timeout. Return the workers that have ended.

        The exit code shows the end of a process even if a child of it holds the connection and the sentinel open.
        """
        ends: list[Any] = [worker.connection for worker in self._workers if not worker.is_deaf]
        arrived = wait([*ends, *(worker.process.sentinel for worker in self._workers)], seconds)
        ended = [] if arrived and seconds == 0.0 else [worker for worker in self._workers if worker.has_ended]
        for worker in self._workers:  # after the check, so that the last messages of a dead worker are included
            for reply in worker.receive():
                if reply.run == self._run and reply.content is not None:
                    self._replies[reply.number] = (worker, reply)
                else:
                    worker.free.append(reply.slot)
        self._assign()
        return ended

    def _death(self, worker: WorkerProcess) -> WorkerDiedError:
        at = f"at {self._describe(worker.pending[0].content)}" if worker.pending else "while it was idle"
        return worker.death(at, self._hint)

    def _timeout(self, number: int, limit: float) -> WorkerTimeoutError:
        busy = [worker for worker in self._workers if worker.pending]
        worker = next((worker for worker in busy if self._is_pending(worker, number)), busy[0])
        contents = dict(self._waiting) | {task.number: task.content for task in worker.pending}
        at = f"is at {self._describe(worker.pending[0].content)}" if worker.has_started else "has not started"
        return WorkerTimeoutError(
            f"{self._describe(contents[number])} was not ready within {limit:g} seconds (a timeout of 0 waits "
            f"forever): {worker.name} {at}. {worker.stack()}"
        )

    def _is_pending(self, worker: WorkerProcess, number: int) -> bool:
        return any((task.run, task.number) == (self._run, number) for task in worker.pending)

    def _require_usable(self) -> None:
        if os.getpid() != self.owner:
            raise DeliraNCAError("worker processes belong to the process that started them, not to a fork of it")
        if self.is_closed:
            raise DeliraNCAError("the worker processes were stopped while a result was awaited")
