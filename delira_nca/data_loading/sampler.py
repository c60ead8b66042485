"""Samplers, which define the order of samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from delira_nca import seeding
from delira_nca.checks import require_whole
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.data_loading.labels import as_labels, encode
from delira_nca.errors import ConfigError, ShapeError

__all__ = [
    "AbstractSampler",
    "BatchSampler",
    "PrevalenceRandomSampler",
    "RandomSampler",
    "RandomSamplerNoReplacement",
    "RandomSamplerWithReplacement",
    "SequentialSampler",
    "WeightedRandomSampler",
]


class AbstractSampler(ABC):
    """Base class of samplers.

    Implement ``__iter__``, and ``__len__`` if the number of drawn samples is not that of the indices.

    Parameters
    ----------
    indices : sequence of int or ndarray
        Indices to draw from. The sampler yields these numbers, not their positions.
    generator : np.random.Generator or None
        Random generator; by default a new one with seed 0. The data manager passes one that depends on seed and epoch.
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
        """Make the sampler of a whole dataset. Override it in samplers that use labels."""
        return cls(np.arange(len(dataset)), generator=generator, **kwargs)

    @abstractmethod
    def __iter__(self) -> Iterator[int]:
        """Yield the indices of one epoch in order."""

    def __len__(self) -> int:
        return len(self.indices)


class SequentialSampler(AbstractSampler):
    """Yield the indices in the given order.

    Examples
    --------
    >>> list(SequentialSampler([5, 6, 7]))
    [5, 6, 7]
    """

    def __iter__(self) -> Iterator[int]:
        yield from self.indices.tolist()


class RandomSampler(AbstractSampler):
    """Yield the indices in random order, which differs in every iteration.

    Parameters
    ----------
    indices : sequence of int or ndarray
        Indices to draw from.
    replacement : bool
        Whether to draw with replacement.
    num_samples : int or None
        Number of samples per epoch; by default that of the indices.
    generator : np.random.Generator or None
        Random generator; by default a new one with seed 0.

    Raises
    ------
    ConfigError
        If ``num_samples`` is not an integer of at least 1, or larger than the number of indices without replacement.

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
    """Yield every index once, in random order.

    Parameters
    ----------
    indices, generator
        See `RandomSampler`.
    """

    def __init__(
        self, indices: Sequence[int] | npt.NDArray[Any], *, generator: np.random.Generator | None = None
    ) -> None:
        super().__init__(indices, generator=generator)


class RandomSamplerWithReplacement(RandomSampler):
    """Draw from the indices with replacement.

    Parameters
    ----------
    indices, num_samples, generator
        See `RandomSampler`.
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
    """Iterable of indices with a length."""


