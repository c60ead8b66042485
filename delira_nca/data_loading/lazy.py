"""Samples that are read from files when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from delira_nca.checks import require_callable
from delira_nca.data_loading.batches import located, normal_index
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.io.paths import absolute

__all__ = ["BaseLazyDataset", "PathsLike", "list_paths"]

_JUNK = {"thumbs.db", "desktop.ini"}
"""Files that Windows puts into folders of pictures."""

PathsLike = str | os.PathLike[str] | Sequence[Any]


class BaseLazyDataset(AbstractDataset):
    """One sample for each path, loaded anew whenever it is asked for.

    Parameters
    ----------
    data_path : a folder, of which every visible entry is a sample, in the order of their names; or a list of what
        ``load_fn`` takes, paths for example. Paths of what exists are made absolute.
    load_fn : ``load_fn(path, **load_kwargs)`` returns the sample, a dict of arrays. A `LoadSample` is one.
    **load_kwargs : handed to ``load_fn``.

    Attributes
    ----------
    paths : tuple
        What each sample is loaded from.

    Raises
    ------
    MissingFileError
        If there is no such folder.
    ConfigError
        If there is nothing in it, or ``load_fn`` cannot be called.

    Notes
    -----
    An error of ``load_fn`` keeps its type where that takes a message, and begins with the number of the sample and the
    path. ``load_fn`` may draw from the global generators; if it does not, set ``is_deterministic`` to ``True`` on the
    dataset, and loading is a bit faster.

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
        """Number and path of the sample."""
        return f"sample {index} ({str(self.paths[index])!r})"


def list_paths(data_path: PathsLike) -> tuple[Any, ...]:
    """Entries of a folder, sorted by name and without hidden ones; or a list.

    Left out are names that begin with a dot, and the files ``Thumbs.db`` and ``desktop.ini`` of Windows. In a list, a
    path that exists is made absolute, also as a value of a mapping (see `LoadSample`); what is no such path stays.

    Raises
    ------
    MissingFileError
        If there is no such folder.
    ConfigError
        If there is nothing.
    """
    if not isinstance(data_path, (str, os.PathLike)):
        paths = tuple(_located(path) for path in data_path)
        if not paths:
            raise ConfigError("a dataset needs at least one path, this list is empty")
        return paths
    folder = absolute(data_path)
    if not folder.is_dir():
        raise MissingFileError(
            f"{os.fspath(folder)!r} is no folder; give the folder of the samples, or a list of their paths"
        )
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in _JUNK)
    paths = tuple(sorted(found))
    if not paths:
        raise ConfigError(f"the folder {os.fspath(folder)!r} is empty: a dataset needs at least one sample")
    return paths


def _located(path: Any) -> Any:
    """Entry of a list of paths that does not depend on the working directory; of the same type."""
    if isinstance(path, Mapping):
        return {key: _located(value) for key, value in path.items()}
    if not isinstance(path, (str, os.PathLike)):
        return path
    if isinstance(path, os.PathLike):
        return absolute(path)
    try:
        place = absolute(path)
    except ConfigError:  # a text that can be no path is whatever load_fn takes
        return path
    return os.fspath(place) if place.exists() else path
