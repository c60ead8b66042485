"""A sample that is spread over several files: one file a channel, several entries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.batches import Batch, located
from delira_nca.data_loading.normalize import cast, norm_range
from delira_nca.data_loading.readers.files import find_file
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError, did_you_mean
from delira_nca.io.paths import absolute

__all__ = ["LoadSample", "LoadSampleLabel"]

FileMap = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]

_DEFAULT_NORM = norm_range("-1,1")


class LoadSample:
    """Load the files of a sample and stack them to channels: a load function for the datasets of paths.

    Parameters
    ----------
    sample_ext : entry of the sample to the names of its files, which become its channels.
    sample_fn : ``sample_fn(path, **kwargs)`` reads a file to an array without channels, `readers.read_array` for
        example.
    dtype : entry to its type. To integers only where no value changes.
    normalize : what is normalised, each file by itself and before the change of type: entries, or names of files.
    norm_fn : how, to [-1, 1] where nothing is said; see `norm_range` and `norm_zero_mean_unit_std`.
    **kwargs : handed to ``sample_fn``.

    Raises
    ------
    UnknownNameError
        If ``dtype`` or ``normalize`` names neither an entry nor a file.
    ConfigError
        If there are no entries, or one has no files. The call raises it with the file's name where a value does
        not fit the type, and `ShapeError` where two channels differ in shape.

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
        path : folder of the files, or a mapping of the names in ``sample_ext`` to paths.

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
    """Load the files of a sample, and its label by a function of its own.

    Parameters
    ----------
    sample_ext, sample_fn : see `LoadSample`.
    label_ext : name of the file with the label.
    label_fn : ``label_fn(path, **kwargs)`` returns a dict, ``{"label": 3}`` for example.
    sample_kwargs : further arguments of `LoadSample`, as a dict.
    **kwargs : handed to ``label_fn``.

    Raises
    ------
    ConfigError
        As `LoadSample`; the call also where ``label_fn`` returns no dict, or an entry that the sample has already.
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
