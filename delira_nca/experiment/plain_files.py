"""Nested plain values: files in JSON and YAML, dotted names, and comparison. Does not import torch."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError
from delira_nca.io.files import replaced
from delira_nca.io.json_file import parse_json, without_doubles
from delira_nca.io.paths import absolute

__all__ = ["as_table", "differences", "flat", "parse_yaml", "read_plain", "split_arguments", "write_plain"]

Difference = tuple[Any, Any]
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
"""Numbers that YAML 1.1 reads as strings."""


def write_plain(values: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write plain values as JSON or YAML, depending on the suffix, atomically."""
    path = absolute(path)
    if path.suffix in (".yaml", ".yml"):
        text = _yaml().safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    elif path.suffix == ".json":
        text = json.dumps(values, indent=2) + "\n"
    else:
        raise ConfigError(f"parameters are written as .json, .yaml or .yml, not {path.name!r}")
    with replaced(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def read_plain(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a mapping of plain values from JSON or YAML. Unlike in PyYAML, ``1e-3`` is read as a number.

    Raises
    ------
    MissingFileError
        If the file does not exist.
    ConfigError
        If it is not readable, not a mapping, or contains a name twice.
    """
    path = absolute(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error}") from error
    values = parse_yaml(raw, path) if path.suffix in (".yaml", ".yml") else parse_json(raw, path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, not a mapping of names to values")
    return values


def parse_yaml(raw: bytes | str, where: object) -> Any:
    """Parse YAML. ``1e-3`` is a number, unlike in PyYAML.

    Raises
    ------
    ConfigError
        If it is not valid YAML, or contains a name twice; the message begins with ``where``.
    """
    yaml = _yaml()

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined, misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            return without_doubles(self.construct_pairs(node, deep=True))

    Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_mapping)
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))
    try:
        return yaml.load(raw, Loader)  # bytes, so that a byte order mark determines the encoding
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: it is not valid YAML: {error}") from error


def _yaml() -> Any:
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        raise MissingDependencyError("YAML needs PyYAML: pip install pyyaml, or use .json") from error


def flat(values: Any, path: str = "", *, lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted name. An empty mapping or list counts as a value.

    Parameters
    ----------
    values : object
        Nested mappings, and lists if ``lists``, whose entries are named by number.
    path : str
        Name of the values, which is the beginning of all names.
    lists : bool
        Whether to yield the entries of lists, or each list as one value.

    Examples
    --------
    >>> dict(flat({"a": {"b": 1, "c": []}, "d": [2]}))
    {'a.b': 1, 'a.c': [], 'd.0': 2}
    """
    entries: Any = values.items() if isinstance(values, Mapping) else ()
    if lists and isinstance(values, list):
        entries = enumerate(values)
    nested = [(f"{path}.{key}" if path else str(key), value) for key, value in entries]
    if not nested and path:
        yield path, values
    for name, value in nested:
        yield from flat(value, name, lists=lists)


def differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, absent: Any = None, lists: bool = True
) -> dict[str, Difference]:
    """Compare nested plain values: dotted names of the differences with both values. NaN equals NaN.

    Parameters
    ----------
    ours, theirs : mapping
        Nested plain values.
    absent : object
        Value that stands for one that is not there.
    lists : bool
        Whether to compare the entries of lists, or each list as one value.

    Examples
    --------
    >>> differences({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 2, "c": [1, 2]}, "d": 3})
    {'a.b': (1, 2), 'd': (None, 3)}
    """
    left, right = dict(flat(ours, lists=lists)), dict(flat(theirs, lists=lists))
    pairs = {name: (left.get(name, absent), right.get(name, absent)) for name in {**left, **right}}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b and (a == a or b == b)}


def split_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Texts by name of arguments such as ``--trainer.lr 1e-3`` or ``--trainer.lr=1e-3``."""
    found, rest = {}, list(arguments)
    while rest:
        name, equals, text = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise ConfigError(f"arguments are --name value or --name=value, such as --trainer.lr 1e-3, not {name!r}")
        if not equals and not rest:
            raise ConfigError(f"{name} has no value: arguments are --name value or --name=value")
        found[name[2:]] = text if equals else rest.pop(0)
    return found


def as_table(rows: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """Text of rows as aligned columns; the first row is the header.

    Examples
    --------
    >>> print(as_table([["run", "state"], ["flower", "done"]]))
    run     state
    flower  done
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = str.rjust if right else str.ljust
    return "\n".join("  ".join(map(align, row, widths)).rstrip() for row in rows)
