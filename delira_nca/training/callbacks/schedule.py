"""Callback that changes settings of a training according to schedules."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from delira_nca.checks import is_number
from delira_nca.errors import ConfigError, UnknownNameError, did_you_mean
from delira_nca.seeding import isolated_rng
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.callbacks.optimization import LRSchedulerCallback
from delira_nca.training.callbacks.pool_update import PoolUpdate
from delira_nca.training.schedules import Schedule

__all__ = ["ScheduleCallback", "SettablePath", "find_path"]


class SettablePath(NamedTuple):
    """Setting of a training that can be read and changed.

    Attributes
    ----------
    get : callable
        Function that returns the value.
    set : callable
        Function of a new value.
    """

    get: Callable[[], Any]
    set: Callable[[Any], None]


def find_path(trainer: Trainer, path: str) -> SettablePath:
    """Return the setting that a path names.

    Parameters
    ----------
    trainer : PyTorchNetworkTrainer
        Trainer.
    path : str
        ``"optimizer.lr"`` for all parameter groups of all optimizers, ``"optimizers.<name>.<key>"`` for one,
        ``"model.<attribute>"``, ``"pool.<attribute>"`` of the callback `PoolUpdate`, ``"loss.<name>.weight"`` of a loss
        term, or ``"callbacks.<state key>.<attribute>"``.

    Raises
    ------
    UnknownNameError
        If there is none. The message lists the candidates.

    Examples
    --------
    >>> from delira_nca.models import BasicNCAModel, presets
    >>> from delira_nca.losses import mse
    >>> from delira_nca.training import PyTorchNetworkTrainer
    >>> trainer = PyTorchNetworkTrainer(BasicNCAModel(**presets.growing()), None, {"mse": mse})
    >>> find_path(trainer, "model.fire_rate").set(0.75)
    >>> trainer.network.fire_rate, find_path(trainer, "optimizer.lr").get()
    (0.75, 0.001)
    """
    parts = path.split(".") if isinstance(path, str) else []
    roots = ("optimizer", "optimizers", "model", "pool", "loss", "callbacks")
    if len(parts) < 2 or not all(parts):
        raise UnknownNameError(f"a setting has a path such as 'optimizer.lr' or 'model.fire_rate', not {path!r}")
    root, *rest = parts
    if root in ("optimizer", "optimizers") and not all(hasattr(o, "param_groups") for o in trainer.optimizers.values()):
        raise ConfigError(f"{path!r} is a setting of optimizers of PyTorch: give the trainer lr_scheduler_cls instead")
    if root == "optimizer":
        return _group_setting(path, list(trainer.optimizers.values()), rest)
    if root == "optimizers":
        return _group_setting(path, [_entry(path, trainer.optimizers, rest[0])], rest[1:])
    if root == "model":
        return _attribute(path, trainer.network, rest)
    if root == "pool":
        pool = next((callback for callback in trainer.callbacks if isinstance(callback, PoolUpdate)), None)
        return _attribute(path, _entry(path, {} if pool is None else {"pool": pool}, root), rest)
    if root == "loss":
        return _attribute(path, _entry(path, trainer.loss_terms, rest[0]), rest[1:])
    if root == "callbacks":
        known = {str(getattr(c, "state_key", type(c).__name__)): c for c in trainer.callbacks}
        return _attribute(path, _entry(path, known, rest[0]), rest[1:])
    raise UnknownNameError(f"{path!r} begins with none of the parts of a training. {did_you_mean(root, roots)}")


def check_value(trainer: Trainer, path: str, value: Any) -> None:
    """Check that a setting can have a value, before it is set by hand.

    The value has the kind of the current one. Those of optimizers and networks are checked by their constructors.

    Raises
    ------
    UnknownNameError, ConfigError
        If there is no such setting, the value has another kind, or the constructor refuses it.
    """
    current = find_path(trainer, path).get()
    root, *rest = path.split(".")
    may_be_range = root == "model" and isinstance(current, int) and not isinstance(current, bool)
    if not _is_like(value, current, is_whole=root in _SHARED, may_be_range=may_be_range):
        raise ConfigError(f"{path} cannot be {value!r}: it is {current!r} now")
    if root in ("optimizer", "optimizers"):
        names = trainer.optimizers if root == "optimizer" else [rest.pop(0)]
        for name in names:
            _check_group_value(path, trainer.optimizers[name], ".".join(rest), value)
    elif root == "model" and len(rest) == 1:
        _check_model_value(path, trainer.network, rest[0], value)
    elif root == "pool" and is_number(value) and value < 0:
        raise ConfigError(f"{path} must be at least 0, not {value!r}")


def _is_like(value: Any, current: Any, *, is_whole: bool, may_be_range: bool) -> bool:
    """Whether a value has the kind of the current one; a number of steps may become a range."""
    if isinstance(value, (tuple, list)):
        are_numbers = bool(value) and all(is_number(part) and math.isfinite(part) for part in value)
        return are_numbers and (isinstance(current, (tuple, list)) or may_be_range)
    if isinstance(current, bool) or isinstance(value, bool):
        return isinstance(current, bool) and isinstance(value, bool)
    if not is_number(value) or not math.isfinite(value):
        return False
    return isinstance(value, int) or not (is_whole and isinstance(current, int))


def _check_group_value(path: str, optimizer: Any, key: str, value: Any) -> None:
    group, known = optimizer.param_groups[0], inspect.signature(type(optimizer).__init__).parameters
    if isinstance(group[key], (tuple, list)) and (
        not isinstance(value, (tuple, list)) or len(value) != len(group[key])
    ):
        raise ConfigError(f"{path} has {len(group[key])} numbers, not {value!r}")
    settings = {name: v for name, v in group.items() if name in known and name != "params"}
    needed = {p.name for p in known.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    if key not in settings or needed - {"self", "params", *settings}:
        return  # the constructor cannot check it
    try:
        type(optimizer)([nn.Parameter(torch.zeros(1, 1))], **{**settings, key: value})
    except Exception as error:
        raise ConfigError(f"{path} cannot be {value!r}: {error}") from None


_STRUCTURE = {
    "dims",
    "hidden_size",
    "kernel_size",
    "num_channels",
    "num_hidden_channels",
    "num_image_channels",
    "num_learned_filters",
    "num_output_channels",
}
"""Numbers that describe the weights of a network."""


def _check_model_value(path: str, network: Any, name: str, value: Any) -> None:
    if name in _STRUCTURE:
        raise ConfigError(f"{path} cannot change during a training")
    if name == "training_timesteps" and value == 0:
        raise ConfigError("model.training_timesteps must be at least 1, not 0")
    if not all(hasattr(network, method) for method in ("to_dict", "from_dict")):
        return
    arguments = network.to_dict()
    if name not in arguments:
        return
    modules = {part: v for part in arguments if isinstance(v := getattr(network, part, None), nn.Module)}
    own = {part: copy.deepcopy(v) for part, v in modules.items() if isinstance(arguments[part], str)}
    with isolated_rng(0):
        try:
            type(network).from_dict(arguments, **own)
        except Exception:  # the constructor cannot check it
            return
        try:
            made = type(network).from_dict({**arguments, name: value}, **own)
        except Exception as error:
            raise ConfigError(f"{path} cannot be {value!r}: {error}") from None
    shapes = [[tuple(p.shape) for p in model.parameters()] for model in (made, network)]
    if shapes[0] != shapes[1] or getattr(made, "num_channels", 0) != getattr(network, "num_channels", 0):
        raise ConfigError(f"{path} cannot change during a training")


def _entry(path: str, known: Mapping[str, Any], name: str) -> Any:
    if name not in known:
        raise UnknownNameError(f"there is no {name!r} for {path!r}. {did_you_mean(name, known)}")
    return known[name]


def _group_setting(path: str, optimizers: list[Any], rest: list[str]) -> SettablePath:
    key = ".".join(rest)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    names = {name for group in groups for name in group if name != "params"}
    if not groups or not all(key in group for group in groups):
        raise UnknownNameError(f"{path!r} is not a setting of the optimizers. {did_you_mean(key, names)}")

    def set_value(value: Any) -> None:
        for group in groups:
            group[key] = value

    return SettablePath(lambda: groups[0][key], set_value)


def _attribute(path: str, owner: Any, rest: list[str]) -> SettablePath:
    for name in rest[:-1]:
        if name.startswith("_") or not hasattr(owner, name):
            raise UnknownNameError(f"{path!r}: {type(owner).__name__} has no attribute {name!r}")
        owner = getattr(owner, name)
    name = rest[-1] if rest else ""
    if not name or name.startswith("_") or not hasattr(owner, name) or callable(getattr(owner, name)):
        numbers = [n for n in dir(owner) if n[0] != "_" and not hasattr(nn.Module, n) and _is_number_like(owner, n)]
        raise UnknownNameError(f"{path!r} is not an attribute of {type(owner).__name__}. {did_you_mean(name, numbers)}")
    return SettablePath(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _is_number_like(owner: Any, name: str) -> bool:
    try:
        value = getattr(owner, name)
    except Exception:
        return False
    return isinstance(value, (bool, int, float)) or (isinstance(value, (tuple, list)) and len(value) > 0)


_SHARED = ("pool", "loss", "callbacks")
"""Parts of a training that may be used for another one."""


class ScheduleCallback(AbstractCallback):
    """Set settings of a training to values that depend on the step.

    Parameters
    ----------
    schedules : mapping of str to Schedule, mapping or callable
        Schedules by the path of the setting, see `find_path`; mappings and callables are converted by
        `delira_nca.training.schedules.Schedule.of`.

    Attributes
    ----------
    values : dict of str to value
        Current values by path. Those that are numbers are recorded with the metrics of each epoch under their path.

    Raises
    ------
    UnknownNameError, ConfigError
        At the start of the training, if a path names no setting, or a learning rate has another scheduler.

    Examples
    --------
    >>> ScheduleCallback({"optimizer.lr": Schedule.cosine(2e-3, 1e-4, steps=2000)})
    ScheduleCallback(optimizer.lr=Schedule.cosine(0.002, 0.0001, 2000, begin=0))
    >>> ScheduleCallback({"model.fire_rate": {"updates": [(100, 1.0)]}})
    ScheduleCallback(model.fire_rate=Schedule.steps({100: 1.0}))
    """

    def __init__(self, schedules: Mapping[str, Any]) -> None:
        if not isinstance(schedules, Mapping) or not schedules:
            raise ConfigError(
                f"schedules are by path, such as {{'optimizer.lr': Schedule(dec=0.9)}}, not {schedules!r}"
            )
        self.schedules = {path: Schedule.of(schedule) for path, schedule in schedules.items()}
        self.values: dict[str, Any] = {}
        self._initial: dict[str, Any] = {}
        self._settings: dict[str, SettablePath] = {}

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Find the settings, and store their initial values in a new run."""
        self._settings = {path: find_path(trainer, path) for path in self.schedules}
        rates = [path for path in self.schedules if path.startswith("optimizer") and path.endswith(".lr")]
        if rates and any(isinstance(callback, LRSchedulerCallback) for callback in trainer.callbacks):
            raise ConfigError(f"{rates[0]!r} has a schedule and a scheduler of torch: leave out one of them")
        for path, setting in self._settings.items():
            self._initial.setdefault(path, setting.get())
        self._apply(trainer.step)

    def at_iter_begin(self, trainer: Trainer, *, train: bool, **event: Any) -> None:
        """Set the values of a training step."""
        if train:
            self._apply(trainer.step)

    def _apply(self, step: int) -> None:
        for path, schedule in self.schedules.items():
            value = schedule(step, self._initial[path])
            if value != self.values.get(path):
                self._settings[path].set(value)
                self.values[path] = value

    def at_epoch_end(self, trainer: Trainer, **event: Any) -> None:
        """Record the values with the metrics of the epoch, for callbacks that are called after this one."""
        numbers = {path: float(value) for path, value in self.values.items() if is_number(value)}
        trainer.metrics_val.update(numbers)
        trainer.history[-1].update(numbers)

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Reset settings of callbacks, pool and loss terms, which may serve another training."""
        for path, setting in self._settings.items():
            if path.split(".")[0] in _SHARED and path in self._initial:
                setting.set(self._initial[path])
                self.values.pop(path, None)

    def state_dict(self) -> dict[str, Any]:
        """Initial values of the settings; all others follow from the step."""
        return {"initial": dict(self._initial)} if self._initial else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the initial values."""
        self._initial, self.values = dict(state.get("initial", {})), {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_settings": {}}  # functions of a trainer, found again when a training begins

    def __repr__(self) -> str:
        return f"ScheduleCallback({', '.join(f'{path}={schedule!r}' for path, schedule in self.schedules.items())})"
