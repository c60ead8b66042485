"""Conversion of classes and functions to import paths, for files."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from delira_nca.errors import ConfigError, did_you_mean

__all__ = ["decode", "encode", "import_object", "path_of"]


def encode(value: Any, where: str = "value", *, strict: bool = True) -> Any:
    """Convert a value to plain values for JSON or YAML.

    Tuples become lists, paths strings, and NumPy numbers Python numbers; parts of an automaton (perception, rule, alive
    mask) become their descriptions.

    Parameters
    ----------
    value : object
        Value to write.
    where : str
        Name of the value in error messages.
    strict : bool
        Whether to raise an error for values without an import path; otherwise they are written as a remark, which
        cannot be decoded.

    Raises
    ------
    ConfigError
        If a value cannot be written. The message contains its place.

    Examples
    --------
    >>> encode({"steps": (8, 12), "part": functools.partial(max, key=len)})
    {'steps': [8, 12], 'part': {'class_path': 'builtins.max', 'init_args': {'key': {'class_path': 'builtins.len'}}}}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {_key(key, where): encode(part, f"{where}.{key}", strict=strict) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(part, f"{where}[{number}]", strict=strict) for number, part in enumerate(value)]
    if isinstance(value, functools.partial) and (keywords := _keywords(value)) is not None:
        target = encode(value.func, where, strict=strict)
        return {**target, "init_args": encode(keywords, where, strict=strict)}
    described = _describe_part(value)
    if described is not None:
        return {"class_path": path_of(type(value)), "init_args": encode(described, where)}
    path = path_of(value) if isinstance(value, type) or inspect.isroutine(value) else None
    if path is None and strict:
        raise ConfigError(
            f"{where} is {_shown(value)}, which cannot be written: give plain values, classes or functions of a "
            "module, or a functools.partial of one"
        )
    return {"class_path": path} if path is not None else {"class_path": None, "was": _shown(value)}


def decode(value: Any, where: str = "value") -> Any:
    """Decode the result of :func:`encode`.

    Only the constructors of the parts of an automaton are called.

    Raises
    ------
    ConfigError
        If an import path is missing or does not exist, or the class is not one that a setting may name.
    """
    if isinstance(value, list):
        return [decode(part, f"{where}[{number}]") for number, part in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if "class_path" not in value:
        return {key: decode(part, f"{where}.{key}") for key, part in value.items()}
    if value["class_path"] is None:
        raise ConfigError(f"{where} was {value.get('was')}, which no file holds: set it in Python")
    target = import_object(value["class_path"], where)
    _require_kind(target, where)
    arguments = decode(value.get("init_args", {}), where)
    if isinstance(target, type) and (make := _parts().get(target)) is not None and "init_args" in value:
        return make(arguments)
    return functools.partial(target, **arguments) if "init_args" in value else target


def path_of(target: Any) -> str | None:
    """Import path of a class or a function, or None if it has none, such as a lambda.

    Examples
    --------
    >>> path_of(ConfigError), path_of(lambda: 1)
    ('delira_nca.errors.ConfigError', None)
    """
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    try:
        return f"{module}.{name}" if import_object(f"{module}.{name}") is target else None
    except ConfigError:
        return None


def import_object(path: str, where: str = "value", base: type | tuple[type, ...] | None = None) -> Any:
    """Import an object by its path.

    Parameters
    ----------
    path : str
        Import path, such as ``"package.module.Name"``.
    where : str
        Name of the value in error messages.
    base : type or tuple of type, optional
        Required base class.

    Raises
    ------
    ConfigError
        If the path does not exist, or the object is not a class derived from ``base``.

    Examples
    --------
    >>> import_object("delira_nca.losses.mze", "criterion")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: criterion: delira_nca.losses has no 'mze'. Known: ... Did you mean 'mse'?
    """
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")) or "." not in path:
        raise ConfigError(f"{where}: an import path is 'module.Name', not {path!r}")
    found = _found(path.split("."), where)
    if base is not None and not (isinstance(found, type) and issubclass(found, base)):
        bases = " or ".join(b.__name__ for b in (base if isinstance(base, tuple) else (base,)))
        raise ConfigError(f"{where}: {path} is {_shown(found)}, not a class derived from {bases}")
    return found


def _found(names: list[str], where: str) -> Any:
    for cut in range(len(names) - 1, 0, -1):
        module_name = ".".join(names[:cut])
        try:
            found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
                continue
            raise ConfigError(f"{where}: {module_name} cannot be imported: {error}") from error
        for name in names[cut:]:
            if not hasattr(found, name):
                known = [n for n in dir(found) if not n.startswith("_")]
                note = "; it was defined in another script" if module_name == "__main__" else ""
                raise ConfigError(f"{where}: {module_name} has no {name!r}{note}. {did_you_mean(name, known)}")
            found = getattr(found, name)
        return found
    raise ConfigError(f"{where}: there is no module {names[0]!r} for {'.'.join(names)}")


def _require_kind(target: Any, where: str) -> None:
    """Check that an object is a function, or a class that a setting may name."""
    from torch import nn, optim

    from delira_nca.data_loading import AbstractDataset, AbstractSampler
    from delira_nca.training.callbacks import AbstractCallback

    kinds = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler, AbstractCallback, AbstractDataset)
    kinds = (*kinds, AbstractSampler, *_parts())
    if isinstance(target, type) and not issubclass(target, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"{where}: {path_of(target)} is not a class that a setting names (derived from {names})")
    if not isinstance(target, type) and not inspect.isroutine(target):
        raise ConfigError(f"{where} names {_shown(target)}, which is neither a class nor a function")


def _parts() -> dict[type, Any]:
    """Parts of an automaton, and the functions that create them from their descriptions."""
    from delira_nca.models.masks import AliveMask
    from delira_nca.models.perception import Perception
    from delira_nca.models.rule import MLPRule

    return {
        AliveMask: lambda config: AliveMask(**config),
        MLPRule: lambda config: MLPRule(**config),
        Perception: Perception.from_dict,
    }


def _describe_part(value: Any) -> dict[str, Any] | None:
    if "torch" not in sys.modules or type(value) not in _parts():
        return None
    described: dict[str, Any] = value.to_dict() if hasattr(value, "to_dict") else asdict(value)
    return described


def _keywords(value: functools.partial[Any]) -> dict[str, Any] | None:
    """Arguments of a partial by name, or None if one has no name."""
    if not value.args:
        return dict(value.keywords)
    try:
        signature = inspect.signature(value.func)
        bound = signature.bind_partial(*value.args, **value.keywords)
    except (TypeError, ValueError):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    if any(signature.parameters[name].kind not in named for name in bound.arguments):
        return None
    keywords = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            keywords |= keywords.pop(name, {})
    return keywords


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"{where} has the key {key!r}: names in a file are strings")
    return key


def _shown(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    if isinstance(value, type):
        return f"the class {name}"
    return f"the function {name}" if inspect.isroutine(value) else f"a {type(value).__name__}"
