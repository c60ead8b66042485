"""Background processes that make numbered calls ahead of time, and the assignment of calls and slots."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import threading
import time
import weakref
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from delira_nca.data_loading.background.faults import TimeoutError, WorkerDiedError  # noqa: A004
from delira_nca.data_loading.background.layout import Flat, Layout
from delira_nca.data_loading.background.process import Estate, Worker
from delira_nca.data_loading.background.slots import Slots
from delira_nca.data_loading.background.worker import Birth, Done, Failed, Hello, Job, Ready, Run, Scout
from delira_nca.errors import ConfigError, DeliraNCAError

__all__ = ["Crew"]

_MOST_PENDING = 64  # maximum number of calls in the pipe of a worker, low enough that sending never blocks
_START_LIMIT = 60.0  # minimum timeout in seconds for the start of processes


class Crew:
    """Workers that make numbered calls of one job ahead of time, with each result in a slot until it is released.

    A call is assigned to the worker with the fewest pending calls. Results are requested by number.

    Parameters
    ----------
    job : Job
        Function and arguments. method : str Start method of the processes.
    num_workers : int
        Number of workers, at least 1.
    first_call : int
        Number of the first call.
    limit : int or None
        Number of the first call that is not made; None for no limit.

    Raises
    ------
    ConfigError
        If this process cannot have children, or the job cannot be sent to them.
    """

    def __init__(self, job: Job, method: str, num_workers: int, first_call: int, limit: int | None = None) -> None:
        if multiprocessing.current_process().daemon:
            raise ConfigError(
                "this process is a worker of somebody else and may start no processes of its own; use n_proc=0, "
                "or delira_nca.data_loading.show.debug_mode()"
            )
        birth = Birth(
            job=job if method == "fork" else _pickled(job, method),
            parent=os.getpid(),
            is_forked=method == "fork",
            is_tied=method == "forkserver" or threading.current_thread() is threading.main_thread(),
        )
        self._next, self._limit = first_call, math.inf if limit is None else limit
        self._free: list[int] = []
        self._slot: dict[int, int] = {}
        self._answers: dict[int, Done | Failed] = {}
        self._maker: dict[int, Worker] = {}
        self._estate = Estate()
        self.close = weakref.finalize(self, self._estate.clear)
        try:
            if os.name == "posix":
                resource_tracker.ensure_running()  # otherwise each forked worker would start its own tracker
            for number in range(num_workers):
                self._estate.workers.append(Worker(number, birth, multiprocessing.get_context(method)))
        except BaseException:
            self.close()
            raise

    def furnish(self, layout: Layout, num_slots: int) -> None:
        """Create the slots, and begin with the calls when the workers are attached to them."""
        self._estate.slots = slots = Slots(layout, num_slots)
        self._free = list(range(num_slots))
        for worker in self._estate.workers:
            worker.send(slots)
        self._assign()

    def scout(self) -> int:
        """Start a call with an unknown layout of its result, which is sent through a pipe. Return its number."""
        call, self._next = self._next, self._next + 1
        self._give(self._estate.workers[0], call, Scout(call))
        return call

    def wait_until_ready(self, seconds: float = 0.0) -> None:
        """Wait until all workers have started and are attached to the slots, which then need no name.

        Parameters
        ----------
        seconds : float
            Timeout, at least one minute for the start of processes; 0 waits forever.

        Raises
        ------
        TimeoutError, WorkerDiedError, ConfigError
            As in `wait_for`.
        """
        self._wait(None, max(seconds, _START_LIMIT) if seconds else 0.0)

    def wait_for(self, call: int, seconds: float = 0.0) -> None:
        """Wait for the result of a started call.

        Parameters
        ----------
        call : int
            Number of the call.
        seconds : float
            Timeout; 0 waits forever.

        Raises
        ------
        TimeoutError
            If the result is not available in time.
        WorkerDiedError
            If a worker ended without the result.
        ConfigError
            If the workers cannot load the target.
        """
        self._wait(call, seconds)

    def look(self, call: int, *, view: bool = False) -> Flat:
        """Return the result of a finished call.

        Parameters
        ----------
        call : int
            Number of the call.
        view : bool
            Whether to return views of the slot instead of copies.

        Raises
        ------
        Exception
            The exception that the call raised.
        """
        answer = self._answers[call]
        if isinstance(answer, Failed):
            raise answer.failure.error(f"{self._maker[call].name}, call {call}")
        if answer.content is not None:
            return answer.content._replace(arrays=[np.array(array, order="C") for array in answer.content.arrays])
        slots = self._estate.slots
        if slots is None:
            raise WorkerDiedError("the background processes were ended meanwhile")
        arrays = [array.view() if view else array.copy() for array in slots[self._slot[call]]]
        return Flat(answer.container, slots.layout.keys, arrays)

    def seconds(self, call: int) -> tuple[float, int]:
        """Return the duration of a finished call, and the number of its worker."""
        answer = self._answers[call]
        return (answer.seconds if isinstance(answer, Done) else math.nan), self._maker[call].number

    def release(self, call: int) -> None:
        """Release the slot of a finished call for a further call."""
        del self._answers[call], self._maker[call]
        if call in self._slot:
            self._free.append(self._slot.pop(call))
        self._collect()
        self._assign()

    def _assign(self) -> None:
        while self._free and self._next < self._limit:
            worker = min(self._estate.workers, key=lambda worker: len(worker.pending))
            if len(worker.pending) >= _MOST_PENDING:
                break
            call, slot, self._next = self._next, self._free.pop(), self._next + 1
            self._slot[call] = slot
            self._give(worker, call, Run(call, slot))

    def _give(self, worker: Worker, call: int, message: Run | Scout) -> None:
        self._maker[call] = worker
        worker.pending.append(call)
        worker.send(message)

    def _wait(self, call: int | None, seconds: float) -> None:
        """Wait for a call; with None, until all workers are ready."""
        if os.getpid() != self._estate.owner:
            raise DeliraNCAError("background processes work for the process that started them, not for a fork of it")
        end = time.monotonic() + seconds if seconds else math.inf
        while True:
            dead = [worker for worker in self._estate.workers if worker.process.exitcode is not None]
            self._collect()  # after the check, so that the last messages of a dead worker are included
            if self._is_ready if call is None else call in self._answers:
                return
            if dead:
                raise next((worker for worker in dead if call in worker.pending), dead[0]).death()
            left = end - time.monotonic()
            if left <= 0:
                raise self._timeout(call, seconds)
            workers = self._estate.workers
            ends: list[Any] = [worker.tasks for worker in workers if not worker.is_deaf]
            wait([*ends, *(worker.process.sentinel for worker in workers)], min(1.0, left))

    def _timeout(self, call: int | None, seconds: float) -> TimeoutError:
        if call is None:
            return TimeoutError(f"the background processes did not start within {seconds:g} seconds")
        worker = self._maker[call]
        return TimeoutError(
            f"call {call} was not ready within {seconds:g} seconds: {worker.name} is at call {worker.pending[0]}. "
            f"{worker.stack()}"
        )

    @property
    def _is_ready(self) -> bool:
        has_slots = self._estate.slots is not None
        return all(worker.is_ready if has_slots else worker.has_begun for worker in self._estate.workers)

    def _collect(self) -> None:
        """Receive all messages of the workers."""
        for worker in self._estate.workers:
            for message in worker.receive():
                self._note(worker, message)

    def _note(self, worker: Worker, message: Hello | Ready | Done | Failed) -> None:
        if isinstance(message, (Done, Failed)):
            worker.pending.remove(message.call)
            self._answers[message.call] = message
            return
        if isinstance(message, Hello) and message.failure is not None:
            raise ConfigError(
                "the target cannot be loaded in a background process: put what it needs into a module that can be "
                "imported there (a function of a notebook or a console cannot), or use start_method='fork'"
            ) from message.failure.error(worker.name)
        worker.has_begun = True
        worker.is_ready = isinstance(message, Ready)
        if self._is_ready and self._estate.slots is not None:
            self._estate.slots.unlink()


def _pickled(job: Job, method: str) -> bytes:
    for what, value in (("target", job.target), ("target_args", job.args), ("target_kwargs", job.kwargs)):
        try:
            pickle.dumps(value)
        except Exception as error:
            raise ConfigError(
                f"start_method={method!r} sends {what} to other processes, but {_short(value)} cannot be pickled "
                f"({error}). Define functions and classes at the top of a module, not as a lambda or in a function, "
                "or use start_method='fork' or n_proc=0"
            ) from error
    return pickle.dumps(job, protocol=5)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
