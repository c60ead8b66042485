"""Validation of a config before objects are built; all errors are collected with their places."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import re
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import jsonargparse
import yaml

from delira_nca.errors import ConfigError, DeliraNCAError, did_you_mean, nearest_name

__all__ = ["build_part", "check_part"]


def _parser(hint: Any = None) -> jsonargparse.ArgumentParser:
    """Create a parser, with one item of a type if given."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    if hint is not None:
        parser.add_argument("--item", type=hint)
    return parser


def check_part(name: str, hint: Any, value: Any) -> tuple[Any, list[str]]:
    """Check a value against a type, and fill in defaults.

    Parameters
    ----------
    name : str
        Dotted name for error messages.
    hint : object
        Type; for a dataclass, every field is checked.
    value : object
        Plain values; objects are written as ``{"class_path": ..., "init_args": {...}}``.

    Returns
    -------
    tuple of (completed plain value, list of error messages)
    """
    members = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    section = next((each for each in members if dataclasses.is_dataclass(each)), None)
    if section is not None and (value is not None or section is hint):
        return _check_fields(name, section, value)
    if get_origin(hint) is not list:
        return _check_value(name, hint, value)
    if not isinstance(value, (list, tuple)):
        return value, [f"{name} is a list, not {value!r}"]
    found = [check_part(f"{name}.{number}", hint.__args__[0], item) for number, item in enumerate(value)]
    return [checked for checked, _ in found], [mistake for _, mistakes in found for mistake in mistakes]


def _check_fields(name: str, cls: Any, value: Any) -> tuple[Any, list[str]]:
    hints, checked = get_type_hints(cls), {}
    if not isinstance(value, Mapping):
        return value, [f"{name} is a section, not {value!r}. {did_you_mean('', hints)}"]
    mistakes = [f"{name} has no entry {key!r}. {did_you_mean(key, hints)}" for key in value if key not in hints]
    for field in dataclasses.fields(cls):
        if field.name in value:
            checked[field.name], more = check_part(f"{name}.{field.name}", hints[field.name], value[field.name])
            mistakes += more
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            mistakes.append(f"{name}.{field.name} is missing")
        else:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            checked[field.name], _ = _check_value(name, hints[field.name], default)
    return checked, mistakes


def _check_value(name: str, hint: Any, value: Any) -> tuple[Any, list[str]]:
    if isinstance(value, Mapping) and "class_path" in value and not value["class_path"]:
        return value, [f"{name}.class_path is empty: give the import path of a class or function"]
    parser = _parser(hint)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*JsonargparseDeprecationWarning")
        warnings.filterwarnings("error", "(?s).*denylist")  # paths that a later jsonargparse does not import
        try:
            parsed = parser.parse_object({"item": copy.deepcopy(value)})
            return yaml.safe_load(parser.dump(parsed, skip_unset=False))["item"], []
        except Exception as error:  # an import may raise any exception
            return value, _mistakes_within(name, value) or [f"{name}: {_reason(error, hint, value)}"]


def _mistakes_within(name: str, value: Any) -> list[str]:
    """Errors in the arguments of the objects in a value, which are checked separately."""
    if isinstance(value, list):
        return [mistake for n, item in enumerate(value) for mistake in _mistakes_within(f"{name}.{n}", item)]
    if not isinstance(value, dict):
        return []
    if "class_path" not in value:
        return [mistake for key, entry in value.items() for mistake in _mistakes_within(f"{name}.{key}", entry)]
    try:
        path, given, parser = value["class_path"], dict(value.get("init_args", {})), _parser()
        module, _, attribute = path.rpartition(".")
        target = getattr(importlib.import_module(module), attribute)
        add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
        known = {key.partition(".")[0] for key in add(target)}
    except Exception:  # reported by the check of the whole value
        return []
    mistakes = []
    for key, argument in given.items():
        if key not in known:
            mistakes.append(f"{name}: {path} takes no argument {key!r}. {did_you_mean(key, known)}")
        elif inner := _mistakes_within(f"{name}.{key}", argument):
            mistakes += inner
        else:
            try:
                parser.validate(jsonargparse.Namespace({key: argument}), skip_required=True)  # type: ignore[no-untyped-call]
            except Exception as error:
                mistakes.append(f"{name}.{key}: {_reason(error)}")
    if not mistakes:
        try:
            parser.parse_object(given)
        except Exception as error:  # the import failed
            mistakes.append(f"{name}: {path}: {_reason(error)}")
    return mistakes


def _reason(error: BaseException, hint: Any = None, value: Any = None) -> str:
    """Text of the innermost error, with the nearest valid name."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError):
        beside = Path(f"{str(error.name).partition('.')[0]}.py")
        found = f": {beside} of the working directory is found with PYTHONPATH=." if beside.is_file() else ""
        return f"there is no module {error.name!r}{found}"
    if isinstance(error, AttributeError) and inspect.ismodule(error.obj):
        meant = nearest_name(str(error.name), [each for each in dir(error.obj) if not each.startswith("_")])
        return f"{error}." + (f" Did you mean {meant!r}?" if meant else "")
    reason = re.sub(r"<class '([^']+)'>", r"\1", " ".join(str(error).split())).partition(", denied by")[0]
    wrong = re.fullmatch(r"Expected an? (.+)\. Got value: (.*)", reason)
    if wrong is None:
        return reason
    whole = isinstance(hint, types.UnionType) and wrong[2] == str(value)  # the error of the first type of the union
    return f"{hint if whole else wrong[1]} is expected, not {wrong[2]}"


def build_part(hint: Any, value: Any) -> Any:
    """Build the objects of a checked value."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return hint(**{key: build_part(hints[key], entry) for key, entry in value.items()})
    if get_origin(hint) is list:
        return [build_part(hint.__args__[0], item) for item in value]
    parser = _parser(hint)
    parsed = parser.parse_object({"item": copy.deepcopy(value)})  # the parser changes its argument
    try:
        return parser.instantiate(parsed)["item"]
    except (DeliraNCAError, MemoryError, OSError):
        raise
    except Exception as raised:
        path = value.get("class_path") if isinstance(value, Mapping) else None
        error: BaseException = raised
        while error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, (DeliraNCAError, OSError)):
            raise error from None
        given = ", ".join(f"{k}={v!r}" for k, v in (value.get("init_args") or {}).items()) if path else ""
        what = f"{path}({given})" if path else repr(value)
        raise ConfigError(f"{what} failed: {type(error).__name__}: {error}") from error
