"""The engine under the data manager: builds one whole batch, here or in a worker process, always by the same code.

What a batch holds is a function of its task alone. Workers therefore have nothing to agree on, and none is special.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from delira_nca import seeding
from delira_nca.data_loading.dataset import AbstractDataset, Batch, Indices
from delira_nca.errors import ConfigError, DeliraNCAError

__all__ = ["BatchBuilder", "BatchTask", "Crew", "WorkerGroup"]

# From this size on an array travels through shared memory; below it, pickling through the pipe is faster.
_SHARED_FROM_BYTES = 1 << 16


class BatchTask(NamedTuple):
    """All that decides what is in a batch, apart from the data themselves."""

    seed: int
    epoch: int
    number: int
    indices: Indices


class BatchBuilder(Dataset[Batch]):
    """Turn a task into a batch: take the samples, transform them, check and settle the arrays.

    Parameters
    ----------
    dataset : where samples are taken from.
    transforms : see `delira_nca.data_loading.DataManager`; ``None`` leaves the samples as they are.
    """

    def __init__(self, dataset: AbstractDataset, transforms: Callable[..., Any] | None) -> None:
        self.dataset = dataset
        self.transforms = transforms
        self.may_draw = transforms is not None or not dataset.is_deterministic

    def __getitem__(self, task: BatchTask) -> Batch:
        """Build the batch of a task: contiguous, writable arrays of its own."""
        isolated: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.may_draw:
            isolated = seeding.isolated_rng(seeding.derive_seed(task.seed, "augment", task.epoch, task.number))
        with isolated:
            batch = self.dataset.take(task.indices)
            if self.transforms is not None:
                batch = self._transform(self.transforms, batch)
        return {key: _settle(array) for key, array in batch.items()}

    @staticmethod
    def _transform(transforms: Callable[..., Any], batch: Batch) -> Batch:
        result = transforms(**batch) if _takes_keywords(transforms) else transforms(batch)
        name = getattr(transforms, "__name__", type(transforms).__name__)
        if not isinstance(result, dict):
            raise ConfigError(
                f"the transform {name} must return the batch as a dict of arrays, not a {type(result).__name__}"
                + (" (is its 'return' missing?)" if result is None else "")
            )
        for key, value in result.items():
            if not isinstance(key, str) or not isinstance(value, np.ndarray):
                raise ConfigError(
                    f"the transform {name} must return a dict of numpy arrays, but its entry {key!r} "
                    f"is a {type(value).__name__}; the network makes tensors of the arrays later"
                )
        return result


class Crew:
    """Who builds the batches of a manager: this process, or workers that are kept from one epoch to the next.

    A group of workers builds one epoch at a time. An iteration that starts beside a running one gets a group of its
    own, so that neither sees the other's batches.

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

    def run(self, tasks: Iterable[BatchTask]) -> Iterator[Batch]:
        """Yield the batches of the tasks, in their order."""
        if self._num_workers == 0:
            for task in tasks:
                yield self._builder[task]
            return
        tasks = list(tasks)
        group, self._idle = self._idle or WorkerGroup(self._builder, self._num_workers, **self._options), None
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


class WorkerGroup:
    """Worker processes that live as long as the group and build the batches of one epoch after another.

    One epoch at a time: the caller must be done with, or have given up, an earlier ``run``.

    Parameters
    ----------
    builder : what builds the batches.
    num_workers : number of processes, at least 1.
    prefetch : batches that each worker builds ahead.
    start_method : how processes are started, ``None`` for the platform's way.
    timeout : seconds to wait for a batch before an error is raised; 0 waits for ever.
    """

    def __init__(
        self, builder: BatchBuilder, num_workers: int, *, prefetch: int, start_method: str | None, timeout: float
    ) -> None:
        self.is_closed = False
        self._tasks: list[BatchTask] = []
        self._loader: DataLoader[Any] = DataLoader(
            builder,
            batch_size=None,
            sampler=_Tasks(self._tasks),
            num_workers=num_workers,
            collate_fn=_pack,
            timeout=timeout,
            multiprocessing_context=start_method,
            generator=torch.Generator(),  # else torch draws from the generator that the user owns
            prefetch_factor=prefetch,
            persistent_workers=True,
        )

    def run(self, tasks: list[BatchTask]) -> Iterator[Batch]:
        """Yield the batches of the tasks, in their order.

        Raises
        ------
        DeliraNCAError
            If the group was closed meanwhile.
        """
        self._tasks[:] = tasks
        batches = iter(self._loader)
        for _ in tasks:
            if self.is_closed:
                raise DeliraNCAError("the data manager was closed while its batches were iterated")
            yield {key: _unpack(value) for key, value in next(batches).items()}

    def close(self) -> None:
        """End the processes now, whoever still refers to the group (a traceback may)."""
        self.is_closed = True
        workers, self._loader._iterator = self._loader._iterator, None
        if workers is not None:
            workers._shutdown_workers()  # type: ignore[attr-defined]


class _Tasks:
    """What the loader takes for its sampler: the tasks at the moment when an epoch starts."""

    def __init__(self, tasks: list[BatchTask]) -> None:
        self._tasks = tasks

    def __iter__(self) -> Iterator[BatchTask]:
        return iter(list(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)


def _takes_keywords(transforms: object) -> bool:
    """Whether this is a transform of batchgenerators, which takes the entries of a batch as keyword arguments."""
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


def _pack(batch: Any) -> dict[str, Any]:
    """Make tensors of large arrays: torch moves them through shared memory. Runs in the worker."""
    return {key: _to_tensor(array) for key, array in batch.items()}


def _to_tensor(array: npt.NDArray[Any]) -> Any:
    if array.nbytes < _SHARED_FROM_BYTES or array.dtype.kind not in "biufc":
        return array
    try:
        return torch.from_numpy(array)
    except TypeError:  # a type of numbers that torch does not have
        return array


def _unpack(value: Any) -> npt.NDArray[Any]:
    """Copy out of shared memory, so that kept batches hold no file descriptors."""
    array: npt.NDArray[Any] = value.numpy().copy() if isinstance(value, torch.Tensor) else value
    return array
