"""An experiment as plain values in a file: what it was made of, and whether another one is the same."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from delira_nca._version import __version__
from delira_nca.errors import ConfigError, MissingFileError, refuse_unknown_keywords
from delira_nca.experiment.experiments.evaluate import Predictor
from delira_nca.experiment.parameters.named import decode, encode, import_object
from delira_nca.experiment.plain_files import read_plain
from delira_nca.io.paths import absolute
from delira_nca.training.abstract_trainer import AbstractNetworkTrainer

__all__ = ["FILE", "describe_experiment", "first_difference", "newest_folder", "read_description", "read_settings"]

FILE = "experiment.json"
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
FORMAT_VERSION = 1
_BASES = {"model_cls": nn.Module, "trainer_cls": AbstractNetworkTrainer, "predictor_cls": Predictor}
_FREE = ("name", "save_path", "checkpoint_freq", "checkpoint_seconds", "num_epochs", "delira_nca", "format_version")
"""What may differ where a run goes on."""


def describe_experiment(experiment: Any, *, strict: bool = True) -> dict[str, Any]:
    """Everything that an experiment was made of, as plain values.

    Parameters
    ----------
    experiment : Experiment
    strict : bool
        Whether to refuse what no file can hold; a remark takes its place otherwise.

    Raises
    ------
    ConfigError
        With the place of what cannot be written.
    """
    settings = experiment.settings()
    settings["config"] = experiment.config.to_dict()
    settings["save_path"] = str(experiment.save_path)
    described = encode(settings, "experiment", strict=strict)
    return {"format_version": FORMAT_VERSION, "delira_nca": __version__, **described}


def read_description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what describes an experiment, or a run of one; nothing is imported.

    Parameters
    ----------
    path : of the file, or of the folder that it is in.

    Raises
    ------
    MissingFileError, ConfigError
        If there is none, or it is of a later version.
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
    """Arguments of an experiment out of its file. The classes and functions that it names are imported.

    Raises
    ------
    MissingFileError, ConfigError
        As :func:`read_description`; also if a path leads nowhere, or to a class that is not derived from what it must.
    UnknownKeywordError
        If the file has an entry that an experiment does not know.
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
    """The first setting, in words, in which a run would not be what it was; None if there is none.

    Examples
    --------
    >>> first_difference({"config": {"seed": 1}}, {"config": {"seed": 2}})
    'config.seed is 1 here and was 2'
    """
    mine, other = (dict(_leaves({k: v for k, v in d.items() if k not in _FREE})) for d in (ours, theirs))
    for name in sorted(mine.keys() | other.keys()):
        if mine.get(name) != other.get(name) and not name.endswith("training.num_epochs"):
            here, there = mine.get(name, "not set"), other.get(name, "not set")
            return f"{name} is {_SHORT.repr(here)} here and was {_SHORT.repr(there)}"
    return None


def newest_folder(parent: Path, name: str, described: Mapping[str, Any], file: str = FILE) -> Path | None:
    """Newest folder ``name``, ``name-2``, ... whose file describes the same; None if there is none."""
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


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
