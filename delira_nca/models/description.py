"""Convert models and their parts to plain values and back."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from torch import nn

from delira_nca.errors import ConfigError, refuse_unknown_keywords, require_choice
from delira_nca.models.conditioning import GoalEmbedding
from delira_nca.models.graph_perception import GraphPerception
from delira_nca.models.implicit import ImplicitDecoder
from delira_nca.models.masks import AliveMask, InputMask
from delira_nca.models.part import Part
from delira_nca.models.perception import GroupedPerception, IsotropicPerception, Perception, SteerablePerception
from delira_nca.models.rule import AttentionRule, LinearRule, MixtureRule, MLPRule, NormedRule

__all__ = ["arguments_from", "arguments_of", "class_of_package", "describe", "with_tuples"]

T = TypeVar("T")
_ROOMS = ("delira_nca.models.", "delira_nca.ncalab.")


def class_of_package(path: str, base: type[T]) -> type[T] | None:
    """Return a class of this package by its path; None for any other path, which is not imported.

    Parameters
    ----------
    path : str
        Path of the class: module and name.
    base : type
        Required base class.

    Examples
    --------
    >>> from torch import nn
    >>> class_of_package("delira_nca.models.basic_nca.BasicNCAModel", nn.Module).__name__
    'BasicNCAModel'
    >>> class_of_package("os.system", nn.Module) is None
    True
    """
    module, _, name = path.rpartition(".")
    if not path.startswith(_ROOMS) or not name.isidentifier():
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, base) else None


_MADE_ANEW = {"device", "plot_function", "rule_type", "use_alive_mask"}
_NUMBERS = ("training_timesteps", "inference_timesteps", "fire_rate", "update_noise")
"""Arguments that a callback or a user may change after the construction."""
_MASKS: dict[str, Callable[..., Any]] = {"alive": AliveMask, "input_mask": InputMask}
_PARTS: dict[str, tuple[type[Part], ...]] = {
    "perception": (Perception, GroupedPerception, SteerablePerception, IsotropicPerception, GraphPerception),
    "rule": (MLPRule, LinearRule, AttentionRule, MixtureRule, NormedRule),
    "conditioning": (GoalEmbedding,),
    "head": (ImplicitDecoder,),
}
"""Classes of parts that a description can hold, by argument. The first one is the default."""


class _Described(Protocol):
    @property
    def init_kwargs(self) -> dict[str, Any]: ...


def describe(model: _Described) -> dict[str, Any]:
    """Return a plain description of a model, without weights; custom parts are described by their class path."""
    own = {*_MADE_ANEW, *_MASKS, *_PARTS}
    config = {key: value for key, value in model.init_kwargs.items() if key not in own}
    config |= {name: getattr(model, name) for name in _NUMBERS if name in config and hasattr(model, name)}
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
    """Return the arguments of a model's class from a description, with new parts.

    Raises
    ------
    UnknownKeywordError, ConfigError
        If an argument is unknown, or a custom part is missing.
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
    return with_tuples(arguments)


def with_tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    """Convert ranges of steps to tuples in place, which are lists in JSON, and return the arguments."""
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
    """Names of a constructor's arguments; with ``**kwargs`` also those of its base classes, up to ``base``."""
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
