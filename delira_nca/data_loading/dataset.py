"""Datasets of indexed samples, each a dict of arrays."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca import seeding
from delira_nca.checks import require_whole
from delira_nca.data_loading.batches import (
    Batch,
    Indices,
    IndicesLike,
    as_indices,
    name_number,
    require_keys,
    require_name,
    stack,
)
from delira_nca.errors import ConfigError, DeliraNCAError, ShapeError, UnknownNameError, did_you_mean

__all__ = [
    "AbstractDataset",
    "Batch",
    "DataLike",
    "DictDataset",
    "Indices",
    "IndicesLike",
    "IterableDataset",
    "SubsetDataset",
    "as_dataset",
    "as_indices",
    "repeat",
]


class AbstractDataset(ABC):
    """Base class of datasets.

    Implement ``__len__`` and ``__getitem__``. Override `take` if whole batches can be loaded faster.

    Attributes
    ----------
    is_deterministic : bool
        Whether reading a sample does not use global random generators. If it is False (the default), the data manager
        seeds these generators before reading, so that random reading is reproducible. Set it to True in deterministic
        classes to load slightly faster.

    Examples
    --------
    >>> class Squares(AbstractDataset):
    ...     is_deterministic = True
    ...     def __len__(self):
    ...         return 10
    ...     def __getitem__(self, index):
    ...         return {"x": index, "y": index**2}
    >>> Squares().take([1, 3])["y"].tolist()
    [1, 9]
    >>> Squares().get_subset([7, 8, 9])[0]
    {'x': 7, 'y': 49}
    """

    is_deterministic: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return a sample as a dict of arrays or numbers without a batch axis. Raise ``IndexError`` beyond the end."""

    def take(self, indices: IndicesLike) -> Batch:
        """Return several samples stacked along a new first axis.

        Parameters
        ----------
        indices : sequence of int
            Indices of the samples, in any order and with repetitions.

        Returns
        -------
        dict of (len(indices), ...) arrays, which share no memory with the dataset

        Raises
        ------
        ConfigError
            If there are no indices, or the keys of the samples differ.
        ShapeError
            If the shapes of an entry differ. The message names key and sample.
        """
        numbers = as_indices(indices, len(self)).tolist()
        return stack([self[number] for number in numbers], numbers, self.described)

    def get_sample_from_index(self, index: int) -> Mapping[str, Any]:
        """Return ``self[index]``."""
        return self[index]

    def get_subset(self, indices: IndicesLike) -> SubsetDataset:
        """Return a view of some samples. Its sample ``i`` is ``self[indices[i]]``; nothing is copied."""
        return SubsetDataset(self, indices)

    def column(self, key: str) -> npt.NDArray[Any]:
        """Return one entry of all samples, stacked, such as the labels for splits and samplers.

        If samples are read on demand, all of them are read once; entries with a single value per sample are cached.

        Parameters
        ----------
        key : str
            Name of the entry.

        Returns
        -------
        (len(self), ...) array

        Raises
        ------
        UnknownNameError
            If a sample has no such entry.
        ShapeError
            If the shapes of the entry differ.
        """
        known: Batch = self.__dict__.setdefault("_columns", {})
        if key in known:
            return known[key]
        with reading(self):
            parts = [{key: _entry(self[number], key, self.name_of(number))} for number in range(len(self))]
        array = stack(parts, range(len(parts)), self.name_of)[key]
        if array.size == len(array):
            known[key] = array
        return array

    def check(self, *, same_shape: bool = True) -> None:
        """Read every sample once, for example before a long training.

        Parameters
        ----------
        same_shape : bool
            Whether all samples must have the same shapes. Set it to False for batches of one sample.

        Raises
        ------
        ConfigError
            If there are errors. The message has one line per sample that cannot be read or has NaN or infinite values,
            followed by the differing shapes, each with a sample.
        """
        problems: list[str] = []
        shapes: dict[str, dict[tuple[int, ...], int]] = {}
        with reading(self):
            for number in range(len(self)):
                try:
                    sample = self.checked_sample(number)
                except DeliraNCAError as error:
                    problems.append(str(error))
                    continue
                for key, value in sample.items():
                    if (array := np.asarray(value)).dtype.kind in "biufc":
                        shapes.setdefault(key, {}).setdefault(array.shape, number)
        if problems:
            problems.insert(0, f"{len(problems)} of {len(self)} samples cannot be used:")
        if same_shape:
            problems += [self._differing(key, found) for key, found in sorted(shapes.items()) if len(found) > 1]
        if problems:
            raise ConfigError("\n".join(problems))

    def checked_sample(self, index: int) -> Mapping[str, Any]:
        """Return a sample; raise an error that names it if it cannot be read, or has NaN or infinite values."""
        try:
            sample = self[index]
            arrays = {key: np.asarray(value) for key, value in sample.items()}
        except DeliraNCAError:
            raise
        except Exception as error:
            raise ConfigError(f"{self.name_of(index)}: {type(error).__name__}: {error}") from error
        for key, array in arrays.items():
            if array.dtype.kind in "fc" and (wrong := int((~np.isfinite(array)).sum())):
                raise ConfigError(
                    f"{self.name_of(index)}: {wrong} of {array.size} values of {key!r} are NaN or infinite"
                )
        return sample

    def described(self, index: int) -> str:
        """Return the name of a sample and its files."""
        return self.name_of(index)

    def _differing(self, key: str, found: Mapping[tuple[int, ...], int]) -> str:
        """Return a line with the shapes of an entry and the first sample of each."""
        parts = [f"{shape} in {self.described(number)}" for shape, number in list(found.items())[:10]]
        more = f", and {len(found) - 10} more" if len(found) > 10 else ""
        return (
            f"no batch can hold all samples, since the shapes of {key!r} differ: {'; '.join(parts)}{more}. "
            "Resize them, or take batches of one sample"
        )

    def name_of(self, index: int) -> str:
        """Return the name of a sample for messages, with the file if it is read from one."""
        return name_number(index)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for number in range(len(self)):
            yield self[number]


