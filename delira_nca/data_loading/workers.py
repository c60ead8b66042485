"""Groups of worker processes that build the batches of an epoch."""

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

_START_LIMIT = 120.0  # seconds for the start of a worker; a new interpreter starts slowly
_LOOKS_EVERY = 0.5  # seconds between two checks whether the workers are alive


class WorkerGroup:
    """Group of worker processes, which are reused for several epochs.

    Each batch is assigned to the worker with the fewest pending orders; batches are returned in order. The group builds
    one epoch at a time: an earlier ``run`` must be finished or closed.

    Parameters
    ----------
    builder : BatchBuilder
        Builder of the batches.
    num_workers : int
        Number of processes, at least 1.
    prefetch : int
        Number of batches that each worker builds ahead.
    start_method : str or None
        Start method of processes; None uses the default of the platform.
    timeout : float
        Timeout for a batch in seconds; 0 waits forever.

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
        """Yield the batches of the tasks in order.

        Raises
        ------
        BatchError
            If a batch cannot be built.
        WorkerError
            If a process ended.
        WorkerTimeoutError
            If a batch exceeds the timeout.
        DeliraNCAError
            If the group was closed in the meantime.
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
        """Order the next batches, and return the number of ordered ones."""
        while sent < min(len(tasks), wanted + self._window):
            worker = max(self._workers, key=lambda w: len(w.free))
            if not worker.free:
                break
            worker.order(self._run, tasks[sent])
            sent += 1
        return sent

    def _read(self, ready: dict[int, Batch | Failure], seconds: float | None) -> None:
        """Receive finished batches; wait for the first message until the timeout or the next check of the workers."""
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
        # The end of a connection shows it earlier, unless a process that a transform started holds it open.
        for worker in self._workers:
            if not (worker.process.is_alive() or worker.connection.poll()):
                raise worker.ended()

    def _patience(self, task: BatchTask, began: float) -> float | None:
        """Return the seconds that remain to wait for a batch, None for no limit.

        Raises
        ------
        WorkerTimeoutError
            If no time remains.
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
        """Stop the processes, also if references to the group remain (for example in a traceback).

        Parameters
        ----------
        at_once : bool
            Whether to kill them; else they have a short time to finish.
        """
        self.is_closed = True
        if self._finalizer.detach():
            end(self._workers, os.getpid(), at_once=at_once)


class BatchWorkers:
    """Builds the batches of a data manager in this process, or in workers that persist between epochs.

    A group of workers builds one epoch at a time. A concurrent iteration uses a separate group. In debug mode, and in
    processes that cannot have children (workers of another pool), batches are built in this process.

    Parameters
    ----------
    builder : BatchBuilder
        Builder of the batches.
    num_workers : int
        Number of processes; 0 builds in this process.
    **options
        See :class:`WorkerGroup`.
    """

    def __init__(self, builder: BatchBuilder, *, num_workers: int, **options: Any) -> None:
        self._builder = builder
        self._num_workers = num_workers
        self._options = options
        self._idle: WorkerGroup | None = None
        self._busy: set[WorkerGroup] = set()
        self._is_retired = False

    def run(self, tasks: Iterable[BatchTask], *, is_here: bool = False) -> Iterator[Batch]:
        """Yield the batches of the tasks in order; with ``is_here``, build them in this process."""
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
        except GeneratorExit:  # iteration stopped early; the workers are in a valid state
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
        """Stop all workers. A running iteration fails at its next batch."""
        for group in (*self._busy, *([self._idle] if self._idle else [])):
            group.close()
        self._idle = None

    def retire(self) -> None:
        """Stop the idle workers now, and the others when their iteration ends."""
        self._is_retired = True
        if self._idle:
            self._idle.close()
        self._idle = None
