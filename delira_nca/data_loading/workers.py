"""Worker processes that build the batches of an epoch together: who is given what, and who is waited for."""

from __future__ import annotations

import multiprocessing
import os
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from delira_nca.data_loading.batch_builder import BatchBuilder, BatchTask
from delira_nca.data_loading.dataset import Batch
from delira_nca.data_loading.failures import Failure, WorkerTimeoutError, failure_of, place_of
from delira_nca.data_loading.show import is_debug
from delira_nca.data_loading.worker import NewRun, Reply
from delira_nca.data_loading.worker_process import Worker, end, require_picklable, start, start_method_of
from delira_nca.errors import DeliraNCAError

__all__ = ["BatchWorkers", "WorkerGroup", "start_method_of"]

_START_LIMIT = 120.0  # seconds that a worker may take to start, which a new interpreter does slowly
_LOOKS_EVERY = 0.5  # seconds from one look whether the workers still live to the next


class WorkerGroup:
    """Worker processes that live as long as the group and build the batches of one epoch after another.

    A batch goes to whoever has least to do; they are delivered in their order all the same. One epoch at a time: the
    caller must be done with, or have given up, an earlier ``run``.

    Parameters
    ----------
    builder : BatchBuilder
        What builds the batches.
    num_workers : int
        Number of processes, at least 1.
    prefetch : int
        Batches that each worker builds ahead.
    start_method : str or None
        How processes are started, ``None`` for the platform's way.
    timeout : float
        Seconds to wait for a batch before an error is raised; 0 waits for ever.

    Raises
    ------
    ConfigError
        If the processes are not forked, and the builder cannot be pickled.
    """

    def __init__(
        self, builder: BatchBuilder, num_workers: int, *, prefetch: int, start_method: str | None, timeout: float
    ) -> None:
        self.is_closed = False
        self._timeout = timeout
        self._run = 0
        self._window = num_workers * prefetch
        self._workers: list[Worker] = []
        self._finalizer = weakref.finalize(self, end, self._workers, os.getpid())
        method = start_method_of(start_method)
        if method != "fork":
            require_picklable(builder.transforms, "transforms", method)
            require_picklable(builder.source, "data", method)
        try:
            for number in range(num_workers):
                self._workers.append(start(builder, number, prefetch, method))
        except BaseException:
            self.close()
            raise

    def run(self, tasks: Sequence[BatchTask]) -> Iterator[Batch]:
        """Yield the batches of the tasks, in their order.

        Raises
        ------
        BatchError
            If a batch cannot be built.
        WorkerError
            If a process ended.
        WorkerTimeoutError
            If a batch takes too long.
        DeliraNCAError
            If the group was closed meanwhile.
        """
        self._require_open()
        self._run += 1
        for worker in self._workers:
            worker.send(NewRun(self._run))
        ready: dict[int, Batch | Failure] = {}
        sent = 0
        for wanted, task in enumerate(tasks):
            self._require_open()
            self._read(ready, 0.0)
            began = time.monotonic()
            while True:
                self._require_open()
                sent = self._hand_out(tasks, sent, wanted)
                if task.number in ready:
                    break
                self._read(ready, self._patience(task, began))
            batch = ready.pop(task.number)
            if isinstance(batch, Failure):
                raise batch.error()
            yield batch

    def _hand_out(self, tasks: Sequence[BatchTask], sent: int, wanted: int) -> int:
        """Order what comes next, and return how much is ordered by now."""
        while sent < min(len(tasks), wanted + self._window):
            worker = max(self._workers, key=lambda w: len(w.free))
            if not worker.free:
                break
            worker.order(self._run, tasks[sent])
            sent += 1
        return sent

    def _read(self, ready: dict[int, Batch | Failure], seconds: float | None) -> None:
        """Take what the workers have finished; wait for the first message so long, or until it is time to look."""
        connections: list[Any] = [worker.connection for worker in self._workers]
        arrived = wait(connections, _LOOKS_EVERY if seconds is None else min(seconds, _LOOKS_EVERY))
        if not arrived and seconds != 0.0:
            self._look_after_workers()
        while arrived:
            for worker in self._workers:
                if worker.connection not in arrived:
                    continue
                message = worker.receive()
                if isinstance(message, Reply):
                    result = worker.settle(message)
                    if message.run == self._run and result is not None:
                        ready[message.number] = result
            arrived = wait(connections, 0.0)

    def _look_after_workers(self) -> None:
        # The end of a connection says it sooner, unless a process that a transform started holds it open.
        for worker in self._workers:
            if not (worker.process.is_alive() or worker.connection.poll()):
                raise worker.ended()

    def _patience(self, task: BatchTask, began: float) -> float | None:
        """Seconds that are left to wait for a batch, ``None`` for ever.

        Raises
        ------
        WorkerTimeoutError
            If none are left.
        """
        if not self._timeout:
            return None
        waited = time.monotonic() - began
        limit = self._timeout if all(w.has_started for w in self._workers) else max(self._timeout, _START_LIMIT)
        if waited < limit:
            return limit - waited
        busy = [worker for worker in self._workers if worker.orders]
        slow = next((w for w in busy if any(order.task is task for order in w.orders)), busy[0])
        error = WorkerTimeoutError(
            f"{place_of(*task.place)} timed out after {limit:g} seconds. {slow.name} (pid {slow.process.pid}) "
            + (f"is still building {slow.place}" if slow.has_started else "has not started")
            + f"; timeout=0 would wait for ever.\n{slow.stack()}"
        )
        self.close(at_once=True)
        raise error

    def _require_open(self) -> None:
        if self.is_closed:
            raise DeliraNCAError("the data manager was closed while its batches were iterated")

    def close(self, *, at_once: bool = False) -> None:
        """End the processes now, whoever still refers to the group (a traceback may).

        Parameters
        ----------
        at_once : bool
            Kill them; else they may finish what they are at, for a moment.
        """
        self.is_closed = True
        if self._finalizer.detach():
            end(self._workers, os.getpid(), at_once=at_once)


