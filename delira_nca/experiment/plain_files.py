"""JSON and YAML files of plain values, which are written atomically. Does not import torch."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError
from delira_nca.io.files import replaced
from delira_nca.io.json_file import parse_json, without_doubles
from delira_nca.io.paths import absolute

__all__ = ["parse_yaml", "read_plain", "write_plain"]

_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
"""Numbers that YAML 1.1 reads as strings."""


def write_plain(values: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write plain values as JSON or YAML, depending on the suffix, atomically.

    Raises
    ------
    ConfigError
        For another suffix.
    """
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
