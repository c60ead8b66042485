"""Parts of batches. Each rank loads only its part if the source allows it, or cuts it out of the whole batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from delira_nca.data_loading.batch_builder import BatchBuilder, BatchTask, apply, name_of
from delira_nca.data_loading.data_manager import DataManager, Settings
from delira_nca.data_loading.loaders import SampleSource
from delira_nca.data_loading.workers import BatchWorkers
from delira_nca.errors import ConfigError
from delira_nca.rollout.job import BatchPart, at_part, current_part
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.training.batches import Batch, batch_length, batches_of, each

__all__ = ["BatchShard", "PerSample", "Shards", "shard_of_batch"]


class BatchShard(dict[str, Any]):
    """Part of a batch.

    Parameters
    ----------
    entries : mapping of str to array
        Entries by name.
    part : BatchPart
        Position of the samples in the whole batch.
    """

    def __init__(self, entries: Batch, part: BatchPart) -> None:
        super().__init__(entries)
        self.part = part


def shard_of_batch(batch: Batch, rank: int, size: int) -> BatchShard:
    """Cut the part of a rank out of a batch. Entries of another length are copied to all parts.

    Examples
    --------
    >>> import numpy as np
    >>> batch = {"data": np.arange(3), "label": np.arange(3), "name": "disc"}
    >>> shard_of_batch(batch, 1, 2)
    {'data': array([2]), 'label': array([2]), 'name': 'disc'}
    """
    total = batch_length(batch)
    part = BatchPart.of(rank, size, total)
    return BatchShard({k: v[part.rows] if _has_samples(v, total) else v for k, v in batch.items()}, part)


def _has_samples(value: Any, total: int) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes, dict)) and len(value) == total


class Shards:
    """Parts of batches for one rank.

    Parameters
    ----------
    rank, size : int
        Rank of this process, and number of ranks.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._managers: dict[int, _ManagedShards] = {}

    def of(self, source: Any, epoch: int, start: int = 0) -> Generator[BatchShard, None, None]:
        """Yield the parts of the batches of an epoch."""
        if _can_be_divided(source):
            if id(source) not in self._managers:
                self._managers[id(source)] = _ManagedShards(source, self.rank, self.size)
            yield from self._managers[id(source)].epoch(epoch, start)
            return
        with closing(each(batches_of(source, epoch, start))) as whole:
            for batch in whole:
                yield shard_of_batch(batch, self.rank, self.size)

    def close(self) -> None:
        """Stop the workers."""
        for managed in self._managers.values():
            managed.close()
        self._managers = {}


def _can_be_divided(source: Any) -> bool:
    """Whether a part of a batch does not depend on the other samples of the batch."""
    if not isinstance(source, DataManager) or type(source).get_batchgen is not DataManager.get_batchgen:
        return False
    settings = source._settings
    is_known = isinstance(settings.source, SampleSource) and settings.source.is_deterministic
    return is_known and (settings.transforms is None or isinstance(settings.transforms, PerSample))


class _PartBuilder(BatchBuilder):
    """Build the part of one rank from the task of a whole batch."""

    def __init__(self, settings: Settings, rank: int, size: int) -> None:
        super().__init__(settings.source, settings.transforms)
        self.rank, self.size = rank, size

    def __call__(self, task: BatchTask) -> dict[str, Any]:
        part = BatchPart.of(self.rank, self.size, len(task.indices))
        with at_part(part):
            return super().__call__(task._replace(indices=task.indices[part.rows]))


class _ManagedShards:
    """Settings of a data manager, and workers that build one part of each batch."""

    def __init__(self, manager: DataManager, rank: int, size: int) -> None:
        self.manager, self.rank, self.size = manager, rank, size
        self._settings: Settings | None = None
        self._workers: BatchWorkers | None = None

    def epoch(self, epoch: int, start: int) -> Iterator[BatchShard]:
        settings = self.manager._settings
        if self._workers is None or settings is not self._settings:
            self.close()
            self._settings, self._workers = settings, self._make_workers(settings)
        seed = self.manager.get_batchgen(epoch=epoch, start=start).seed  # get_batchgen checks the numbers
        tasks = list(itertools.islice(settings.tasks(seed, epoch), start, None))
        with closing(each(self._workers.run(iter(tasks)))) as batches:
            for task, batch in zip(tasks, batches, strict=True):
                yield BatchShard(batch, BatchPart.of(self.rank, self.size, len(task.indices)))

    def _make_workers(self, settings: Settings) -> BatchWorkers:
        return BatchWorkers(
            _PartBuilder(settings, self.rank, self.size),
            num_workers=settings.n_process_augmentation,
            prefetch=settings.prefetch,
            start_method=settings.start_method,
            timeout=settings.timeout,
        )

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()
        self._workers = None


class PerSample:
    """Transform each sample separately, with its own random numbers.

    Random numbers that a transform draws for a whole batch depend on all of its samples, so that each rank would have
    to build the whole batch. With this wrapper they depend only on seed, epoch, batch and position of the sample: each
    rank builds only its part, and the batch is the same for any number of ranks.

    Parameters
    ----------
    transform : callable
        Transform of the data manager, which is called with batches of one sample.

    Raises
    ------
    ConfigError
        If the transform is not callable; and when batches are built, if it does not return exactly one sample.

    Examples
    --------
    >>> noisy = PerSample(lambda batch: {"data": batch["data"] + np.random.rand()})
    >>> noisy({"data": np.zeros((3, 2))})["data"].shape
    (3, 2)
    """

    def __init__(self, transform: Callable[..., Any]) -> None:
        if not callable(transform):
            raise ConfigError(f"a transform is called with a batch, but {transform!r} cannot be called")
        self.transform = transform

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Transform the samples of a batch, or of this rank's part of one."""
        seed = int(np.random.randint(2**31))
        part = current_part()
        first, num_samples = 0 if part is None else part.first, len(next(iter(batch.values())))
        done = []
        for number in range(num_samples):
            sample = {key: value[number : number + 1] for key, value in batch.items()}
            with isolated_rng(derive_seed(seed, "sample", first + number)):
                done.append(apply(self.transform, sample))
        if wrong := [key for one in done for key, value in one.items() if len(value) != 1]:
            name = name_of(self.transform)
            raise ConfigError(f"{name} has to give one sample for one, but its {wrong[0]!r} has another length")
        return {key: np.concatenate([one[key] for one in done]) for key in done[0]}

    def __repr__(self) -> str:
        return f"PerSample({name_of(self.transform)})"