class BatchWorkers:
    """Builder of the batches of a manager: this process, or workers that are kept from one epoch to the next.

    A group of workers builds one epoch at a time. An iteration that starts beside a running one gets a group of its
    own, so that neither sees the other's batches. In debug mode, and in a process that may have no children (a
    worker of another pool), this process builds.

    Parameters
    ----------
    builder : BatchBuilder
    num_workers : int
        Number of processes; 0 builds in this one.
    **options
        As for :class:`WorkerGroup`.
    """

    def __init__(self, builder: BatchBuilder, *, num_workers: int, **options: Any) -> None:
        self._builder = builder
        self._num_workers = num_workers
        self._options = options
        self._idle: WorkerGroup | None = None
        self._busy: set[WorkerGroup] = set()
        self._is_retired = False

    def run(self, tasks: Iterable[BatchTask], *, is_here: bool = False) -> Iterator[Batch]:
        """Yield the batches of the tasks, in their order; ``is_here`` keeps the workers out of it."""
        if is_here or self._num_workers == 0 or is_debug() or multiprocessing.current_process().daemon:
            yield from self._run_here(tasks)
            return
        tasks = list(tasks)
        group, self._idle = self._idle or self._hire(), None
        self._busy.add(group)
        is_sound = False
        try:
            yield from group.run(tasks)
            is_sound = True
        except GeneratorExit:  # left early; the workers are fine
            is_sound = True
            raise
        finally:
            self._busy.discard(group)
            if is_sound and not (self._is_retired or group.is_closed or self._idle):
                self._idle = group
            else:
                group.close()

    def _run_here(self, tasks: Iterable[BatchTask]) -> Iterator[Batch]:
        for task in tasks:
            try:
                batch = self._builder(task)
            except Exception as error:
                raise failure_of(error, task.place).error() from error
            yield batch

    def _hire(self) -> WorkerGroup:
        return WorkerGroup(self._builder, self._num_workers, **self._options)

    def close(self) -> None:
        """End all workers. An iteration that still runs fails at its next batch."""
        for group in (*self._busy, *([self._idle] if self._idle else [])):
            group.close()
        self._idle = None

    def retire(self) -> None:
        """End the workers that have nothing to do, and the others when their iteration is over."""
        self._is_retired = True
        if self._idle:
            self._idle.close()
        self._idle = None
