"""Functions that load samples from files, and sources of batches."""

from __future__ import annotations

import copy
import os
import random
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca import seeding
from delira_nca.checks import require_whole
from delira_nca.data_loading.batch_builder import BatchTask
from delira_nca.data_loading.batches import Batch, located
from delira_nca.data_loading.dataset import AbstractDataset, DataLike, as_dataset
from delira_nca.data_loading.normalize import cast, norm_range
from delira_nca.data_loading.readers.files import find_file
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError, did_you_mean
from delira_nca.io.paths import absolute

__all__ = ["LoadSample", "LoadSampleLabel", "LoaderSource", "SampleSource", "as_source", "changed_source"]

FileMap = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]

_DEFAULT_NORM = norm_range("-1,1")


class LoadSample:
    """Load function for datasets of paths, which stacks the files of a sample to channels.

    Parameters
    ----------
    sample_ext : dict
        Names of the files, one per channel, by entry of the sample.
    sample_fn : callable
        Function ``sample_fn(path, **kwargs)`` that reads a file to an array without channels, for example
        `readers.read_array`.
    dtype : dict or None
        Dtype by entry. Integer dtypes are only allowed if no value changes.
    normalize : iterable of str
        Entries or names of files to normalise. Each file is normalised separately, before the conversion of the dtype.
    norm_fn : callable
        Normalisation; to [-1, 1] by default. See `norm_range` and `norm_zero_mean_unit_std`.
    **kwargs : object
        Keyword arguments of ``sample_fn``.

    Raises
    ------
    UnknownNameError
        If ``dtype`` or ``normalize`` names neither an entry nor a file.
    ConfigError
        If there are no entries, or one has no files. A call raises it if a value does not fit the dtype, and
        `ShapeError` if the shapes of channels differ; the messages name the file.

    Examples
    --------
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> np.save(folder / "t1.npy", np.array([10, 20]))
    >>> np.save(folder / "t2.npy", np.array([7, 7]))
    >>> load = LoadSample({"data": ["t1.npy", "t2.npy"]}, np.load, {"data": "float32"}, ["data"])
    >>> load(folder)["data"].tolist()
    [[-1.0, 1.0], [-1.0, -1.0]]
    """

    def __init__(
        self,
        sample_ext: Mapping[str, str | Iterable[str]],
        sample_fn: Callable[..., Any],
        dtype: Mapping[str, npt.DTypeLike] | None = None,
        normalize: Iterable[str] = (),
        norm_fn: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = _DEFAULT_NORM,
        **kwargs: Any,
    ) -> None:
        self.sample_ext = {
            key: (names,) if isinstance(names, str) else tuple(names) for key, names in sample_ext.items()
        }
        if not self.sample_ext or not all(self.sample_ext.values()):
            raise ConfigError(f"every entry of a sample needs at least one file, not {dict(sample_ext)!r}")
        self.sample_fn, self.norm_fn, self.kwargs = sample_fn, norm_fn, kwargs
        self.dtype = {key: np.dtype(kind) for key, kind in (dtype or {}).items()}
        self.normalize = frozenset([normalize] if isinstance(normalize, str) else normalize)
        files = {name for names in self.sample_ext.values() for name in names}
        for name in self.dtype.keys() - self.sample_ext.keys():
            raise UnknownNameError(f"dtype of an unknown entry {name!r}. {did_you_mean(name, self.sample_ext)}")
        for name in self.normalize - self.sample_ext.keys() - files:
            raise UnknownNameError(
                f"nothing is called {name!r} that could be normalised. {did_you_mean(name, {*self.sample_ext, *files})}"
            )

    def __call__(self, path: FileMap) -> Batch:
        """Load one sample.

        Parameters
        ----------
        path : FileMap
            Folder of the files, or mapping of the names in ``sample_ext`` to paths.

        Returns
        -------
        dict of (number of files, ...) arrays
        """
        return {key: self._channels(key, names, path) for key, names in self.sample_ext.items()}

    def _channels(self, key: str, names: tuple[str, ...], path: FileMap) -> npt.NDArray[Any]:
        channels = []
        for name in names:
            file = _file(path, name)
            try:
                channel = np.asarray(self.sample_fn(file, **self.kwargs))
                if key in self.normalize or name in self.normalize:
                    channel = self.norm_fn(channel)
                channels.append(cast(channel, self.dtype[key]) if key in self.dtype else channel)
            except Exception as error:
                raise located(error, f"entry {key!r}, file {file!r}") from error
            if channel.shape != channels[0].shape:
                raise ShapeError(
                    f"the channels of {key!r} differ: {file!r} has the shape {channel.shape}, "
                    f"{_file(path, names[0])!r} has {channels[0].shape}"
                )
        return np.stack(channels)


