"""Worker processes that build the batches of an epoch together: who is given what, and who is waited for."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from delira_nca.data_loading.dataset import Batch
from delira_nca.data_loading.engine import BatchBuilder, BatchTask
from delira_nca.data_loading.failures import Failure, WorkerTimeoutError, place_of
from delira_nca.data_loading.worker import NewRun, Reply
from delira_nca.data_loading.worker_process import Worker, end, require_picklable, start, start_method_of
from delira_nca.errors import DeliraNCAError

__all__ = ["WorkerGroup", "start_method_of"]

_START_LIMIT = 120.0  # seconds that a worker may take to start, which a new interpreter does slowly
_LOOKS_EVERY = 0.5  # seconds from one look whether the workers still live to the next


class WorkerGroup:
    """Worker processes that live as long as the group and build the batches of one epoch after another.

    A batch goes to whoever has least to do; they are delivered in their order all the same. One epoch at a time: the
    caller must be done with, or have given up, an earlier ``run``.

    Parameters
    ----------
    builder : what builds the batches.
    num_workers : number of processes, at least 1.
    prefetch : batches that each worker builds ahead.
    start_method : how processes are started, ``None`` for the platform's way.
    timeout : seconds to wait for a batch before an error is raised; 0 waits for ever.

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
        at_once : kill them; else they may finish what they are at, for a moment.
        """
        self.is_closed = True
        if self._finalizer.detach():
            end(self._workers, os.getpid(), at_once=at_once)
