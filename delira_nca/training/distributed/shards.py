"""Parts of batches: each process builds its own where the source allows it, and cuts it out of the whole elsewhere."""

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
    """Entries of some samples of a batch.

    Parameters
    ----------
    entries : mapping of str to array
        By name.
    part : BatchPart
        Which samples of the whole they are.
    """

    def __init__(self, entries: Batch, part: BatchPart) -> None:
        super().__init__(entries)
        self.part = part


def shard_of_batch(batch: Batch, rank: int, size: int) -> BatchShard:
    """Cut a part out of a batch; entries that are not as long as it belong to all of its parts.

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
    """Batches of one process, of several that share each batch.

    Parameters
    ----------
    rank, size : int
        Number of this process, and of all.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._managers: dict[int, _ManagedShards] = {}

    def of(self, source: Any, epoch: int, start: int = 0) -> Generator[BatchShard, None, None]:
        """Yield the shards of an epoch."""
        if _can_be_divided(source):
            if id(source) not in self._managers:
                self._managers[id(source)] = _ManagedShards(source, self.rank, self.size)
            yield from self._managers[id(source)].epoch(epoch, start)
            return
        with closing(each(batches_of(source, epoch, start))) as whole:
            for batch in whole:
                yield shard_of_batch(batch, self.rank, self.size)

    def close(self) -> None:
        """End the workers."""
        for managed in self._managers.values():
            managed.close()
        self._managers = {}


def _can_be_divided(source: Any) -> bool:
    """Whether a part of a batch is the same whether the rest of the batch is built or not."""
    if not isinstance(source, DataManager) or type(source).get_batchgen is not DataManager.get_batchgen:
        return False
    settings = source._settings
    is_known = isinstance(settings.source, SampleSource) and settings.source.is_deterministic
    return is_known and (settings.transforms is None or isinstance(settings.transforms, PerSample))


class _PartBuilder(BatchBuilder):
    """Builds one process's part of a batch from the task of the whole one."""

    def __init__(self, settings: Settings, rank: int, size: int) -> None:
        super().__init__(settings.source, settings.transforms)
        self.rank, self.size = rank, size

    def __call__(self, task: BatchTask) -> dict[str, Any]:
        part = BatchPart.of(self.rank, self.size, len(task.indices))
        with at_part(part):
            return super().__call__(task._replace(indices=task.indices[part.rows]))


class _ManagedShards:
    """A data manager's settings, and workers that build one part of each batch."""

    def __init__(self, manager: DataManager, rank: int, size: int) -> None:
        self.manager, self.rank, self.size = manager, rank, size
        self._settings: Settings | None = None
        self._crew: BatchWorkers | None = None

    def epoch(self, epoch: int, start: int) -> Iterator[BatchShard]:
        settings = self.manager._settings
        if self._crew is None or settings is not self._settings:
            self.close()
            self._settings, self._crew = settings, self._hire(settings)
        seed = self.manager.get_batchgen(epoch=epoch, start=start).seed  # which checks the numbers
        tasks = list(itertools.islice(settings.tasks(seed, epoch), start, None))
        with closing(each(self._crew.run(iter(tasks)))) as batches:
            for task, batch in zip(tasks, batches, strict=True):
                yield BatchShard(batch, BatchPart.of(self.rank, self.size, len(task.indices)))

    def _hire(self, settings: Settings) -> BatchWorkers:
        return BatchWorkers(
            _PartBuilder(settings, self.rank, self.size),
            num_workers=settings.n_process_augmentation,
            prefetch=settings.prefetch,
            start_method=settings.start_method,
            timeout=settings.timeout,
        )

    def close(self) -> None:
        if self._crew is not None:
            self._crew.close()
        self._crew = None


class PerSample:
    """Transform each sample by itself, with random numbers of its own.

    What a transform draws for a whole batch depends on every sample in it, so that each of several processes has to
    build the whole. With this around it, the random numbers of a sample are a function of seed, epoch, batch and the
    sample's place in it: each process builds its part alone, and the batch is the same for any number of them.

    Parameters
    ----------
    transform : callable
        As the data manager takes it; it is called with batches of one sample.

    Raises
    ------
    ConfigError
        If the transform cannot be called; and when batches are built, if it gives more or less than one sample.

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
        """Transform the samples of a batch, or of this process's part of one."""
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
