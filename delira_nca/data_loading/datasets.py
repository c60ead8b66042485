"""Concatenated, cached and lazily loaded datasets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca import seeding
from delira_nca.checks import require_callable
from delira_nca.data_loading.batches import Batch, IndicesLike, as_indices, located, normal_index
from delira_nca.data_loading.dataset import AbstractDataset, DataLike, IterableDataset, as_dataset, reading
from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError, ShapeError
from delira_nca.io.paths import absolute

__all__ = [
    "BaseCacheDataset",
    "BaseExtendCacheDataset",
    "BaseLazyDataset",
    "CachedDataset",
    "ConcatDataset",
    "PathsLike",
    "list_paths",
]


class ConcatDataset(AbstractDataset):
    """Concatenation of datasets without copying.

    Parameters
    ----------
    *datasets : DataLike or sequence of DataLike
        Datasets, or objects that can be converted (dict of arrays, iterable of dicts), or one list of these. All need
        the same keys and, within a batch, the same shapes.

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
        """Return several samples, by one call of each dataset; see `AbstractDataset.take`.

        Raises
        ------
        ConfigError
            If the keys of datasets in the batch differ.
        ShapeError
            If the shapes of an entry differ.
        """
        numbers = as_indices(indices, len(self))
        owners = np.searchsorted(self.starts, numbers, side="right") - 1
        present = np.unique(owners).tolist()
        batches = [self._take(part, numbers[owners == part]) for part in present]
        order = np.argsort(owners, kind="stable")
        firsts = {part: self._inner_name(numbers[owners == part][0]) for part in present}
        return {key: _interleave(arrays, order) for key, arrays in _aligned(batches, firsts).items()}

    def column(self, key: str) -> npt.NDArray[Any]:
        """Return one entry of all samples in the order of the datasets; see `AbstractDataset.column`."""
        columns = [{key: dataset.column(key)} for dataset in self.datasets]
        firsts = {part: self._inner_name(start) for part, start in enumerate(self.starts[:-1])}
        return np.concatenate(_aligned(columns, firsts)[key])

    def name_of(self, index: int) -> str:
        """Return the name of the sample in its dataset, and the number of the dataset."""
        part, number = self._place(index)
        return f"{self.datasets[part].name_of(number)} of dataset {part}"

    def checked_sample(self, index: int) -> Mapping[str, Any]:
        """Return a checked sample of one of the datasets."""
        part, number = self._place(index)
        try:
            return self.datasets[part].checked_sample(number)
        except DeliraNCAError as error:
            raise self._named(error, part) from error

    def described(self, index: int) -> str:
        """Return the name and the files of the sample in its dataset, and the number of the dataset."""
        part, number = self._place(index)
        return f"{self.datasets[part].described(number)} of dataset {part}"

    def _inner_name(self, index: np.int64) -> str:
        """Return the name of the sample in its dataset."""
        part, number = self._place(int(index))
        return self.datasets[part].name_of(number)

    def _place(self, index: int) -> tuple[int, int]:
        """Return the number of a sample's dataset, and its index there."""
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
    """Collect the arrays of datasets by key and check that they fit; ``names`` has the first sample of each dataset."""
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
    """Write the rows of the concatenated arrays to the positions ``order`` of a new array."""
    if len(arrays) == 1:
        return arrays[0]
    rows = np.concatenate(arrays)
    placed = np.empty_like(rows)
    placed[order] = rows
    return placed


_JUNK = {"thumbs.db", "desktop.ini"}
"""Files that Windows creates in folders of images."""

PathsLike = str | os.PathLike[str] | Sequence[Any]


class BaseLazyDataset(AbstractDataset):
    """Dataset with one sample per path, which is loaded at each access.

    Parameters
    ----------
    data_path : str, path-like or sequence of these
        Folder with one sample per visible entry, sorted by name; or a list of arguments of ``load_fn``, such as paths.
        Existing paths are made absolute.
    load_fn : callable
        Function ``load_fn(path, **load_kwargs)`` that returns the sample, a dict of arrays, for example a `LoadSample`.
    **load_kwargs : object
        Keyword arguments of ``load_fn``.

    Attributes
    ----------
    paths : tuple
        Path of each sample.

    Raises
    ------
    MissingFileError
        If there is no such folder.
    ConfigError
        If the folder is empty, or ``load_fn`` is not callable.

    Notes
    -----
    Errors of ``load_fn`` are raised with their type, if it takes a message, and with index and path of the sample
    prepended. ``load_fn`` may use global random generators. If it does not, set ``is_deterministic`` of the dataset to
    True to load slightly faster.

    Examples
    --------
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> for number in range(3):
    ...     np.save(folder / f"{number}.npy", np.full(2, number))
    >>> dataset = BaseLazyDataset(folder, lambda path: {"x": np.load(path)})
    >>> dataset.take([2, 0])["x"].tolist()
    [[2, 2], [0, 0]]
    """

    def __init__(self, data_path: PathsLike, load_fn: Callable[..., Any], **load_kwargs: Any) -> None:
        require_callable("load_fn", load_fn)
        self.paths = list_paths(data_path)
        self.load_fn = load_fn
        self.load_kwargs = load_kwargs

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        number = normal_index(index, len(self))
        try:
            sample = self.load_fn(self.paths[number], **self.load_kwargs)
        except Exception as error:
            raise located(error, self.name_of(number)) from error
        if not isinstance(sample, Mapping):
            raise ConfigError(
                f"{self.name_of(number)}: load_fn must return a dict of arrays, not a {type(sample).__name__}"
            )
        return sample

    def name_of(self, index: int) -> str:
        """Return index and path of the sample."""
        return f"sample {index} ({str(self.paths[index])!r})"