class BatchSampler:
    """Group the indices of another sampler into lists, one per batch.

    It is meant for loops that use a dataset directly; the data manager does not need it.

    Parameters
    ----------
    sampler : SizedIterable
        Iterable of single indices with a length.
    batch_size : int
        Number of indices per list, at least 1.
    drop_last : bool
        Whether to drop an incomplete last list.

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


class WeightedRandomSampler(AbstractSampler):
    """Draw samples with probabilities proportional to weights.

    Parameters
    ----------
    weights : sequence of float or ndarray
        (N,) finite, non-negative weights with any sum. Samples with weight 0 are never drawn.
    num_samples : int or None
        Number of samples per epoch; N by default.
    indices : sequence of int, ndarray or None
        (N,) indices to draw from; 0 to N - 1 by default.
    replacement : bool
        Whether to draw with replacement.
    generator : np.random.Generator or None
        Random generator; by default a new one with seed 0.

    Raises
    ------
    ConfigError
        If a weight is negative or not finite, all are 0, or ``num_samples`` exceeds the number of positive weights
        without replacement.
    ShapeError
        If the numbers of weights and indices differ.

    Examples
    --------
    >>> set(WeightedRandomSampler([0, 1, 3], num_samples=50, indices=[7, 8, 9])) == {8, 9}
    True
    """

    def __init__(
        self,
        weights: Sequence[float] | npt.NDArray[Any],
        num_samples: int | None = None,
        *,
        indices: Sequence[int] | npt.NDArray[Any] | None = None,
        replacement: bool = True,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.weights = _checked(weights)
        super().__init__(np.arange(len(self.weights)) if indices is None else indices, generator=generator)
        if len(self.indices) != len(self.weights):
            raise ShapeError(
                f"there are {len(self.weights)} weights for {len(self.indices)} samples; store the weights of a "
                "dataset in an entry of it, and name that as key, then subsets have the right ones"
            )
        self.replacement = replacement
        self.num_samples = len(self.weights) if num_samples is None else require_whole("num_samples", num_samples, 1)
        drawable = int(np.count_nonzero(self.weights))
        if not replacement and self.num_samples > drawable:
            raise ConfigError(
                f"num_samples={self.num_samples} is more than the {drawable} samples with a weight above 0; "
                "set replacement=True to draw one more than once"
            )

    @classmethod
    def from_dataset(
        cls,
        dataset: AbstractDataset,
        *,
        generator: np.random.Generator,
        key: str | None = None,
        weights: Sequence[float] | npt.NDArray[Any] | None = None,
        **kwargs: Any,
    ) -> AbstractSampler:
        """Make the sampler of a whole dataset.

        Parameters
        ----------
        dataset : AbstractDataset
            Dataset to draw from.
        generator : np.random.Generator
            Random generator.
        key : str or None
            Entry with the weight of a sample.
        weights : sequence of float, ndarray or None
            Weights in the order of the samples, instead of ``key``.
        **kwargs : object
            Further arguments of the sampler.
        """
        if (key is None) == (weights is None):
            raise ConfigError(f"{cls.__name__} needs either weights, or key, the entry of a sample that is its weight")
        values: Any = weights if key is None else as_labels(dataset.column(key), "weight")
        return cls(values, indices=np.arange(len(dataset)), generator=generator, **kwargs)

    def __iter__(self) -> Iterator[int]:
        share = self.weights / self.weights.sum()
        yield from self.generator.choice(self.indices, self.num_samples, replace=self.replacement, p=share).tolist()

    def __len__(self) -> int:
        return int(self.num_samples)


class PrevalenceRandomSampler(WeightedRandomSampler):
    """Draw with replacement such that all classes are equally likely.

    Parameters
    ----------
    labels : sequence or ndarray
        (N,) class of each sample: integers, strings, or other comparable values, but not NaN.
    num_samples, indices, generator
        See `WeightedRandomSampler`.

    Examples
    --------
    >>> labels = ["healthy"] * 98 + ["ill"] * 2
    >>> drawn = list(PrevalenceRandomSampler(labels, num_samples=1000))
    >>> 450 < sum(index >= 98 for index in drawn) < 550
    True
    """

    def __init__(
        self,
        labels: Sequence[Any] | npt.NDArray[Any],
        num_samples: int | None = None,
        *,
        indices: Sequence[int] | npt.NDArray[Any] | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.classes, codes = encode(as_labels(labels))
        weights = 1 / np.bincount(codes)[codes]
        super().__init__(weights, num_samples, indices=indices, generator=generator)

    @classmethod
    def from_dataset(
        cls,
        dataset: AbstractDataset,
        *,
        generator: np.random.Generator,
        key: str | None = "label",
        labels: Sequence[Any] | npt.NDArray[Any] | None = None,
        **kwargs: Any,
    ) -> AbstractSampler:
        """Make the sampler of a whole dataset.

        Parameters
        ----------
        dataset, generator, **kwargs
            See `WeightedRandomSampler.from_dataset`.
        key : str or None
            Entry with the class of a sample. It is read once; see `AbstractDataset.column`.
        labels : sequence, ndarray or None
            Classes in the order of the samples, instead of ``key``.
        """
        if labels is None and key is None:
            raise ConfigError(f"{cls.__name__} needs either labels, or key, the entry of a sample that is its class")
        values: Any = dataset.column(str(key)) if labels is None else labels
        return cls(values, indices=np.arange(len(dataset)), generator=generator, **kwargs)


def _checked(weights: Sequence[float] | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    try:
        array = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"weights must be numbers: {error}") from error
    if array.ndim != 1 or not array.size:
        raise ShapeError(f"weights must be a non-empty list of numbers, not one of shape {array.shape}")
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if wrong.size:
        raise ConfigError(f"a weight must be finite and at least 0; that of sample {wrong[0]} is {array[wrong[0]]}")
    if not array.any():
        raise ConfigError("all weights are 0: nothing could be drawn")
    return array
