"""Values of a config set otherwise: by dotted name, and from the arguments of a command line. Free of torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from delira_nca.errors import ConfigError
from delira_nca.experiment.plain_files import FLOAT

__all__ = ["override", "parse_overrides"]


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Values by dotted name from ``--trainer.lr 1e-3`` or ``--trainer.lr=1e-3``; values are read as YAML.

    Raises
    ------
    ConfigError
        If something stands where a name should, or a name has no value.

    Examples
    --------
    >>> parse_overrides(["--trainer.lr", "1e-3", "--data.val_split=0.2", "--name", "a"])
    {'trainer.lr': 0.001, 'data.val_split': 0.2, 'name': 'a'}
    """
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        given = rest.pop(0)
        if not given.startswith("--"):
            raise ConfigError(f"expected a name such as --trainer.lr, not {given!r}")
        name, equals, value = given[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{name} has no value")
            value = rest.pop(0)
        found[name] = _value(value, name)
    return found


def _value(text: str, name: str) -> Any:
    import yaml

    if FLOAT.fullmatch(text):  # YAML 1.1 takes 1e-3 for a word
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of --{name}, {text!r}, is no YAML: {error}") from error


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Set values by dotted name, in a copy.

    A number counts the entries of a list from 0. What is said to a ``class_path`` entry without ``init_args`` is meant
    for these: ``model.hidden_size`` is ``model.init_args.hidden_size``. Changing a ``class_path`` drops the arguments.

    Raises
    ------
    ConfigError
        If a name leads through a value that holds no others, or to an entry that a list does not have.

    Examples
    --------
    >>> override({"trainer": {"lr": 1.0}}, {"trainer.lr": 0.1, "seed": 3})
    {'trainer': {'lr': 0.1}, 'seed': 3}
    >>> override({"model": {"class_path": "a.B", "init_args": {"c": 1}}}, {"model.c": 2})
    {'model': {'class_path': 'a.B', 'init_args': {'c': 2}}}
    """
    changed = copy.deepcopy(dict(values))
    for name, value in changes.items():
        _set(changed, name.split("."), value, name)
    return changed


def _set(values: Any, keys: list[str], value: Any, name: str) -> None:
    key, *rest = keys
    if isinstance(values, list):
        if not key.isdecimal() or int(key) >= len(values):
            raise ConfigError(f"--{name}: {key!r} is none of the {len(values)} entries, counted from 0")
        if rest:
            _set(values[int(key)], rest, value, name)
        else:
            values[int(key)] = value
        return
    if not isinstance(values, dict):
        raise ConfigError(f"--{name}: what should hold {key!r} is {values!r}")
    if "class_path" in values and key not in ("class_path", "init_args", "dict_kwargs"):
        values = values.setdefault("init_args", {})
    if rest:
        if values.get(key) is None:
            values[key] = {}
        _set(values[key], rest, value, name)
    else:
        if key == "class_path" and values.get(key) != value:
            values.pop("init_args", None)
        values[key] = copy.deepcopy(value)
