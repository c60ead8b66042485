"""Models and their parts as plain values, and back."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from torch import nn

from delira_nca.errors import ConfigError, refuse_unknown_keywords, require_choice
from delira_nca.models.conditioning import GoalEmbedding
from delira_nca.models.implicit import ImplicitDecoder
from delira_nca.models.masks import AliveMask, InputMask
from delira_nca.models.part import Part
from delira_nca.models.perception import GroupedPerception, IsotropicPerception, Perception, SteerablePerception
from delira_nca.models.rule import AttentionRule, LinearRule, MixtureRule, MLPRule, NormedRule

__all__ = ["arguments_from", "arguments_of", "class_of_package", "describe"]

T = TypeVar("T")
_ROOM = "delira_nca.models."


def class_of_package(path: str, base: type[T]) -> type[T] | None:
    """Class of a model of this package; None for any other, of which nothing is imported.

    Parameters
    ----------
    path : str
        Module and name.
    base : type
        Class that it must derive from.

    Examples
    --------
    >>> from torch import nn
    >>> class_of_package("delira_nca.models.basic_nca.BasicNCAModel", nn.Module).__name__
    'BasicNCAModel'
    >>> class_of_package("os.system", nn.Module) is None
    True
    """
    module, _, name = path.rpartition(".")
    if not path.startswith(_ROOM) or not name.isidentifier():
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, base) else None


_MADE_ANEW = {"device", "plot_function", "rule_type", "use_alive_mask"}
_MASKS: dict[str, Callable[..., Any]] = {"alive": AliveMask, "input_mask": InputMask}
_PARTS: dict[str, tuple[type[Part], ...]] = {
    "perception": (Perception, GroupedPerception, SteerablePerception, IsotropicPerception),
    "rule": (MLPRule, LinearRule, AttentionRule, MixtureRule, NormedRule),
    "conditioning": (GoalEmbedding,),
    "head": (ImplicitDecoder,),
}
"""Kinds of parts that a description holds; the first of a kind is meant where it does not say which."""


class _Described(Protocol):
    @property
    def init_kwargs(self) -> dict[str, Any]: ...


def describe(model: _Described) -> dict[str, Any]:
    """Plain description of a model, without weights; parts that are not the package's own by their class path."""
    own = {*_MADE_ANEW, *_MASKS, *_PARTS}
    config = {key: value for key, value in model.init_kwargs.items() if key not in own}
    for name in _MASKS:
        mask = getattr(model, name, None)
        config[name] = None if mask is None else asdict(mask)
    for name, classes in _PARTS.items():
        part: Any = getattr(model, name, None)
        if type(part) in classes:
            which = {} if type(part) is classes[0] else {"type": type(part).__name__}
            config[name] = {**which, **part.to_dict()}
        else:
            config[name] = None if part is None else _class_path(part)
    return config


def arguments_from(cls: type, config: Mapping[str, Any], base: type) -> dict[str, Any]:
    """Arguments of a model's class from a description, its parts made anew.

    Raises
    ------
    UnknownKeywordError, ConfigError
        If the class takes no such argument, or a part is a module of the user's that was not handed in.
    """
    arguments = dict(config)
    known = arguments_of(cls, base)
    refuse_unknown_keywords(cls.__name__, sorted(arguments.keys() - known), known)
    for name in (*_MASKS, *_PARTS):
        value = arguments.get(name)
        if isinstance(value, str):
            raise ConfigError(f"{name} is a {value}, which a description cannot hold: pass {name}=...")
        if isinstance(value, Mapping):
            arguments[name] = _MASKS[name](**value) if name in _MASKS else _part(name, value)
    for name in ("training_timesteps", "inference_timesteps"):
        if isinstance(arguments.get(name), list):
            arguments[name] = tuple(arguments[name])
    return arguments


def _part(name: str, config: Mapping[str, Any]) -> Part:
    classes = {cls.__name__: cls for cls in _PARTS[name]}
    wanted = config.get("type", next(iter(classes), None))
    require_choice(f"type of a {name}", wanted, classes)
    return classes[wanted].from_dict({key: value for key, value in config.items() if key != "type"})


def arguments_of(cls: type, base: type) -> set[str]:
    """Names that a constructor takes; where it passes any others on, also those of the next class, up to ``base``."""
    names: set[str] = set()
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters.values()  # type: ignore[misc]
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if owner is base or all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return {*names, *getattr(cls, "decides", ())} - {"self"}


def _class_path(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
