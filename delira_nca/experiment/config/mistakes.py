"""All mistakes of a description at once: each value is held against the type that the signature gives it.

The types are jsonargparse's work; that it goes on after the first mistake, and names what was probably meant, is ours.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import jsonargparse

from delira_nca.errors import did_you_mean

__all__ = ["build_part", "check_part", "parser_of"]

_PATH = re.compile(r'Parser key "([^"]+)"')
_CLASS_PATH = re.compile(r"given class_path '([^']+)'")
_OPTION = re.compile(r"Option '([^']+)' is not accepted|does not accept (?:nested key|option) '([^']+)'")
_NO_ATTRIBUTE = re.compile(r"module '([^']+)' has no attribute '([^']+)'")
_NO_MODULE = re.compile(r"No module named '([^']+)'")
_DENIED = re.compile(r"Importing '[^']+' is not allowed")
_REQUIRED = re.compile(r"the following arguments are required: (.+)")


def parser_of(name: str, hint: Any) -> jsonargparse.ArgumentParser:
    """Parser of one value of a type."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{name}", type=hint)
    return parser


def check_part(name: str, hint: Any, value: Any) -> tuple[Any, list[str]]:
    """Hold a value against a type, and complete it with the defaults.

    Parameters
    ----------
    name : dotted, for the messages.
    hint : a type; of a dataclass, every field is checked.
    value : plain values; objects stand as ``{"class_path": ..., "init_args": {...}}``.

    Returns
    -------
    tuple of (completed plain value, mistakes in words)
    """
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _check_fields(name, hint, value)
    if getattr(hint, "__origin__", None) is list:
        return _check_items(name, hint.__args__[0], value)
    return _check_value(name, hint, value)


def _check_fields(name: str, cls: type, value: Any) -> tuple[Any, list[str]]:
    if not isinstance(value, Mapping):
        return value, [f"{name} is a section with {did_you_mean('', _fields(cls))} It is {value!r}"]
    hints, checked, mistakes = get_type_hints(cls), {}, []
    for key in value:
        if key not in hints:
            mistakes.append(f"{name} has no entry {key!r}. {did_you_mean(key, hints)}")
    for field in dataclasses.fields(cls):
        if field.name in value:
            checked[field.name], more = check_part(f"{name}.{field.name}", hints[field.name], value[field.name])
            mistakes += more
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            mistakes.append(f"{name}.{field.name} is missing")
        else:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            checked[field.name], _ = _check_value(field.name, hints[field.name], default)
    return checked, mistakes


def _fields(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _check_items(name: str, hint: Any, value: Any) -> tuple[Any, list[str]]:
    if not isinstance(value, (list, tuple)):
        return value, [f"{name} is a list, not {value!r}"]
    checked, mistakes = [], []
    for number, item in enumerate(value):
        done, more = check_part(f"{name}.{number}", hint, item)
        checked.append(done)
        mistakes += more
    return checked, mistakes


def _check_value(name: str, hint: Any, value: Any) -> tuple[Any, list[str]]:
    """Take out what is wrong, one after the other, until the rest is right."""
    key = name.rpartition(".")[2] if not name.rpartition(".")[2].isdecimal() else "item"
    parser = parser_of(key, hint)
    value = copy.deepcopy(value)
    mistakes: list[str] = []
    while True:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "(?s).*JsonargparseDeprecationWarning")
                warnings.filterwarnings("error", "(?s).*denylist")  # what a later jsonargparse refuses to import
                parsed = parser.parse_object({key: value})
            return _plain(parser, parsed, key), mistakes
        except Exception as error:  # imports that a class path names may raise anything
            text = str(error)
        path, reason, wrong = _told(text)
        if wrong is None or (mistakes and "missing" in reason):
            return value, mistakes or [f"{'.'.join((name, *path))}: {reason}"]
        mistakes.append(f"{'.'.join((name, *path))}: {reason}")
        if not _remove(value, [*path, *wrong]):
            return value, mistakes


def _plain(parser: jsonargparse.ArgumentParser, parsed: Any, key: str) -> Any:
    import yaml

    return yaml.safe_load(parser.dump(parsed, skip_unset=False))[key]


def _told(text: str) -> tuple[list[str], str, list[str] | None]:
    """Where a mistake is below the value, what it is, and what has to go for the next one to be seen."""
    path = [part for found in _PATH.findall(text)[1:] for part in found.split(".")]
    last = text.strip().splitlines()[-1].strip() if "Union" not in text else " ".join(text.split())
    class_paths = _CLASS_PATH.findall(text)
    if option := _OPTION.search(text):
        unknown = option[1] or option[2]
        owner = class_paths[-1] if class_paths else "it"
        return path, f"{owner} takes no argument {unknown!r}. {_nearest_argument(owner, unknown)}".strip(), [unknown]
    if missing := _REQUIRED.search(text):
        return path, f"{class_paths[-1] if class_paths else 'it'} is missing {missing[1]}", None
    if attribute := _NO_ATTRIBUTE.search(text):
        return path, f"{attribute[0]}. {_nearest_name(attribute[1], attribute[2])}", []
    if module := _NO_MODULE.search(text):
        beside = Path(f"{module[1].partition('.')[0]}.py")
        hint = f": {beside} of the working directory is found with PYTHONPATH=." if beside.is_file() else ""
        return path, f"there is no module {module[1]!r}{hint}", []
    if denied := _DENIED.search(text):
        return path, denied[0], []
    reason = re.sub(r"<class '([^']+)'>", r"\1", last)
    return path, re.sub(r"^Expected an? (.+)\. Got value: (.*)$", r"\1 is expected, not \2", reason), []


def _nearest_argument(class_path: str, unknown: str) -> str:
    try:
        module, _, name = class_path.rpartition(".")
        target = getattr(importlib.import_module(module), name)
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        adds = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
        return did_you_mean(unknown, [known.partition(".")[0] for known in adds(target)])
    except Exception:  # it is only a help
        return ""


def _nearest_name(module: str, name: str) -> str:
    known = [each for each in dir(importlib.import_module(module)) if not each.startswith("_")]
    told = did_you_mean(name, known)
    return told[told.find("Did you mean") :] if "Did you mean" in told else ""


def _remove(value: Any, path: list[str]) -> bool:
    """Take out an entry, of class arguments where the path does not say so; False if it is the whole value."""
    *parents, last = path if path else [""]
    for key in parents:
        value = _arguments(value)
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    value = _arguments(value) if not (isinstance(value, dict) and last in value) else value
    return isinstance(value, dict) and value.pop(last, _remove) is not _remove


def _arguments(value: Any) -> Any:
    return value.get("init_args", {}) if isinstance(value, dict) and "class_path" in value else value


def build_part(name: str, hint: Any, value: Any) -> Any:
    """Make the objects of a value that has been checked."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return hint(**{key: build_part(key, hints[key], entry) for key, entry in value.items()})
    if getattr(hint, "__origin__", None) is list:
        return [build_part("item", hint.__args__[0], item) for item in value]
    parser = parser_of(name, hint)
    return parser.instantiate(parser.parse_object({name: copy.deepcopy(value)}))[name]  # it changes what it is given
