"""Data, arguments and stored description of an experiment."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn, optim

from delira_nca._version import __version__
from delira_nca.data_loading import DataManager, DictDataset, NNUNetDataset, RandomSampler, SequentialSampler
from delira_nca.data_loading.dataset import AbstractDataset, as_dataset
from delira_nca.errors import ConfigError, MissingFileError, did_you_mean, refuse_unknown_keywords
from delira_nca.experiment.import_paths import decode, encode, import_object
from delira_nca.experiment.plain_files import differences, read_plain
from delira_nca.experiment.predictor import Predictor
from delira_nca.io.paths import absolute
from delira_nca.training.abstract_trainer import AbstractNetworkTrainer
from delira_nca.training.callbacks.abstract_callback import AbstractCallback

__all__ = [
    "FILE",
    "RESERVED",
    "as_manager",
    "dataset_of",
    "describe_data",
    "describe_experiment",
    "first_difference",
    "functions_of",
    "held_out_settings",
    "name_of_data",
    "newest_folder",
    "open_data",
    "read_description",
    "read_settings",
    "trainer_arguments",
]

_IN_ORDER = {"sampler_cls": SequentialSampler, "sampler_kwargs": {}, "drop_last": False}


def open_data(data: Any) -> DataManager | AbstractDataset | Any:
    """Open data given as an object, a path or an import path.

    Parameters
    ----------
    data : object
        A data manager (any object with ``get_batchgen``), which is returned unchanged; a dataset, a dict of arrays or
        an iterable of samples, which is converted to a dataset; the path of an ``.npz`` file with arrays, or of a
        folder with a ``dataset.json`` in nnU-Net's layout; or a class, a function or a ``functools.partial`` that
        returns one of these if called without arguments.
    """
    if isinstance(data, (str, os.PathLike)):
        return _open_path(absolute(data))
    if callable(data) and not isinstance(data, AbstractDataset) and not hasattr(data, "get_batchgen"):
        made = data()
        if callable(made) and not isinstance(made, AbstractDataset):
            raise ConfigError(f"{data!r} returned a {type(made).__name__}, which is not data")
        return open_data(made)
    return data if hasattr(data, "get_batchgen") else as_dataset(data)


def describe_data(data: Any) -> Any:
    """Plain values from which another process can open data: a path, or an import path with arguments.

    Raises
    ------
    ConfigError
        If the data exist only in the memory of this process.

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
    """:func:`describe_data`, or a remark for data that cannot be described; None for None."""
    try:
        return None if data is None else describe_data(data)
    except ConfigError:
        return {"class_path": None, "was": f"a {type(data).__name__} in the memory of the process"}


def dataset_of(data: Any) -> AbstractDataset:
    """Dataset of data from :func:`open_data`."""
    dataset = data if isinstance(data, AbstractDataset) else getattr(data, "dataset", None)
    if not isinstance(dataset, AbstractDataset):
        raise ConfigError(f"folds are made of samples, and a {type(data).__name__} does not say what its samples are")
    return dataset


