"""Building of the batches of a data manager, in this process or in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from delira_nca.data_loading.batch_builder import BatchBuilder, BatchTask
from delira_nca.data_loading.dataset import Batch
from delira_nca.data_loading.failures import BatchFailure, failure_of, place_of
from delira_nca.data_loading.show import is_debug
from delira_nca.errors import DeliraNCAError
from delira_nca.workers import SlotWriter, WorkerGroup, WorkerTimeoutError, require_picklable, start_method_of

__all__ = ["WITHOUT_WORKERS", "BatchWorkers"]

WITHOUT_WORKERS = "n_process_augmentation=0"
"""Setting that avoids worker processes, for messages."""


@dataclass(frozen=True)
class _BatchHandler:
    """Handler of the tasks in a worker process."""

    builder: BatchBuilder

    def __call__(self, task: BatchTask, slot: SlotWriter) -> bytes:
        try:
            batch = self.builder(task)
            return pickle.dumps((tuple(batch), slot.write(batch.values())))
        except Exception as error:
            where = f"{multiprocessing.current_process().name} (pid {os.getpid()})"
            return pickle.dumps(failure_of(error, task.place, where=where))


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
    prefetch : int
        Number of batches that each worker builds ahead.
    start_method : str or None
        Start method of processes; None uses the default of the platform.
    timeout : float
        Timeout for a batch in seconds; 0 waits forever.
    """

    def __init__(
        self, builder: BatchBuilder, *, num_workers: int, prefetch: int, start_method: str | None, timeout: float
    ) -> None:
        self._builder, self._num_workers, self._prefetch = builder, num_workers, prefetch
        self._start_method, self._timeout = start_method, timeout
        self._idle: WorkerGroup | None = None
        self._busy: set[WorkerGroup] = set()
        self._is_retired = False

    def run(self, tasks: Iterable[BatchTask], *, is_here: bool = False) -> Iterator[Batch]:
        """Yield the batches of the tasks in order; with ``is_here``, build them in this process.

        Raises
        ------
        BatchError
            If a batch cannot be built.
        WorkerDiedError
            If a process ended.
        WorkerTimeoutError
            If a batch exceeds the timeout.
        DeliraNCAError
            If the workers were closed in the meantime.
        """
        if is_here or self._num_workers == 0 or is_debug() or multiprocessing.current_process().daemon:
            yield from self._run_here(tasks)
            return
        group, self._idle = self._idle, None
        if group is None or group.owner != os.getpid():  # a fork of this process has no workers
            group = self._make_group()
        self._busy.add(group)
        is_sound = False
        try:
            yield from self._run_in(group, list(tasks))
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

    def _run_in(self, group: WorkerGroup, tasks: Sequence[BatchTask]) -> Iterator[Batch]:
        group.start_run()
        ahead = self._num_workers * self._prefetch
        for task in tasks[:ahead]:
            group.submit(task.number, task)
        for place, task in enumerate(tasks):
            _require_open(group)
            try:
                group.wait_for(task.number, self._timeout)
            except WorkerTimeoutError:
                group.close(at_once=True)
                raise
            except DeliraNCAError:
                _require_open(group)
                raise
            answer, *_ = group.result(task.number)
            if isinstance(answer, BatchFailure):
                raise answer.error()
            keys, entries = answer
            batch = dict(zip(keys, group.arrays(task.number, entries), strict=True))
            group.release(task.number)
            if place + ahead < len(tasks):
                group.submit(tasks[place + ahead].number, tasks[place + ahead])
            yield batch

    def _make_group(self) -> WorkerGroup:
        method = start_method_of(self._start_method)
        require_picklable(self._builder.transforms, "transforms", method, WITHOUT_WORKERS)
        require_picklable(self._builder.source, "data", method, WITHOUT_WORKERS)
        return WorkerGroup(
            _BatchHandler(self._builder),
            self._num_workers,
            num_slots=self._prefetch,
            method=method,
            describe=lambda task: place_of(*task.place),
            hint=(
                "fewer workers, a smaller prefetch or smaller batches need less; the log of the system or of the "
                "cluster says what was killed"
            ),
        )

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


def _require_open(group: WorkerGroup) -> None:
    if group.is_closed:
        raise DeliraNCAError("the data manager was closed while its batches were iterated")