class DictDataset(AbstractDataset):
    """Samples in arrays of equal length, ``{"data": (N, ...), "label": (N, ...)}``.

    Row ``i`` of each is sample ``i``.

    The arrays are never copied: memory maps remain on disk, and arrays expanded by ``np.broadcast_to`` remain small.

    Parameters
    ----------
    data : dict
        Arrays by name, or objects that ``np.asarray`` converts (lists, CPU tensors).

    Raises
    ------
    ShapeError
        If the lengths of the arrays differ, or an entry is a scalar.

    Examples
    --------
    >>> dataset = DictDataset({"data": np.zeros((3, 1, 8, 8)), "label": [0, 1, 1]})
    >>> len(dataset), dataset[2]["data"].shape, dataset.take([0, 2])["label"].tolist()
    (3, (1, 8, 8), [0, 1])
    """

    is_deterministic = True

    def __init__(self, data: Mapping[str, npt.ArrayLike]) -> None:
        if not data:
            raise ConfigError("a dataset needs at least one array, this mapping is empty")
        self.arrays: Batch = {require_name(key): _as_array(key, value) for key, value in data.items()}
        lengths = {key: len(array) for key, array in self.arrays.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key!r}: {length}" for key, length in lengths.items())
            raise ShapeError(f"the arrays of a dataset must be equally long along their first axis, not {shown}")
        self._length = next(iter(lengths.values()))
        if self._length == 0:
            raise ConfigError(f"a dataset needs at least one sample; the length of {list(lengths)} is 0")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        return {key: array[index] for key, array in self.arrays.items()}

    def take(self, indices: IndicesLike) -> Batch:
        """Return copies of rows of every array; see `AbstractDataset.take`."""
        rows = as_indices(indices, self._length)
        return {key: array[rows] for key, array in self.arrays.items()}

    def column(self, key: str) -> npt.NDArray[Any]:
        """Return the array of an entry."""
        return np.asarray(_entry(self.arrays, key, "the dataset"))


class IterableDataset(AbstractDataset):
    """Samples in a list of dicts, all with the same keys.

    Parameters
    ----------
    data : iterable of dict
        Mappings of names to arrays or numbers. The iterable is read once, and its samples are kept in memory.

    Examples
    --------
    >>> dataset = IterableDataset({"x": np.full(2, i)} for i in range(3))
    >>> dataset.take([2, 0])["x"].tolist()
    [[2, 2], [0, 0]]
    """

    is_deterministic = True

    def __init__(self, data: Iterable[Mapping[str, Any]]) -> None:
        self.samples = list(data)
        if not self.samples:
            raise ConfigError("a dataset needs at least one sample, this iterable gave none")
        for number, sample in enumerate(self.samples):
            if not isinstance(sample, Mapping):
                raise ConfigError(f"{self.name_of(number)} is a {type(sample).__name__}, not a dict of arrays")
            require_keys(sample, number, self.samples[0], 0, self.name_of)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.samples[index]


