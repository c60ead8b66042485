"""Nested values with dotted names: what parameters are made of. Free of torch."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from delira_nca.errors import ConfigError, ParameterKeyError, did_you_mean

__all__ = ["Section", "merge", "places"]

_MISSING = object()


class Section(MutableMapping[str, Any]):
    """View of nested values: ``s["a.b"]`` and ``s.a.b`` are the same, and setting one sets the other.

    Examples
    --------
    >>> section = Section({"optimizer_params": {"lr": 1e-3}})
    >>> section.optimizer_params.lr = 2e-3
    >>> section["optimizer_params.lr"], section.flat()
    (0.002, {'optimizer_params.lr': 0.002})
    """

    __slots__ = ("_path", "_values")

    def __init__(self, values: dict[str, Any] | None = None, path: str = "") -> None:
        object.__setattr__(self, "_values", {} if values is None else values)
        object.__setattr__(self, "_path", path)

    def __getitem__(self, key: str) -> Any:
        owner, name = self._find(key)
        if name not in owner._values:
            raise ParameterKeyError(f"there is no parameter {self._full(key)!r}. {did_you_mean(key, self.flat())}")
        value = owner._values[name]
        return Section(value, owner._full(name)) if isinstance(value, dict) else value

    def __setitem__(self, key: str, value: Any) -> None:
        owner, name = self._find(key, make=True)
        owner._values[name] = _nested(value, owner._full(name))

    def __delitem__(self, key: str) -> None:
        self[key]
        owner, name = self._find(key)
        del owner._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except ParameterKeyError as error:
            raise AttributeError(str(error)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __eq__(self, other: object) -> bool:
        theirs = other.to_dict() if isinstance(other, Section) else other
        return isinstance(theirs, Mapping) and _same(self._values, theirs)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"

    def __reduce__(self) -> Any:
        return _remade, (type(self), self._values, self._path)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _remade(type(self), copy.deepcopy(self._values, memo), self._path)

    def __copy__(self) -> Any:
        return copy.deepcopy(self)

    def copy(self) -> Any:
        """Deep copy."""
        return copy.deepcopy(self)

    def to_dict(self) -> dict[str, Any]:
        """Deep copy as plain nested dicts."""
        return copy.deepcopy(self._values)

    def flat(self) -> dict[str, Any]:
        """Values by dotted name. An empty dict is a value."""
        return dict(_leaves(self._values))

    def nested_get(self, key: str, default: Any = _MISSING) -> Any:
        """Value with this name, wherever it is.

        Parameters
        ----------
        key : a name, or the dotted end of one.
        default : what to return where nothing has the name.

        Raises
        ------
        ParameterKeyError
            If it is nowhere and there is no default, with the nearest name; or if it is in several places, with these.
        """
        found = [place for place in places(self._values) if place == key or place.endswith(f".{key}")]
        if len(found) > 1:
            shown = " and ".join(map(self._full, found))
            raise ParameterKeyError(f"the parameter {key!r} is ambiguous: it is in {shown}; give the whole name")
        if found:
            return self[found[0]]
        if default is _MISSING:
            names = {part for place in places(self._values) for part in (place, place.rpartition(".")[2])}
            close = difflib.get_close_matches(key, sorted(names), n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ParameterKeyError(f"there is no parameter {key!r} anywhere in {self._path or 'these'}.{hint}")
        return default

    def update(self, other: Any = (), overwrite: bool = False) -> Any:  # type: ignore[override]
        """Take in other values: all of them or, after an error, none.

        Parameters
        ----------
        other : a section, or a mapping; its names may be dotted. A mapping joins the one of the same name.
        overwrite : whether a value may take the place of another.

        Returns
        -------
        The section itself.

        Raises
        ------
        ConfigError
            If a value would replace another one and may not, with the name and both values.
        """
        merged = Section(copy.deepcopy(self._values), self._path)
        given = other.to_dict() if isinstance(other, Section) else dict(other)
        for key, value in given.items():
            merge(merged, key, _nested(value, merged._full(key)), overwrite)
        self._check(merged._values)
        self._values.clear()
        self._values.update(merged._values)
        return self

    def _check(self, values: Mapping[str, Any]) -> None:
        """Refuse values that cannot be here."""

    def _find(self, key: str, *, make: bool = False) -> tuple[Section, str]:
        """Section that a dotted name ends in, and the last part of the name."""
        if not isinstance(key, str) or not all(key.split(".")):
            raise ParameterKeyError(f"a parameter has a name such as 'fixed.training.num_epochs', not {key!r}")
        first, dot, rest = key.partition(".")
        if not dot:
            return self, key
        value = self._values.setdefault(first, {}) if make else self._values.get(first)
        if not isinstance(value, dict):
            if first in self._values and make:
                raise ConfigError(f"{self._full(first)!r} is the value {value!r}: {self._full(key)!r} cannot be")
            raise ParameterKeyError(f"there is no parameter {self._full(key)!r}. {did_you_mean(key, self.flat())}")
        return Section(value, self._full(first))._find(rest, make=make)

    def _full(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else str(key)


def _remade(cls: type[Section], values: dict[str, Any], path: str) -> Section:
    made = object.__new__(cls)
    Section.__init__(made, values, path)
    return made


def _nested(value: Any, where: str) -> Any:
    """Value with mappings as plain dicts, whose names are checked; copied."""
    if isinstance(value, Section):
        return value.to_dict()
    if not isinstance(value, Mapping):
        return copy.deepcopy(value)
    for key in value:
        if not isinstance(key, str) or not key or "." in key:
            raise ConfigError(f"a parameter in {where} is named by a word without a dot, not {key!r}")
    return {key: _nested(part, f"{where}.{key}") for key, part in value.items()}


def merge(into: Section, key: str, value: Any, overwrite: bool) -> None:
    """Set a value in a section, or join a mapping with the one that is there.

    Raises
    ------
    ConfigError
        If a value would replace another one and may not.
    """
    owner, name = into._find(key, make=True)
    former = owner._values.get(name, _MISSING)
    if isinstance(former, dict) and isinstance(value, dict):
        for part, inner in value.items():
            merge(Section(former, owner._full(name)), part, inner, overwrite)
        return
    if former is not _MISSING and not overwrite and not _same(former, value):
        raise ConfigError(
            f"{owner._full(name)!r} is {former!r} and would become {value!r}: say overwrite=True if it is to"
        )
    owner._values[name] = value


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_same(value, theirs[key]) for key, value in ours.items())
    if ours is theirs:
        return True
    try:
        return bool(ours == theirs)
    except (ValueError, RuntimeError):  # of arrays and tensors
        return False


def places(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Dotted names of all values, and of all mappings of values."""
    for key, value in values.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from places(value, f"{path}{key}.")


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", copy.deepcopy(value)
