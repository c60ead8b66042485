"""Samples that are read once and kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from delira_nca import seeding
from delira_nca.checks import require_callable
from delira_nca.data_loading.batches import located
from delira_nca.data_loading.dataset import AbstractDataset, IterableDataset, reading
from delira_nca.data_loading.lazy import BaseLazyDataset, PathsLike, list_paths
from delira_nca.errors import ConfigError

__all__ = ["BaseCacheDataset", "BaseExtendCacheDataset", "CachedDataset"]


class CachedDataset(IterableDataset):
    """All samples of another dataset, read now and kept in memory.

    Workers that are forked share the memory; spawned ones get a copy each.

    Parameters
    ----------
    dataset : where the samples are read from. Where reading is random, what is drawn now stays.

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
        """Name that the sample had where it was read."""
        return self._names[index]


class BaseCacheDataset(CachedDataset):
    """One sample for each path, all loaded now and kept in memory.

    Parameters
    ----------
    data_path, load_fn, **load_kwargs : see `BaseLazyDataset`.

    Attributes
    ----------
    paths : tuple
        What each sample was loaded from.

    Raises
    ------
    MissingFileError, ConfigError
        As `BaseLazyDataset`; also if the samples do not all have the same keys.
    """

    def __init__(self, data_path: PathsLike, load_fn: Callable[..., Any], **load_kwargs: Any) -> None:
        lazy = BaseLazyDataset(data_path, load_fn, **load_kwargs)
        self.paths = lazy.paths
        super().__init__(lazy)


class BaseExtendCacheDataset(IterableDataset):
    """Several samples for each path, the slices of a volume for example, all loaded now and kept in memory.

    Parameters
    ----------
    data_path, **load_kwargs : see `BaseLazyDataset`.
    load_fn : ``load_fn(path, **load_kwargs)`` returns an iterable of samples, each a dict of arrays. It may give none.

    Attributes
    ----------
    paths : tuple
        What each sample was loaded from: as long as the dataset, and fit for the ``groups`` of a split.

    Raises
    ------
    MissingFileError, ConfigError
        As `BaseLazyDataset`; also if no path gives a sample, or one is not a dict with the keys of the first.

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
        """Number and path of the sample."""
        return f"sample {index} (of {str(self.paths[index])!r})"


def _several(load_fn: Callable[..., Any], path: Any, load_kwargs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Samples of one path."""
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
