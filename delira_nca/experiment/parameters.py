"""Fixed and variable parameters of models and trainings, accessed by dotted names."""

from __future__ import annotations

import ast
import copy
import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError, ParameterKeyError, did_you_mean, nearest_name
from delira_nca.experiment.plain_files import flat, read_plain, split_arguments, write_plain

__all__ = ["Parameters", "Section", "merge", "places"]

_MISSING = object()


class Section(MutableMapping[str, Any]):
    """View of nested values, in which ``s["a.b"]`` and ``s.a.b`` are equivalent.

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
            raise self._unknown(key)
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

    def copy(self) -> Any:
        """Deep copy."""
        return copy.deepcopy(self)

    __copy__ = copy

    def to_dict(self) -> dict[str, Any]:
        """Deep copy as plain nested dicts."""
        return copy.deepcopy(self._values)

    def flat(self) -> dict[str, Any]:
        """Values by dotted name. An empty dict counts as a value."""
        return copy.deepcopy(dict(flat(self._values, lists=False)))

    def nested_get(self, key: str, default: Any = _MISSING) -> Any:
        """Find a value by its name, at any place.

        Parameters
        ----------
        key : str
            Name, or the dotted end of one.
        default : object
            Value to return if the name does not exist.

        Raises
        ------
        ParameterKeyError
            If the name does not exist and there is no default, or exists at several places.
        """
        place = self._place(key)
        if place is not None:
            return self[place]
        if default is _MISSING:
            names = {part for name in places(self._values) for part in (name, name.rpartition(".")[2])}
            close = nearest_name(key, sorted(names))
            hint = f" Did you mean {close!r}?" if close else ""
            raise ParameterKeyError(f"there is no parameter {key!r} anywhere in {self._path or 'these'}.{hint}")
        return default

    def _place(self, key: str) -> str | None:
        """Whole name of a parameter by its end, or None if it does not exist."""
        found = [place for place in places(self._values) if place == key or place.endswith(f".{key}")]
        if len(found) > 1:
            shown = " and ".join(map(self._full, found))
            raise ParameterKeyError(f"the parameter {key!r} is ambiguous: it is in {shown}; give the whole name")
        return found[0] if found else None

    def update(self, other: Any = (), overwrite: bool = False) -> Any:  # type: ignore[override]
        """Add other values. After an error, nothing is changed.

        Parameters
        ----------
        other : object
            Section or mapping, with names that may be dotted. A mapping is merged with that of the same name.
        overwrite : bool
            Whether existing values may be replaced.

        Returns
        -------
        Section
            The section itself.

        Raises
        ------
        ConfigError
            If a value would be replaced and ``overwrite`` is False.
        """
        merged = Section(copy.deepcopy(self._values), self._path)
        for key, value in dict(other).items():
            merge(merged, key, _nested(value, merged._full(key)), overwrite)
        self._check(merged._values)
        self._values.clear()
        self._values.update(merged._values)
        return self

    def _check(self, values: Mapping[str, Any]) -> None:
        """Raise an error for values that the section cannot hold."""

    def _find(self, key: str, *, make: bool = False) -> tuple[Section, str]:
        """Section of a dotted name, and the last part of the name."""
        if not isinstance(key, str) or not all(key.split(".")):
            raise ParameterKeyError(f"a parameter has a name such as 'fixed.training.num_epochs', not {key!r}")
        first, dot, rest = key.partition(".")
        if not dot:
            return self, key
        value = self._values.setdefault(first, {}) if make else self._values.get(first)
        if isinstance(value, dict):
            return Section(value, self._full(first))._find(rest, make=make)
        if make:
            raise ConfigError(f"{self._full(first)!r} is the value {value!r}: {self._full(key)!r} cannot be")
        raise self._unknown(key)

    def _unknown(self, key: str) -> ParameterKeyError:
        return ParameterKeyError(f"there is no parameter {self._full(key)!r}. {did_you_mean(key, self.flat())}")

    def _full(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else str(key)


def _remade(cls: type[Section], values: dict[str, Any], path: str) -> Section:
    made = object.__new__(cls)
    Section.__init__(made, values, path)
    return made


def _nested(value: Any, where: str) -> Any:
    """Copy a value, with mappings as plain dicts, and check the names."""
    if isinstance(value, Section):
        return value.to_dict()
    if not isinstance(value, Mapping):
        return copy.deepcopy(value)
    for key in value:
        if not isinstance(key, str) or not key or "." in key:
            raise ConfigError(f"a parameter in {where} is named by a word without a dot, not {key!r}")
    return {key: _nested(part, f"{where}.{key}") for key, part in value.items()}


def merge(into: Section, key: str, value: Any, overwrite: bool) -> None:
    """Set a value in a section, or merge a mapping with the existing one."""
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
    except (ValueError, RuntimeError):  # comparisons of arrays and tensors
        return False


def places(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the dotted names of all values and mappings."""
    for key, value in values.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from places(value, f"{path}{key}.")