def list_paths(data_path: PathsLike) -> tuple[Any, ...]:
    """Return the visible entries of a folder, sorted by name, or those of a list.

    Names that begin with a dot, and the files ``Thumbs.db`` and ``desktop.ini`` of Windows, are skipped. In a list,
    existing paths are made absolute, also as values of a mapping (see `LoadSample`); other entries remain unchanged.

    Raises
    ------
    MissingFileError
        If there is no such folder.
    ConfigError
        If there are no entries.
    """
    if not isinstance(data_path, (str, os.PathLike)):
        paths = tuple(_located(path) for path in data_path)
        if not paths:
            raise ConfigError("a dataset needs at least one path, this list is empty")
        return paths
    folder = absolute(data_path)
    if not folder.is_dir():
        raise MissingFileError(
            f"{os.fspath(folder)!r} is not a folder; give the folder of the samples, or a list of their paths"
        )
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in _JUNK)
    paths = tuple(sorted(found))
    if not paths:
        raise ConfigError(f"the folder {os.fspath(folder)!r} is empty: a dataset needs at least one sample")
    return paths


def _located(path: Any) -> Any:
    """Make an existing path absolute, with the same type."""
    if isinstance(path, Mapping):
        return {key: _located(value) for key, value in path.items()}
    if not isinstance(path, (str, os.PathLike)):
        return path
    if isinstance(path, os.PathLike):
        return absolute(path)
    try:
        place = absolute(path)
    except ConfigError:  # a string that is not a path is an argument of load_fn
        return path
    return os.fspath(place) if place.exists() else path


class CachedDataset(IterableDataset):
    """All samples of another dataset, read by the constructor and kept in memory.

    Forked workers share the memory; each spawned worker has a copy.

    Parameters
    ----------
    dataset : AbstractDataset
        Dataset to read. If reading is random, the values of this reading are kept.

    Examples
    --------
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> np.save(folder / "a.npy", np.arange(2))
    >>> cached = CachedDataset(BaseLazyDataset(folder, lambda path: {"x": np.load(path)}))
    >>> (folder / "a.npy").unlink()
    >>> cached[0]["x"].tolist()
    [0, 1]
    """

    def __init__(self, dataset: AbstractDataset) -> None:
        self._names = [dataset.name_of(number) for number in range(len(dataset))]
        with reading(dataset):
            super().__init__(dataset)

    def name_of(self, index: int) -> str:
        """Return the name of the sample in the original dataset."""
        return self._names[index]


class BaseCacheDataset(CachedDataset):
    """Dataset with one sample per path, loaded by the constructor and kept in memory.

    Parameters
    ----------
    data_path, load_fn, **load_kwargs
        See `BaseLazyDataset`.

    Attributes
    ----------
    paths : tuple
        Path of each sample.
    """

    def __init__(self, data_path: PathsLike, load_fn: Callable[..., Any], **load_kwargs: Any) -> None:
        lazy = BaseLazyDataset(data_path, load_fn, **load_kwargs)
        self.paths = lazy.paths
        super().__init__(lazy)


class BaseExtendCacheDataset(IterableDataset):
    """Dataset with several samples per path, such as the slices of a volume, kept in memory.

    Parameters
    ----------
    data_path, **load_kwargs
        See `BaseLazyDataset`.
    load_fn : callable
        Function ``load_fn(path, **load_kwargs)`` that returns an iterable of samples, each a dict of arrays. It may be
        empty.

    Attributes
    ----------
    paths : tuple
        Path of each sample, usable as ``groups`` of a split.

    Examples
    --------
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> np.save(folder / "a.npy", np.arange(6).reshape(3, 2))
    >>> dataset = BaseExtendCacheDataset(folder, lambda path: [{"x": row} for row in np.load(path)])
    >>> len(dataset), dataset[2]["x"].tolist(), dataset.paths[2].name
    (3, [4, 5], 'a.npy')
    """

    def __init__(self, data_path: PathsLike, load_fn: Callable[..., Any], **load_kwargs: Any) -> None:
        require_callable("load_fn", load_fn)
        samples: list[Mapping[str, Any]] = []
        origins: list[Any] = []
        with seeding.isolated_rng(0):
            for path in list_paths(data_path):
                found = _several(load_fn, path, load_kwargs)
                samples += found
                origins += [path] * len(found)
        self.paths = tuple(origins)
        super().__init__(samples)

    def name_of(self, index: int) -> str:
        """Return index and path of the sample."""
        return f"sample {index} (of {str(self.paths[index])!r})"


def _several(load_fn: Callable[..., Any], path: Any, load_kwargs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Load the samples of one path."""
    try:
        loaded = load_fn(path, **load_kwargs)
        is_several = isinstance(loaded, Iterable) and not isinstance(loaded, Mapping)
        samples = list(loaded) if is_several else []
    except Exception as error:
        raise located(error, str(path)) from error
    if not is_several:
        what = "one sample" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise ConfigError(
            f"{path!s}: load_fn must return an iterable of samples, not {what}; "
            "BaseCacheDataset is for one sample a path"
        )
    for position, sample in enumerate(samples):
        if not isinstance(sample, Mapping):
            raise ConfigError(f"{path!s}: sample {position} of it is a {type(sample).__name__}, not a dict of arrays")
    return samples
