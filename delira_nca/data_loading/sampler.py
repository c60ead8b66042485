"""Samplers: in which order the samples of one epoch are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from delira_nca import seeding
from delira_nca.checks import require_whole
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.errors import ConfigError

__all__ = [
    "AbstractSampler",
    "BatchSampler",
    "RandomSampler",
    "RandomSamplerNoReplacement",
    "RandomSamplerWithReplacement",
    "SequentialSampler",
]


class AbstractSampler(ABC):
    """An order of indices.

    Implement ``__iter__``, and ``__len__`` where it draws more or fewer than it was
    given.

    Parameters
    ----------
    indices : what is drawn from; the sampler yields these numbers themselves, not their positions.
    generator : where random numbers come from; ``None`` is a new one of seed 0. The data manager hands in
        one that is keyed by seed and epoch.

    Raises
    ------
    ConfigError
        If the indices are empty, not integers, or not one-dimensional.
    """

    def __init__(
        self, indices: Sequence[int] | npt.NDArray[Any], *, generator: np.random.Generator | None = None
    ) -> None:
        array = np.asarray(indices)
        if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
            raise ConfigError(
                f"a sampler draws from a non-empty list of integers, not from {array.dtype} of shape {array.shape}"
            )
        self.indices = array.astype(np.int64)
        self.generator = seeding.generator(0, "sample") if generator is None else generator

    @classmethod
    def from_dataset(
        cls, dataset: AbstractDataset, *, generator: np.random.Generator, **kwargs: Any
    ) -> AbstractSampler:
        """Build the sampler of a whole dataset; override it in a sampler that looks at labels."""
        return cls(np.arange(len(dataset)), generator=generator, **kwargs)

    @abstractmethod
    def __iter__(self) -> Iterator[int]:
        """Yield the indices of one epoch, in order."""

    def __len__(self) -> int:
        return len(self.indices)


class SequentialSampler(AbstractSampler):
    """The given indices in the given order.

    Examples
    --------
    >>> list(SequentialSampler([5, 6, 7]))
    [5, 6, 7]
    """

    def __iter__(self) -> Iterator[int]:
        yield from self.indices.tolist()


class RandomSampler(AbstractSampler):
    """The given indices in random order; each iteration draws anew.

    Parameters
    ----------
    indices : what is drawn from.
    replacement : whether an index can be drawn again.
    num_samples : how many are drawn; ``None`` is as many as there are indices.
    generator : where random numbers come from; ``None`` is a new one of seed 0.

    Raises
    ------
    ConfigError
        If ``num_samples`` is not an integer of at least 1, or more than there are without replacement.

    Examples
    --------
    >>> sorted(RandomSampler([5, 6, 7]))
    [5, 6, 7]
    >>> len(list(RandomSampler([5, 6, 7], replacement=True, num_samples=100)))
    100
    """

    def __init__(
        self,
        indices: Sequence[int] | npt.NDArray[Any],
        replacement: bool = False,
        num_samples: int | None = None,
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__(indices, generator=generator)
        self.replacement = replacement
        self.num_samples = len(self.indices) if num_samples is None else require_whole("num_samples", num_samples, 1)
        if not replacement and self.num_samples > len(self.indices):
            raise ConfigError(
                f"num_samples={num_samples} is more than the {len(self.indices)} indices that there are; "
                "set replacement=True to draw one more than once"
            )

    def __iter__(self) -> Iterator[int]:
        yield from self.generator.choice(self.indices, self.num_samples, replace=self.replacement).tolist()

    def __len__(self) -> int:
        return int(self.num_samples)


class RandomSamplerNoReplacement(RandomSampler):
    """Each of the given indices once, in random order.

    Parameters
    ----------
    indices : what is drawn from.
    generator : where random numbers come from; ``None`` is a new one of seed 0.
    """

    def __init__(
        self, indices: Sequence[int] | npt.NDArray[Any], *, generator: np.random.Generator | None = None
    ) -> None:
        super().__init__(indices, generator=generator)


class RandomSamplerWithReplacement(RandomSampler):
    """Draw from the given indices; each can come again.

    Parameters
    ----------
    indices : what is drawn from.
    num_samples : how many are drawn; ``None`` is as many as there are indices.
    generator : where random numbers come from; ``None`` is a new one of seed 0.
    """

    def __init__(
        self,
        indices: Sequence[int] | npt.NDArray[Any],
        num_samples: int | None = None,
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__(indices, True, num_samples, generator=generator)


class SizedIterable(Sized, Iterable[int], Protocol):
    """Anything that gives indices and says how many."""


class BatchSampler:
    """The indices of another sampler, as lists of a batch each.

    The data manager does this by itself; this is for loops that draw from a dataset directly.

    Parameters
    ----------
    sampler : gives single indices; anything that can be iterated and has a length.
    batch_size : indices in a list, at least 1.
    drop_last : whether an incomplete last list is left out.

    Raises
    ------
    ConfigError
        If the size is not an integer of at least 1.

    Examples
    --------
    >>> list(BatchSampler(SequentialSampler([5, 6, 7]), 2))
    [[5, 6], [7]]
    """

    def __init__(self, sampler: SizedIterable, batch_size: int, drop_last: bool = False) -> None:
        self.sampler = sampler
        self.batch_size = require_whole("batch_size", batch_size, 1)
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full if self.drop_last or not rest else full + 1