def as_manager(
    data: Any, batch_size: int | None, seed: int, *, train: bool, settings: Mapping[str, Any] | None = None
) -> Any:
    """Data manager of data from :func:`open_data`.

    Parameters
    ----------
    data : object
        Data manager, which is copied if settings change; or a dataset, the samples of which are shuffled for training
        and otherwise stay in order.
    batch_size : int, optional
        Batch size of a manager that is created for a dataset.
    seed : int
        Seed of shuffling and augmentation.
    train : bool
        Whether the manager is for training.
    settings : mapping, optional
        Settings to change, as for ``DataManager.update_state_from_dict``.
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
    """Settings of a manager that yields each sample once and in order, with changes by the user."""
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
        except Exception as error:  # a broken archive raises errors of many types
            raise MissingFileError(f"{path} cannot be read as .npz: {error}") from error
        return DictDataset(arrays)
    raise MissingFileError(f"there are no data at {path}: neither an .npz file nor a folder with a dataset.json")


FILE = "experiment.json"
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
FORMAT_VERSION = 1
_BASES = {"model_cls": nn.Module, "trainer_cls": AbstractNetworkTrainer, "predictor_cls": Predictor}
_FREE = ("name", "save_path", "checkpoint_freq", "checkpoint_seconds", "num_epochs", "delira_nca", "format_version")
"""Settings that may differ when a run is resumed."""


def describe_experiment(experiment: Any, *, strict: bool = True) -> dict[str, Any]:
    """Description of an experiment in plain values.

    Parameters
    ----------
    experiment : Experiment
        Experiment to describe.
    strict : bool
        Whether to raise an error for values that cannot be written; otherwise a remark replaces them.
    """
    settings = experiment.settings()
    settings["config"] = experiment.config.to_dict()
    settings["save_path"] = str(experiment.save_path)
    described = encode(settings, "experiment", strict=strict)
    return {"format_version": FORMAT_VERSION, "delira_nca": __version__, **described}


def read_description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the description of an experiment or a run, without imports.

    Parameters
    ----------
    path : str or path
        Path of the file, or of its folder.

    Raises
    ------
    MissingFileError, ConfigError
        If the file is missing, or of a later version.
    """
    path = absolute(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise MissingFileError(f"there is no experiment in {path}: it has no {FILE}")
    content = read_plain(file)
    if content.get("format_version", 0) > FORMAT_VERSION:
        raise ConfigError(f"{file} was written by delira_nca {content.get('delira_nca')}, which is newer than this one")
    if "config" not in content or "model_cls" not in content:
        raise ConfigError(f"{file} does not describe an experiment: it has no config or no model_cls")
    return content


def read_settings(path: str | os.PathLike[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments of an experiment from its file. Classes and functions in it are imported.

    Raises
    ------
    MissingFileError, ConfigError
        As for :func:`read_description`; also if an import path does not exist, or a class has another base class.
    UnknownKeywordError
        If the file has an unknown entry.
    """
    content = read_description(path)
    for name in ("format_version", "delira_nca", "num_epochs"):
        content.pop(name, None)
    refuse_unknown_keywords(os.fspath(path), [name for name in content if name not in known], known)
    settings: dict[str, Any] = {}
    for name, value in content.items():
        if name in _BASES and value is not None:
            _require_path(value, name)
            settings[name] = import_object(value["class_path"], name, _BASES[name])
        else:
            settings[name] = decode(value, name)
    more = settings.pop("trainer_kwargs", {})
    return {**settings, **more}


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Text of the first setting that differs between two descriptions of a run, or None.

    Examples
    --------
    >>> first_difference({"config": {"seed": 1}}, {"config": {"seed": 2}})
    'config.seed is 1 here and was 2'
    """
    mine, other = ({key: value for key, value in given.items() if key not in _FREE} for given in (ours, theirs))
    found = differences(mine, other, absent="not set", lists=False)
    name = min((name for name in found if not name.endswith("training.num_epochs")), default=None)
    if name is None:
        return None
    here, there = map(_SHORT.repr, found[name])
    return f"{name} is {here} here and was {there}"


def newest_folder(parent: Path, name: str, described: Mapping[str, Any], file: str = FILE) -> Path | None:
    """Newest folder ``name``, ``name-2``, ... with the same description, or None."""
    numbered = {1: parent / name}
    for folder in parent.glob(f"{name}-*"):
        if (number := folder.name.removeprefix(f"{name}-")).isdecimal():
            numbered[int(number)] = folder
    for _, folder in sorted(numbered.items(), reverse=True):
        if (folder / file).is_file() and first_difference(described, read_description(folder / file)) is None:
            return folder
    return None


def _require_path(value: Any, name: str) -> None:
    if not isinstance(value, Mapping) or value.get("class_path") is None:
        was = value.get("was") if isinstance(value, Mapping) else value
        raise ConfigError(f"{name} was {was}, which has no import path: define it at the top of a module")


RESERVED = {
    "network": "model_cls and the model's parameters make it",
    "save_path": "each run gets a folder of its own; save_path of the experiment says where",
    "optim_fn": "it is called optim_builder here",
    "save_freq": "it is called checkpoint_freq here",
    "save_seconds": "it is called checkpoint_seconds here",
    "fold": "kfold numbers the folds",
    "start_epoch": "a run is resumed with resume",
}
"""Arguments of a trainer that an experiment sets itself, and their replacements."""

_HOMES: dict[str, tuple[Any, tuple[type, ...]]] = {
    "optimizer_cls": (optim, (optim.Optimizer,)),
    "lr_scheduler_cls": (optim.lr_scheduler, (optim.lr_scheduler.LRScheduler, AbstractCallback)),
}


def trainer_arguments(training: Mapping[str, Any], trainer_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a trainer, copied so that runs are independent.

    Parameters
    ----------
    training : mapping
        Training parameters of the config, without those of the experiment itself. Optimizers and schedulers may be
        given by name (``"Adam"``) or import path, as may criterions and metrics; callbacks may be classes or partials.
    trainer_kwargs : mapping
        Further arguments of the experiment, in the same form.
    """
    for name in training:
        if name in trainer_kwargs:
            raise ConfigError(f"{name!r} is both a training parameter of the config and an argument of the experiment")
    given = {**training, **trainer_kwargs}
    for name in given:
        if name in RESERVED:
            raise ConfigError(f"{name!r} cannot be set: {RESERVED[name]}")
    arguments = {name: copy.deepcopy(value) for name, value in given.items()}
    for name, (home, bases) in _HOMES.items():
        if isinstance(arguments.get(name), str):
            arguments[name] = _class_by_name(arguments[name], name, home, bases)
    for name in ("criterions", "metrics"):
        if name in arguments:
            arguments[name] = functions_of(arguments[name], name)
    if "callbacks" in arguments:
        arguments["callbacks"] = [_made(callback) for callback in arguments["callbacks"] or ()]
    return arguments


def functions_of(given: Mapping[str, Any] | None, what: str) -> dict[str, Callable[..., Any]]:
    """Functions by name; import paths are imported, and classes or partials of them are called.

    Examples
    --------
    >>> functions_of({"mse": "delira_nca.losses.mse"}, "metrics")["mse"].__name__
    'mse'
    """
    if not isinstance(given, Mapping | None):
        raise ConfigError(f"{what} are functions by name, {{'dice': dice_score}}, not {given!r}")
    found = {}
    for name, value in (given or {}).items():
        if isinstance(value, str):
            value = import_object(value, f"{what}[{name!r}]")
        is_class = isinstance(value.func if isinstance(value, functools.partial) else value, type)
        found[name] = value() if is_class else value
    return found


def _class_by_name(name: str, what: str, home: Any, bases: tuple[type, ...]) -> Any:
    if "." in name:
        return import_object(name, what, bases)
    known = [n for n, v in vars(home).items() if isinstance(v, type) and issubclass(v, bases) and n[0] != "_"]
    if name not in known:
        raise ConfigError(f"{what}: {home.__name__} has no {name!r}. {did_you_mean(name, known)}")
    return getattr(home, name)


def _made(callback: Any) -> Any:
    """Create a callback from its class or a partial of it."""
    target = callback.func if isinstance(callback, functools.partial) else callback
    return callback() if isinstance(target, type) else callback
