"""What an experiment takes as data, and how data are named where another process has to find them."""

from __future__ import annotations

import copy
import functools
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from delira_nca.data_loading import DataManager, DictDataset, NNUNetDataset, RandomSampler, SequentialSampler
from delira_nca.data_loading.dataset import AbstractDataset, as_dataset
from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.experiment.parameters.named import encode
from delira_nca.io.paths import absolute

__all__ = ["as_manager", "dataset_of", "describe_data", "held_out_settings", "name_of_data", "open_data"]

_IN_ORDER = {"sampler_cls": SequentialSampler, "sampler_kwargs": {}, "drop_last": False}


def open_data(data: Any) -> DataManager | AbstractDataset | Any:
    """Data, whatever names them.

    Parameters
    ----------
    data : a data manager (anything with ``get_batchgen``) stays itself; a dataset, a dict of arrays or an iterable of
        samples makes a dataset; the path of an ``.npz`` file is a dict of arrays, the path of a folder with a
        ``dataset.json`` one in nnU-Net's layout; a class, a function or a ``functools.partial`` is called without
        arguments and returns one of these.

    Raises
    ------
    MissingFileError, ConfigError
        If there is nothing at the path, or it is none of these.
    """
    if isinstance(data, (str, os.PathLike)):
        return _open_path(absolute(data))
    if callable(data) and not isinstance(data, AbstractDataset) and not hasattr(data, "get_batchgen"):
        made = data()
        if callable(made) and not isinstance(made, AbstractDataset):
            raise ConfigError(f"{data!r} returned a {type(made).__name__}, which is no data")
        return open_data(made)
    return data if hasattr(data, "get_batchgen") else as_dataset(data)


def describe_data(data: Any) -> Any:
    """Plain values that name data for another process: a path, or an import path with arguments.

    Raises
    ------
    ConfigError
        If they have no name, since they are in the memory of this process only.

    Examples
    --------
    >>> describe_data("nuclei.npz").rpartition("/")[2]
    'nuclei.npz'
    >>> describe_data({"data": np.zeros(3)})
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: a dict is in the memory of this process, and another one cannot find it: give data by
    the path of an .npz file or of a folder in nnU-Net's layout, or by a class or a function of a module that makes
    them, with its arguments in a functools.partial
    """
    if isinstance(data, (str, os.PathLike)):
        return str(absolute(data))
    if isinstance(data, (type, functools.partial)) or inspect.isfunction(data):
        return encode(data, "data")
    raise ConfigError(
        f"a {type(data).__name__} is in the memory of this process, and another one cannot find it: give data by the "
        "path of an .npz file or of a folder in nnU-Net's layout, or by a class or a function of a module that makes "
        "them, with its arguments in a functools.partial"
    )


def name_of_data(data: Any) -> Any:
    """:func:`describe_data`, or a remark in place of data that have no name; None of None."""
    try:
        return None if data is None else describe_data(data)
    except ConfigError:
        return {"class_path": None, "was": f"a {type(data).__name__} in the memory of the process"}


def dataset_of(data: Any) -> AbstractDataset:
    """Samples of data that :func:`open_data` gave.

    Raises
    ------
    ConfigError
        If they are batches, of which nobody can say what the samples are.
    """
    dataset = data if isinstance(data, AbstractDataset) else getattr(data, "dataset", None)
    if not isinstance(dataset, AbstractDataset):
        raise ConfigError(f"folds are made of samples, and a {type(data).__name__} does not say what its samples are")
    return dataset


def as_manager(
    data: Any, batch_size: int | None, seed: int, *, train: bool, settings: Mapping[str, Any] | None = None
) -> Any:
    """Data manager of what :func:`open_data` gave.

    Parameters
    ----------
    data : a data manager stays itself; where settings are to change, a copy of it. Of a dataset, samples are shuffled
        for training, and come in order otherwise.
    batch_size : of a manager that is made of a dataset.
    seed : of its shuffling and augmentation.
    train : what it is for.
    settings : to change, as for ``DataManager.update_state_from_dict``.

    Raises
    ------
    ConfigError
        If a manager is to be made, and no batch size is known.
    """
    settings = dict(settings or {})
    if isinstance(data, AbstractDataset):
        batch_size = settings.pop("batch_size", batch_size)
        if batch_size is None:
            raise ConfigError("the batch size is not known: give training.batch_size, or a DataManager")
        data = DataManager(data, batch_size, sampler_cls=RandomSampler if train else SequentialSampler, seed=seed)
    if settings and not callable(getattr(data, "update_state_from_dict", None)):
        raise ConfigError(f"a {type(data).__name__} has no settings to change: {sorted(settings)}")
    return copy.copy(data).update_state_from_dict(settings) if settings else data


def held_out_settings(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of a manager from which each sample comes once, in order, with changes by the user.

    Raises
    ------
    ConfigError
        If a change would leave samples out, or put them in another order.
    """
    for name in settings or {}:
        if name in _IN_ORDER:
            raise ConfigError(f"{name!r} cannot be set for validation and test: each sample comes once, and in order")
    return {**_IN_ORDER, **(settings or {})}


def _open_path(path: Path) -> AbstractDataset:
    if path.is_dir() and (path / "dataset.json").is_file():
        return NNUNetDataset(path)
    if path.suffix == ".npz" and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as loaded:
                arrays = {name: loaded[name] for name in loaded.files}
        except Exception as error:  # a broken archive has many names
            raise MissingFileError(f"{path} cannot be read as .npz: {error}") from error
        return DictDataset(arrays)
    raise MissingFileError(f"there are no data at {path}: neither an .npz file nor a folder with a dataset.json")