class SubsetDataset(AbstractDataset):
    """View of some samples of another dataset, in the given order.

    A subset of a subset refers to the original dataset directly, so nesting has no cost.

    Parameters
    ----------
    dataset : AbstractDataset
        Dataset of the samples.
    indices : sequence of int
        Integers from 0 to ``len(dataset) - 1``; repetitions are allowed.

    Raises
    ------
    ConfigError
        If there are no indices, or they are not such integers (convert bool masks by ``np.flatnonzero``).

    Examples
    --------
    >>> dataset = DictDataset({"x": np.arange(10)})
    >>> subset = dataset.get_subset([7, 8, 9])
    >>> subset.take([0, 1])["x"].tolist(), subset.get_subset([2])[0]["x"].item()
    ([7, 8], 9)
    """

    def __init__(self, dataset: AbstractDataset, indices: IndicesLike) -> None:
        self.indices: Indices = as_indices(indices, len(dataset)).copy()
        if isinstance(dataset, SubsetDataset):
            self.indices, dataset = dataset.indices[self.indices], dataset.dataset
        self.dataset: AbstractDataset = dataset
        self.is_deterministic = dataset.is_deterministic

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.dataset[int(self.indices[index])]

    def take(self, indices: IndicesLike) -> Batch:
        """Return several samples by one call of the underlying dataset; see `AbstractDataset.take`."""
        return self.dataset.take(self.indices[as_indices(indices, len(self))])

    def name_of(self, index: int) -> str:
        """Return the name of the sample in the underlying dataset."""
        return self.dataset.name_of(int(self.indices[index]))

    def checked_sample(self, index: int) -> Mapping[str, Any]:
        """Return a checked sample of the underlying dataset."""
        return self.dataset.checked_sample(int(self.indices[index]))

    def described(self, index: int) -> str:
        """Return the name and the files of the sample in the underlying dataset."""
        return self.dataset.described(int(self.indices[index]))

    def column(self, key: str) -> npt.NDArray[Any]:
        """Return one entry of all samples. The underlying dataset reads and caches that of all its samples."""
        array: npt.NDArray[Any] = self.dataset.column(key)[self.indices]
        return array


DataLike = AbstractDataset | Mapping[str, npt.ArrayLike] | Iterable[Mapping[str, Any]]


def repeat(sample: Mapping[str, npt.ArrayLike], times: int) -> DictDataset:
    """Return a dataset that repeats one sample without copying it.

    It can be used to train an automaton on one image, with the same seed and target in every batch.

    Parameters
    ----------
    sample : dict
        Arrays by name, without a batch axis.
    times : int
        Number of samples, at least 1.

    Examples
    --------
    >>> dataset = repeat({"data": np.zeros((16, 8, 8)), "label": np.ones((4, 8, 8))}, 1000)
    >>> len(dataset), dataset.arrays["data"].strides[0]
    (1000, 0)
    """
    require_whole("times", times, 1)
    arrays = {key: np.asarray(value) for key, value in sample.items()}
    return DictDataset({key: np.broadcast_to(array, (times, *array.shape)) for key, array in arrays.items()})


def as_dataset(data: DataLike) -> AbstractDataset:
    """Convert data to a dataset.

    A dataset is returned unchanged; a mapping of arrays or an iterable of dicts is wrapped.

    Examples
    --------
    >>> len(as_dataset({"x": np.zeros((5, 2))})), len(as_dataset([{"x": 1}, {"x": 2}]))
    (5, 2)
    """
    if isinstance(data, AbstractDataset):
        return data
    if isinstance(data, Mapping):
        return DictDataset(data)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, np.ndarray)):
        return IterableDataset(data)
    raise ConfigError(
        f"data must be a dataset, a dict of arrays, or an iterable of dicts, not a {type(data).__name__}; "
        "wrap an array as {'data': array}, and derive what reads samples on demand from AbstractDataset"
    )


def reading(dataset: AbstractDataset) -> contextlib.AbstractContextManager[None]:
    """Return a context for reading samples outside of batches, which preserves the global random generators."""
    return contextlib.nullcontext() if dataset.is_deterministic else seeding.isolated_rng(0)


def _entry(sample: Mapping[str, Any], key: str, owner: str) -> Any:
    if key not in sample:
        raise UnknownNameError(f"{owner} has no entry {key!r}. {did_you_mean(key, sample)}")
    return sample[key]


def _as_array(key: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"the entry {key!r} is not an array: {error}") from error
    if array.ndim == 0:
        raise ShapeError(f"the entry {key!r} is a single {array.dtype}, not an array with a row for each sample")
    return array
