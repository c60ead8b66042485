"""A model as plain data: what its arguments were, and how they become arguments again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from torch import nn

from delira_nca.errors import ConfigError, refuse_unknown_keywords
from delira_nca.models.alive import AliveMask
from delira_nca.models.perception import Perception
from delira_nca.models.rule import MLPRule

__all__ = ["arguments_from", "arguments_of", "describe"]

_MADE_ANEW = {"device", "plot_function", "rule_type", "use_alive_mask", "alive", "perception", "rule", "head"}
_BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "alive": lambda config: AliveMask(**config),
    "perception": Perception.from_dict,
    "rule": lambda config: MLPRule(**config),
}


class _Described(Protocol):
    @property
    def init_kwargs(self) -> dict[str, Any]: ...

    alive: AliveMask | None
    perception: nn.Module
    rule: nn.Module
    head: nn.Module | None


def describe(model: _Described) -> dict[str, Any]:
    """Plain description of a model, without weights; parts that are not the package's own by their class path."""
    config = {key: value for key, value in model.init_kwargs.items() if key not in _MADE_ANEW}
    config["alive"] = None if model.alive is None else asdict(model.alive)
    config["perception"] = (
        model.perception.to_dict() if type(model.perception) is Perception else _class_path(model.perception)
    )
    config["rule"] = model.rule.to_dict() if type(model.rule) is MLPRule else _class_path(model.rule)
    config["head"] = None if model.head is None else _class_path(model.head)
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
    for name in ("alive", "perception", "rule", "head"):
        value = arguments.get(name)
        if isinstance(value, str):
            raise ConfigError(f"{name} is a {value}, which a description cannot hold: pass {name}=...")
        if isinstance(value, Mapping) and name in _BUILDERS:
            arguments[name] = _BUILDERS[name](dict(value))
    for name in ("training_timesteps", "inference_timesteps"):
        if isinstance(arguments.get(name), list):
            arguments[name] = tuple(arguments[name])
    return arguments


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
    return names - {"self"}


def _class_path(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