class LoadSampleLabel(LoadSample):
    """Load the files of a sample, and its label by a separate function.

    Parameters
    ----------
    sample_ext, sample_fn : dict, callable
        See `LoadSample`.
    label_ext : str
        Name of the file with the label.
    label_fn : callable
        Function ``label_fn(path, **kwargs)`` that returns a dict, for example ``{"label": 3}``.
    sample_kwargs : dict or None
        Further arguments of `LoadSample`.
    **kwargs : object
        Keyword arguments of ``label_fn``.

    Raises
    ------
    ConfigError
        As in `LoadSample`. A call also raises it if ``label_fn`` does not return a dict, or an entry exists already.
    """

    def __init__(
        self,
        sample_ext: Mapping[str, str | Iterable[str]],
        sample_fn: Callable[..., Any],
        label_ext: str,
        label_fn: Callable[..., Mapping[str, Any]],
        sample_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(sample_ext, sample_fn, **(sample_kwargs or {}))
        self.label_ext, self.label_fn, self.label_kwargs = label_ext, label_fn, kwargs

    def __call__(self, path: FileMap) -> dict[str, Any]:
        """Load one sample with its label; see `LoadSample`."""
        sample: dict[str, Any] = super().__call__(path)
        file = _file(path, self.label_ext)
        try:
            label = self.label_fn(file, **self.label_kwargs)
        except Exception as error:
            raise located(error, f"the label, file {file!r}") from error
        if not isinstance(label, Mapping):
            raise ConfigError(f"label_fn must return a dict, {{'label': ...}}, not a {type(label).__name__}: {file!r}")
        if label.keys() & sample.keys():
            raise ConfigError(f"{sorted(label.keys() & sample.keys())} is in the sample and in its label: {file!r}")
        return {**sample, **label}


def _file(path: FileMap, name: str) -> str:
    if not isinstance(path, Mapping):
        return os.fspath(find_file(absolute(path) / name))
    if name not in path:
        raise UnknownNameError(f"the sample has no file {name!r}. {did_you_mean(name, path)}")
    return os.fspath(find_file(absolute(path[name])))


_AUGMENTERS = {"MultiThreadedAugmenter", "NonDetMultiThreadedAugmenter", "SingleThreadedAugmenter"}


class SampleSource:
    """Source of batches from a dataset.

    Parameters
    ----------
    dataset : AbstractDataset
        Dataset of the samples.
    """

    def __init__(self, dataset: AbstractDataset) -> None:
        self.dataset = dataset
        self.is_deterministic = dataset.is_deterministic

    def load(self, task: BatchTask) -> Batch:
        """Return the samples of a task."""
        return self.dataset.take(task.indices)

    def settle(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch unchanged."""
        return batch


class LoaderSource:
    """Source of batches from a data loader of batchgenerators, or a compatible object.

    Loaders yield batches in order, but batches must be available in any order. Each batch is therefore drawn from a new
    shallow copy of the loader, with the global random generators, and those in attributes of the loader, seeded for
    this batch. State that a loader changes does not persist between batches. A batchgenerators ``DataLoader`` with
    ``infinite=False`` is set to the position of the batch in the epoch.

    Parameters
    ----------
    loader : object
        Object with ``generate_train_batch`` or ``__next__``, which return a dict.
    transform : callable or None
        Transform, called as ``transform(**batch)``, or None.
    num_batches : int or None
        Number of batches per epoch; that of the loader by default.

    Raises
    ------
    ConfigError
        If ``num_batches`` is missing for an infinite loader or exceeds that of the loader, or the loader is a
        generator.
    """

    is_deterministic = False

    def __init__(
        self, loader: Any, transform: Callable[..., Any] | None = None, num_batches: int | None = None
    ) -> None:
        if num_batches is not None:
            require_whole("num_batches", num_batches, 1)
        if isinstance(loader, types.GeneratorType):
            raise ConfigError(
                "a generator gives its batches in a row, and cannot be asked for one of them; derive a class from "
                "batchgenerators' SlimDataLoaderBase whose generate_train_batch does what is in the generator"
            )
        self.loader = loader
        self.transform = transform
        self.batch_size: int | None = getattr(loader, "batch_size", getattr(loader, "BATCH_SIZE", None))
        indices = getattr(loader, "indices", None)
        self.is_finite = indices is not None and not getattr(loader, "infinite", True) and bool(self.batch_size)
        limit = self._limit()
        if num_batches is None and limit is None:
            raise ConfigError(
                f"{type(loader).__name__} gives batches without end: say how many make an epoch, "
                "for example DataManager(loader, num_batches=250)"
            )
        if num_batches is not None and limit is not None and num_batches > limit:
            raise ConfigError(f"{type(loader).__name__} ends after {limit} batches, num_batches is {num_batches}")
        self.num_batches = int(limit if num_batches is None else num_batches)  # type: ignore[arg-type]
        if not self.num_batches:
            raise ConfigError(f"{type(loader).__name__} has fewer samples than one batch")

    def _limit(self) -> int | None:
        """Return the number of batches of the loader, or None if it is infinite."""
        if self.is_finite:
            length, size = len(self.loader.indices), int(self.batch_size or 1)
            return -(-length // size) if getattr(self.loader, "return_incomplete", False) else length // size
        number = getattr(self.loader, "_num_batches", None)  # attribute of the former DataLoaderBase
        return int(number) if number is not None and number < 1e9 else None

    @property
    def num_samples(self) -> int:
        """Number of samples of the loader, or, if it is infinite, of an epoch."""
        if self.is_finite:
            return len(self.loader.indices)
        return self.num_batches * int(self.batch_size or 1)

    def load(self, task: BatchTask) -> dict[str, Any]:
        """Return the batch of a task."""
        loader = copy.copy(self.loader)
        for name, value in vars(loader).items():
            fresh = _reseeded(value, task, name)
            if fresh is not value:
                setattr(loader, name, fresh)
        loader.thread_id = 0
        if hasattr(loader, "_batches_generated"):
            loader._seed, loader._batches_generated = False, 0
        if self.is_finite:
            self._place(loader, task)
        try:
            batch = next(loader) if hasattr(loader, "__next__") else loader.generate_train_batch()
        except StopIteration:
            raise ConfigError(
                f"{type(loader).__name__} ended, though an epoch has {self.num_batches} batches"
            ) from None
        if self.transform is not None:
            batch = self.transform(**batch)
        if not isinstance(batch, dict):
            raise ConfigError(f"{type(loader).__name__} must give dicts, not a {type(batch).__name__}")
        return batch

    def _place(self, loader: Any, task: BatchTask) -> None:
        if getattr(loader, "shuffle", False):
            order = seeding.generator(task.seed, "sample", task.epoch).permutation(len(loader.indices))
            loader.indices = [loader.indices[place] for place in order]
        loader.number_of_threads_in_multithreaded = 1
        loader.current_position = task.number * int(self.batch_size or 1)
        loader.was_initialized, loader.last_reached = True, False

    def settle(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Convert lists, strings, numbers and tensors to arrays."""
        return {key: _as_array(value) for key, value in batch.items()}


def as_source(data: Any, num_batches: int | None = None) -> SampleSource | LoaderSource:
    """Return a source for data (see `as_dataset`), or for a loader or augmenter of batchgenerators.

    Loader and transform of an augmenter are used; its processes are not started. ``num_batches`` is for loaders only.
    """
    transform = None
    if any(base.__name__ in _AUGMENTERS for base in type(data).__mro__):
        transform = data.transform
        data = data.data_loader if hasattr(data, "data_loader") else data.generator
    elif not hasattr(data, "generate_train_batch") and (num_batches is None or not hasattr(data, "__next__")):
        if num_batches is not None:
            raise ConfigError(
                "num_batches is for a data loader, which may have no end; how long an epoch of a dataset is, "
                "its sampler decides, for example RandomSampler with num_samples"
            )
        return SampleSource(as_dataset(data))
    return LoaderSource(data, transform, num_batches)


def changed_source(source: SampleSource | LoaderSource, changes: dict[str, Any]) -> SampleSource | LoaderSource:
    """Return the source with changed ``"data"`` or ``"num_batches"``, which are removed from ``changes``."""
    num_batches = changes.pop("num_batches", None)
    if "data" in changes:
        return as_source(changes.pop("data"), num_batches)
    if isinstance(source, LoaderSource):
        return LoaderSource(source.loader, source.transform, num_batches)
    return as_source(source.dataset, num_batches)


LoadableLike = DataLike | Any
"""Input of a data manager: data, or a loader or augmenter of batchgenerators, which is an optional dependency."""


def _reseeded(value: Any, task: BatchTask, name: str) -> Any:
    keys = ("loader", name, task.epoch, task.number)
    if isinstance(value, np.random.Generator):
        return seeding.generator(task.seed, *keys)
    if isinstance(value, np.random.RandomState):
        return np.random.RandomState(seeding.derive_seed(task.seed, *keys))
    if isinstance(value, random.Random):
        return random.Random(seeding.derive_seed(task.seed, *keys))
    return value


def _as_array(value: Any) -> npt.NDArray[Any]:
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, (list, tuple, str, int, float, np.generic)):
        try:
            return np.asarray(value)
        except ValueError:  # ragged lists
            pass
    array = np.empty(len(value) if isinstance(value, (list, tuple)) else (), dtype=object)
    array[...] = value if not isinstance(value, (list, tuple)) else [*value]
    return array
