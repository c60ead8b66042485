"""Arrays of a run by name: previews, predictions, states. Each is one zip file of zarr, there whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, MissingFileError, did_you_mean
from delira_nca.experiment.stats.libraries import import_for_stats
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute

__all__ = ["ArrayStore"]

_ENDING = ".zarr.zip"


class ArrayStore:
    """Folder of arrays, each ``<name>.zarr.zip``. It needs zarr: ``pip install 'delira_nca[stats]'``.

    Parameters
    ----------
    folder : made by the first array.

    Examples
    --------
    >>> arrays = ArrayStore(getfixture("tmp_path"))
    >>> arrays.save("preview_3", np.eye(2, dtype=np.uint8), attributes={"epoch": 3})
    >>> arrays.names(), arrays.load("preview_3").tolist(), arrays.attributes("preview_3")
    (('preview_3',), [[1, 0], [0, 1]], {'epoch': 3})
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = absolute(folder)

    def names(self) -> tuple[str, ...]:
        """Names of all arrays, sorted."""
        files = self.folder.glob(f"*{_ENDING}") if self.folder.is_dir() else ()
        return tuple(sorted(f.name.removesuffix(_ENDING) for f in files if not f.name.startswith(".")))

    def save(
        self,
        name: str,
        array: npt.ArrayLike,
        *,
        attributes: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write an array.

        Parameters
        ----------
        name : a word.
        array : of numbers or truth values; a tensor, too.
        attributes : plain values that are kept beside it.
        overwrite : whether it may replace one that is there.

        Raises
        ------
        ConfigError
            For a name that is none, or taken, an array of objects, or attributes that are not plain.
        MissingDependencyError
            If zarr is not installed.
        """
        zarr, path = import_for_stats("zarr"), self._path(name)
        values = np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)
        if values.dtype.kind not in "biufc":
            raise ConfigError(f"array {name!r} is one of numbers, not of {values.dtype}")
        try:
            plain = json.loads(json.dumps(dict(attributes or {})))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"attributes of array {name!r} are no plain values: {error}") from error
        if path.exists() and not overwrite:
            raise ConfigError(f"there is an array {name!r} already: take another name, or overwrite=True")
        with replaced(path) as temporary, contextlib.closing(zarr.storage.ZipStore(str(temporary), mode="w")) as store:
            if hasattr(zarr, "create_array"):
                zarr.create_array(store, data=values, attributes=plain)
            else:  # before zarr 3, which Python 3.10 has
                zarr.array(values, store=store).attrs.put(plain)

    def load(self, name: str) -> npt.NDArray[Any]:
        """Read an array into memory.

        Raises
        ------
        MissingFileError
            If there is none of this name; with the nearest one.
        ConfigError
            If its file is damaged.
        MissingDependencyError
            If zarr is not installed.
        """
        with self._opened(name) as array:
            return np.asarray(array[...])

    def attributes(self, name: str) -> dict[str, Any]:
        """What was kept beside an array."""
        with self._opened(name) as array:
            return dict(array.attrs)

    def delete(self, name: str) -> None:
        """Remove an array."""
        self._existing(name).unlink()

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        zarr, path = import_for_stats("zarr"), self._existing(name)
        if not zipfile.is_zipfile(path):
            raise ConfigError(f"{path} cannot be read: it is no zip file")
        try:
            with contextlib.closing(zarr.storage.ZipStore(str(path), mode="r")) as store:
                yield zarr.open_array(store, mode="r")
        except Exception as error:  # of zip files, of zarr, of codecs
            raise ConfigError(f"{path} cannot be read: {type(error).__name__}: {error}") from error

    def _existing(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file():
            raise MissingFileError(f"there is no array {name!r} in {self.folder}. {did_you_mean(name, self.names())}")
        return path

    def _path(self, name: str) -> Path:
        if not isinstance(name, str) or not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
            raise ConfigError(f"an array is named by a word, not {name!r}")
        return self.folder / f"{name}{_ENDING}"
