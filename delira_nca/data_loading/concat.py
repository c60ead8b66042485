"""Several datasets as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.batches import Batch, IndicesLike, as_indices, located, normal_index
from delira_nca.data_loading.dataset import AbstractDataset, DataLike, as_dataset
from delira_nca.errors import ConfigError, DeliraNCAError, ShapeError

__all__ = ["ConcatDataset"]


class ConcatDataset(AbstractDataset):
    """The samples of one dataset after those of another; nothing is copied.

    Parameters
    ----------
    *datasets : datasets, or what makes one (a dict of arrays, an iterable of dicts), or one list of them. All need
        the same keys, and where they meet in a batch, the same shapes.

    Raises
    ------
    ConfigError
        If there are no datasets.

    Examples
    --------
    >>> both = ConcatDataset({"x": [1, 2, 3]}, {"x": [40, 50]})
    >>> len(both), both.take([4, 0, 3])["x"].tolist(), both.get_subset([2, 3]).take([1, 0])["x"].tolist()
    (5, [50, 1, 40], [40, 3])
    """

    def __init__(self, *datasets: DataLike | Sequence[DataLike]) -> None:
        parts: Sequence[Any] = datasets
        if len(datasets) == 1 and isinstance(datasets[0], (list, tuple)):
            parts = datasets[0]
        if not parts:
            raise ConfigError("there is nothing to concatenate: give at least one dataset")
        self.datasets = tuple(as_dataset(part) for part in parts)
        self.starts = np.cumsum([0, *map(len, self.datasets)])
        self.is_deterministic = all(dataset.is_deterministic for dataset in self.datasets)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        part, number = self._place(index)
        try:
            return self.datasets[part][number]
        except DeliraNCAError as error:
            raise self._named(error, part) from error

    def take(self, indices: IndicesLike) -> Batch:
        """Take samples from each dataset in one go; see `AbstractDataset.take`.

        Raises
        ------
        ConfigError
            If two datasets that meet in the batch do not have the same keys.
        ShapeError
            If an entry has another shape in one of them than in the other.
        """
        numbers = as_indices(indices, len(self))
        owners = np.searchsorted(self.starts, numbers, side="right") - 1
        present = np.unique(owners).tolist()
        batches = [self._take(part, numbers[owners == part]) for part in present]
        order = np.argsort(owners, kind="stable")
        firsts = {part: self._inner_name(numbers[owners == part][0]) for part in present}
        return {key: _interleave(arrays, order) for key, arrays in _aligned(batches, firsts).items()}

    def column(self, key: str) -> npt.NDArray[Any]:
        """One entry of all samples, dataset after dataset; see `AbstractDataset.column`."""
        columns = [{key: dataset.column(key)} for dataset in self.datasets]
        firsts = {part: self._inner_name(start) for part, start in enumerate(self.starts[:-1])}
        return np.concatenate(_aligned(columns, firsts)[key])

    def name_of(self, index: int) -> str:
        """Name of the sample in its own dataset, and which that is."""
        part, number = self._place(index)
        return f"{self.datasets[part].name_of(number)} of dataset {part}"

    def _inner_name(self, index: np.int64) -> str:
        """Name of the sample in its own dataset."""
        part, number = self._place(int(index))
        return self.datasets[part].name_of(number)

    def _place(self, index: int) -> tuple[int, int]:
        """Which dataset a sample is in, and its number there."""
        index = normal_index(index, len(self))
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return part, index - int(self.starts[part])

    def _take(self, part: int, numbers: npt.NDArray[np.int64]) -> Batch:
        try:
            return self.datasets[part].take(numbers - self.starts[part])
        except DeliraNCAError as error:
            raise self._named(error, part) from error

    def _named(self, error: DeliraNCAError, part: int) -> Exception:
        start, stop = self.starts[part], self.starts[part + 1]
        return located(error, f"dataset {part} of the concatenation (its samples {start} to {stop - 1})")


def _aligned(batches: Sequence[Batch], names: Mapping[int, str]) -> dict[str, list[npt.NDArray[Any]]]:
    """Arrays of datasets key by key, if they fit together; ``names`` are numbers of datasets to their first samples."""
    first, (number, name) = batches[0], next(iter(names.items()))
    for (owner, sample), batch in zip(names.items(), batches, strict=True):
        if batch.keys() != first.keys():
            raise ConfigError(
                f"dataset {owner} of the concatenation has the keys {sorted(batch)}, "
                f"but dataset {number} has {sorted(first)}; all need the same"
            )
        for key, array in batch.items():
            if array.shape[1:] != first[key].shape[1:]:
                raise ShapeError(
                    f"cannot stack {key!r}: it has the shape {array.shape[1:]} in dataset {owner} of the concatenation "
                    f"({sample}), but {first[key].shape[1:]} in dataset {number} ({name})"
                )
    return {key: [batch[key] for batch in batches] for key in first}


def _interleave(arrays: list[npt.NDArray[Any]], order: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Rows of the arrays, one array after the other, at the places ``order`` of a new one."""
    if len(arrays) == 1:
        return arrays[0]
    rows = np.concatenate(arrays)
    placed = np.empty_like(rows)
    placed[order] = rows
    return placed
