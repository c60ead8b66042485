"""The engine under the data manager: builds one whole batch, here or in a worker process, always by the same code.

What a batch holds is a function of its task alone. Workers therefore have nothing to agree on, and none is special.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from delira_nca import seeding
from delira_nca.data_loading.dataset import Batch, Indices
from delira_nca.data_loading.debug import is_debug
from delira_nca.data_loading.failures import failure_of
from delira_nca.errors import ConfigError

if TYPE_CHECKING:
    from delira_nca.data_loading.workers import WorkerGroup

__all__ = ["BatchBuilder", "BatchTask", "Crew", "Source"]


class BatchTask(NamedTuple):
    """All that decides what is in a batch, apart from the data themselves."""

    seed: int
    epoch: int
    number: int
    indices: Indices

    @property
    def place(self) -> tuple[int, int, Indices]:
        """Epoch, index and samples, for messages."""
        return self.epoch, self.number, self.indices


class Source(Protocol):
    """Where untransformed batches come from."""

    @property
    def is_deterministic(self) -> bool:
        """Whether `load` draws nothing from a global generator."""

    def load(self, task: BatchTask) -> dict[str, Any]:
        """Batch of a task; the global generators are seeded for it."""

    def settle(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make arrays of what is none, after the transforms."""


class BatchBuilder:
    """Turns a task into a batch: takes the samples, transforms them, checks and settles the arrays.

    Parameters
    ----------
    source : where batches are taken from.
    transforms : see `delira_nca.data_loading.DataManager`; ``None`` leaves the samples as they are.
    """

    def __init__(self, source: Source, transforms: Callable[..., Any] | None) -> None:
        self.source = source
        self.transforms = transforms
        self.may_draw = transforms is not None or not source.is_deterministic

    def __call__(self, task: BatchTask) -> Batch:
        """Build the batch of a task: contiguous, writable arrays of its own."""
        if not self.may_draw:
            return self._build(task)
        # Torch's generator is seeded where torch is loaded: what a transform loads later would draw at will.
        import torch  # noqa: F401

        with seeding.isolated_rng(seeding.derive_seed(task.seed, "augment", task.epoch, task.number)):
            return self._build(task)

    def _build(self, task: BatchTask) -> Batch:
        batch = self.source.load(task)
        if self.transforms is not None:
            batch = apply(self.transforms, batch)
        batch = self.source.settle(batch)
        name = "the data loader" if self.transforms is None else f"the transform {name_of(self.transforms)}"
        for key, value in batch.items():
            if not isinstance(key, str) or not isinstance(value, np.ndarray):
                raise ConfigError(
                    f"{name} must return a dict of numpy arrays, but its entry {key!r} "
                    f"is a {type(value).__name__}; the network makes tensors of the arrays later"
                )
        return {key: _settle(array) for key, array in batch.items()}


class Crew:
    """Who builds the batches of a manager: this process, or workers that are kept from one epoch to the next.

    A group of workers builds one epoch at a time. An iteration that starts beside a running one gets a group of its
    own, so that neither sees the other's batches. In debug mode, and in a process that may have no children (a
    worker of somebody else), this process builds.

    Parameters
    ----------
    builder : what builds the batches.
    num_workers : number of processes; 0 builds in this one.
    **options : see `WorkerGroup`.
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
        from delira_nca.data_loading.workers import WorkerGroup

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


def apply(transforms: Callable[..., Any], batch: dict[str, Any]) -> dict[str, Any]:
    """Transform a batch; what batchgenerators calls a transform takes the entries as keyword arguments."""
    result = transforms(**batch) if _takes_keywords(transforms) else transforms(batch)
    if not isinstance(result, dict):
        raise ConfigError(
            f"the transform {name_of(transforms)} must return the batch as a dict of arrays, "
            f"not a {type(result).__name__}" + (" (is its 'return' missing?)" if result is None else "")
        )
    return result


def name_of(transforms: Callable[..., Any]) -> str:
    """Name of a transform, for messages."""
    return str(getattr(transforms, "__name__", type(transforms).__name__))


def _takes_keywords(transforms: object) -> bool:
    module = sys.modules.get("batchgenerators.transforms.abstract_transforms")  # loaded where a transform exists
    return bool(module is not None and isinstance(transforms, module.AbstractTransform))


def _settle(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Same layout and order of bytes whoever built it, so that sums over it are the same to the last bit."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.flags.c_contiguous and array.flags.writeable:
        return array
    settled: npt.NDArray[Any] = array.copy(order="C")
    return settled
