"""The parameters that a validation goes through: identifiers, or settings of a post-processing. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError
from delira_nca.experiment.stats.values import require_text

__all__ = ["Parameters", "as_parameters", "columns", "labels", "names"]

Plain = bool | int | float | str | None
Parameters = Mapping[str, Plain] | str | int
"""Settings by name, or an identifier."""

RESERVED = ("iterations", "datasets", "parameters", "criteria")
ID = "id"
NOTHING = "default"


def as_parameters(given: Iterable[Any]) -> list[Parameters]:
    """Plain copies of parameters.

    Raises
    ------
    ConfigError
        If one is neither a mapping of plain values nor an identifier, they are not all of one kind, a name is taken
        by a dimension, or two are alike.
    """
    parameters: list[Parameters] = [_as_settings(p) if isinstance(p, Mapping) else _as_id(p) for p in given]
    if len({isinstance(p, Mapping) for p in parameters}) > 1:
        raise ConfigError(f"parameters are all mappings or all identifiers, not {parameters}")
    seen = set()
    for parameter, label in zip(parameters, labels(parameters), strict=True):
        if label in seen:
            raise ConfigError(f"parameters differ from each other, and {parameter!r} comes twice")
        seen.add(label)
    return parameters


def names(parameters: Sequence[Parameters]) -> list[str]:
    """Names of the settings in the order in which they first appear; ``["id"]`` for identifiers."""
    return list(dict.fromkeys(name for p in parameters for name in (p if isinstance(p, Mapping) else [ID])))


def labels(parameters: Sequence[Parameters]) -> list[str]:
    """One text for each of the parameters, by which it is found along an axis.

    Examples
    --------
    >>> labels([{"threshold": 0.5, "steps": 64}, {}]), labels([127, "otsu"])
    (['threshold=0.5, steps=64', 'default'], ['127', 'otsu'])
    """
    return [_label(p) if isinstance(p, Mapping) else str(p) for p in parameters]


def columns(parameters: Sequence[Parameters]) -> dict[str, npt.NDArray[Any]]:
    """Values of every setting along the axis of the parameters, as arrays that can be written to a file.

    Truth values, whole numbers and numbers (NaN where absent) stay what they are; anything else becomes texts, empty
    where absent. Identifiers have no columns.
    """
    settings = [p for p in parameters if isinstance(p, Mapping)]
    return {name: _column([p.get(name, _ABSENT) for p in settings]) for name in (names(settings))}


_ABSENT = object()


def _column(values: list[Any]) -> npt.NDArray[Any]:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, np.bool_)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float, object} and float in kinds:
        return np.array([math.nan if value is _ABSENT else float(value) for value in values], np.float64)
    return np.array(["" if value is _ABSENT else str(value) for value in values], object)


def _label(settings: Mapping[str, Plain]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or NOTHING


def _as_settings(given: Mapping[Any, Any]) -> dict[str, Plain]:
    settings: dict[str, Plain] = {}
    for name, value in given.items():
        if require_text("the name of a parameter", name) in RESERVED:
            raise ConfigError(f"{name!r} is a dimension of the scores: call the parameter otherwise")
        plain = value.item() if isinstance(value, np.generic) else value
        if type(plain) not in (bool, int, float, str, type(None)) or plain != plain:
            raise ConfigError(f"parameter {name!r} is a number, a text, True, False or None, not {value!r}")
        settings[str(name)] = plain
    return settings


def _as_id(given: Any) -> str | int:
    plain = given.item() if isinstance(given, np.generic) else given
    if isinstance(plain, bool) or not isinstance(plain, (int, str)) or plain == "":
        raise ConfigError(f"a parameter is a mapping of plain values or an identifier, not {given!r}")
    return str(plain) if isinstance(plain, str) else int(plain)
