"""What the training section of a config becomes: arguments of a trainer, names resolved to classes and functions."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import optim

from delira_nca.errors import ConfigError, did_you_mean
from delira_nca.experiment.parameters.named import import_object
from delira_nca.training.callbacks.abstract_callback import AbstractCallback

__all__ = ["RESERVED", "functions_of", "trainer_arguments"]

RESERVED = {
    "network": "model_cls and the model's parameters make it",
    "save_path": "each run gets a folder of its own; save_path of the experiment says where",
    "optim_fn": "it is called optim_builder here",
    "save_freq": "it is called checkpoint_freq here",
    "save_seconds": "it is called checkpoint_seconds here",
    "fold": "kfold numbers the folds",
    "start_epoch": "a run goes on with resume",
}
"""Arguments of a trainer that an experiment sets itself, and what to do instead."""

_HOMES: dict[str, tuple[Any, tuple[type, ...]]] = {
    "optimizer_cls": (optim, (optim.Optimizer,)),
    "lr_scheduler_cls": (optim.lr_scheduler, (optim.lr_scheduler.LRScheduler, AbstractCallback)),
}


def trainer_arguments(training: Mapping[str, Any], trainer_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a trainer, copied, so that no run changes those of the next.

    Parameters
    ----------
    training : of the config, without what is the experiment's own. An optimizer or a scheduler may be named
        (``"Adam"``, or an import path), as may criterions and metrics; callbacks may be classes or partials.
    trainer_kwargs : of the experiment; likewise.

    Raises
    ------
    ConfigError
        If an argument is in both, or the experiment's own, or a name leads nowhere.
    """
    for name in training:
        if name in trainer_kwargs:
            raise ConfigError(f"{name!r} is both a training parameter of the config and an argument of the experiment")
    given = {**training, **trainer_kwargs}
    for name in given:
        if name in RESERVED:
            raise ConfigError(f"{name!r} cannot be set: {RESERVED[name]}")
    arguments = {name: copy.deepcopy(value) for name, value in given.items()}
    for name, (home, bases) in _HOMES.items():
        if isinstance(arguments.get(name), str):
            arguments[name] = _class_by_name(arguments[name], name, home, bases)
    for name in ("criterions", "metrics"):
        if name in arguments:
            arguments[name] = functions_of(arguments[name], name)
    if "callbacks" in arguments:
        arguments["callbacks"] = [_made(callback) for callback in arguments["callbacks"] or ()]
    return arguments


def functions_of(given: Mapping[str, Any] | None, what: str) -> dict[str, Callable[..., Any]]:
    """Functions by name: an import path is imported, a class or a partial of one is called.

    Raises
    ------
    ConfigError
        If they are no mapping, or a path leads nowhere.

    Examples
    --------
    >>> functions_of({"mse": "delira_nca.losses.mse"}, "metrics")["mse"].__name__
    'mse'
    """
    if not isinstance(given, Mapping | None):
        raise ConfigError(f"{what} are functions by name, {{'dice': dice_score}}, not {given!r}")
    found = {}
    for name, value in (given or {}).items():
        if isinstance(value, str):
            value = import_object(value, f"{what}[{name!r}]")
        is_class = isinstance(value.func if isinstance(value, functools.partial) else value, type)
        found[name] = value() if is_class else value
    return found


def _class_by_name(name: str, what: str, home: Any, bases: tuple[type, ...]) -> Any:
    if "." in name:
        return import_object(name, what, bases)
    known = [n for n, v in vars(home).items() if isinstance(v, type) and issubclass(v, bases) and n[0] != "_"]
    if name not in known:
        raise ConfigError(f"{what}: {home.__name__} has no {name!r}. {did_you_mean(name, known)}")
    return getattr(home, name)


def _made(callback: Any) -> Any:
    """Callback out of its class, or of a partial of it."""
    target = callback.func if isinstance(callback, functools.partial) else callback
    return callback() if isinstance(target, type) else callback