KINDS, SECTIONS = ("fixed", "variable"), ("model", "training")


class Parameters(Section):
    """``fixed`` and ``variable`` parameters of an experiment, each for ``model`` and ``training``.

    Model parameters are arguments of the class of the model. Training parameters are arguments of the trainer, and
    those of the experiment (``num_epochs``, ``batch_size``). Variable parameters are those varied in a search;
    otherwise both kinds are treated in the same way.

    Parameters
    ----------
    fixed_params, variable_params : mapping, optional
        ``{"model": {...}, "training": {...}}``, which are copied.

    Raises
    ------
    ConfigError
        If a name is not a string without a dot, or a section has another name.

    Examples
    --------
    >>> p = Parameters({"model": {"channels": 16}, "training": {"num_epochs": 3}}, {"training": {"seed": 1}})
    >>> p["fixed.model.channels"], p.fixed.model.channels, p.nested_get("seed"), p.training
    (16, 16, 1, {'num_epochs': 3, 'seed': 1})
    >>> p.update({"fixed.training.num_epochs": 5})
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: 'fixed.training.num_epochs' is 3 and would become 5: say overwrite=True if it is to
    """

    __slots__ = ()

    def __init__(
        self, fixed_params: Mapping[str, Any] | None = None, variable_params: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__({kind: {section: {} for section in SECTIONS} for kind in KINDS})
        given = {"fixed": fixed_params or {}, "variable": variable_params or {}}
        for kind, params in given.items():
            if not isinstance(params, Mapping):
                raise ConfigError(f"{kind}_params are {{'model': ..., 'training': ...}}, not {params!r}")
        self.update(given)

    def __setitem__(self, key: str, value: Any) -> None:
        changed = Section(self.to_dict())
        changed[key] = value
        self._check(changed._values)
        super().__setitem__(key, value)

    @property
    def model(self) -> dict[str, Any]:
        """Copy of the fixed and variable arguments of the model.

        Raises
        ------
        ConfigError
            If an argument has two values.
        """
        return self._together("model")

    @property
    def training(self) -> dict[str, Any]:
        """Copy of the fixed and variable parameters of the training, like :attr:`model`."""
        return self._together("training")

    def _together(self, section: str) -> dict[str, Any]:
        self._check(self._values)  # a view may have been changed
        values: dict[str, Any] = {}
        merged = Section(values, section)
        for kind in KINDS:
            for key, value in self._values.get(kind, {}).get(section, {}).items():
                try:
                    merge(merged, key, copy.deepcopy(value), False)
                except ConfigError:
                    raise ConfigError(
                        f"{section}.{key} is fixed and variable, with two values: {merged[key]!r} and {value!r}"
                    ) from None
        return values

    def _check(self, values: Mapping[str, Any]) -> None:
        for kind, params in values.items():
            if kind not in KINDS:
                raise ConfigError(f"parameters are fixed or variable, not {kind!r}. {did_you_mean(kind, KINDS)}")
            for section in params if isinstance(params, Mapping) else [params]:
                is_section = isinstance(params, Mapping) and isinstance(params[section], Mapping)
                if section not in SECTIONS or not is_section:
                    raise ConfigError(
                        f"{kind} parameters are of the model or of the training, each a dict, not {section!r}. "
                        f"{did_you_mean(section, SECTIONS)}"
                    )

    def flat(self) -> dict[str, Any]:
        """Values by dotted name, such as ``fixed.model.channels``."""
        empty = [f"{kind}.{section}" for kind in KINDS for section in SECTIONS]
        return {name: value for name, value in super().flat().items() if name not in empty}

    def update_from_arguments(self, arguments: Sequence[str]) -> Parameters:
        """Change parameters by arguments such as ``--training.optimizer_params.lr 1e-3`` or ``--lr=1e-3``.

        A name may be the end of a dotted name. It must exist, and its value keeps its type.

        Raises
        ------
        ParameterKeyError
            If the name does not exist, or is ambiguous.
        ConfigError
            If a value is missing, or of another type.

        Examples
        --------
        >>> p = Parameters({"training": {"optimizer_params": {"lr": 1e-3}, "num_epochs": 3}})
        >>> p.update_from_arguments(["--lr", "1e-2", "--training.num_epochs=7"]).training
        {'optimizer_params': {'lr': 0.01}, 'num_epochs': 7}
        """
        changes = {}
        for name, text in split_arguments(arguments).items():
            former = self.nested_get(name)
            place = self._place(name) or name
            changes[place] = _typed(text, former, place)
        self.update(changes, overwrite=True)
        return self

    def with_changes(self, config: Any) -> Parameters:
        """Return a copy with changed values.

        Parameters
        ----------
        config : object
            Parameters, the path of a file, or a mapping with names that may be dotted. Names that start with neither
            ``fixed`` nor ``variable`` are fixed parameters. None changes nothing.

        Examples
        --------
        >>> p = Parameters({"training": {"num_epochs": 3}})
        >>> p.with_changes({"training.num_epochs": 5}).training, p.training
        ({'num_epochs': 5}, {'num_epochs': 3})
        """
        given = Parameters.load(config) if isinstance(config, (str, os.PathLike)) else config
        if not isinstance(given, Mapping | None):
            raise ConfigError(f"config is Parameters, a mapping or the path of a file, not a {type(given).__name__}")
        named = {k if k.partition(".")[0] in KINDS else f"fixed.{k}": v for k, v in (given or {}).items()}
        return self.copy().update(named, overwrite=True)  # type: ignore[no-any-return]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the parameters to a ``.json``, ``.yaml`` or ``.yml`` file.

        Classes and functions are written as import paths, and tuples as lists; see
        :mod:`delira_nca.experiment.import_paths`.
        """
        from delira_nca.experiment.import_paths import encode

        return write_plain({kind: encode(self._values[kind], kind) for kind in KINDS}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Parameters:
        """Read parameters from a file. Classes in the file are imported: load only trusted files.

        Raises
        ------
        MissingFileError, ConfigError
            If the file is missing, or does not contain parameters.
        """
        return cls.of(read_plain(path), os.fspath(path))

    @classmethod
    def of(cls, config: Any, where: str = "config") -> Parameters:
        """Convert parameters, ``{"fixed": ..., "variable": ...}``, or the path of a file to a copy of parameters.

        A mapping with ``"model"`` and ``"training"`` contains fixed parameters.
        """
        if isinstance(config, (str, os.PathLike)):
            return cls.load(config)
        if not isinstance(config, Mapping):
            raise ConfigError(f"{where} is Parameters, a mapping or the path of a file, not a {type(config).__name__}")
        from delira_nca.experiment.import_paths import decode

        values = config.to_dict() if isinstance(config, Section) else decode(dict(config), where)
        if set(values) & set(SECTIONS):
            values = {"fixed": values}
        for kind in values:
            if kind not in KINDS:
                raise ConfigError(f"{where} has {kind!r}. {did_you_mean(kind, (*KINDS, *SECTIONS))}")
        return cls(values.get("fixed"), values.get("variable"))


def _typed(text: str, former: Any, place: str) -> Any:
    """Convert the text of an argument to the type of the value that it replaces."""
    if isinstance(former, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False", "null": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if former is None or value is None:
        return value
    wanted = (int, float) if type(former) is float else type(former)
    if isinstance(former, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(former)(value)
    if isinstance(value, bool) is not isinstance(former, bool) or not isinstance(value, wanted):
        raise ConfigError(f"{place} is {former!r}, a {type(former).__name__}, which {text!r} is not")
    return float(value) if type(former) is float else value
