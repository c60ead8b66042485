"""The state of a run in memory, to go back to while the training goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from delira_nca.training.callbacks.abstract_callback import Trainer, keyed
from delira_nca.training.callbacks.lr_scheduler import LRSchedulerCallback
from delira_nca.training.callbacks.pool_update import PoolUpdate
from delira_nca.training.callbacks.weight_average import WeightAverage

__all__ = ["restore_snapshot", "scale_learning_rates", "take_snapshot"]

_RATES = ("lr", "initial_lr", "max_lr", "min_lr")
"""Entries of an optimizer's group that a schedule computes rates from."""
_BASES = ("base_lrs", "max_lrs")
"""Attributes of a scheduler that it computes rates from."""


def take_snapshot(trainer: Trainer) -> dict[str, Any]:
    """Copy what a training has learned: weights and buffers, moments of the optimizers, states of callbacks.

    Time is no part of it: counters of iterations and epochs, the history, the best score, schedules and learning
    rates, the scale of a gradient scaler, and callbacks whose ``rolls_back`` is False.

    Parameters
    ----------
    trainer : a :class:`~delira_nca.training.PyTorchNetworkTrainer` between two iterations.

    Returns
    -------
    dict of tensors and plain Python, which shares nothing with the trainer
    """
    return {
        "network": _copy(trainer.network.state_dict()),
        "optimizers": {name: _copy(optimizer.state_dict()["state"]) for name, optimizer in trainer.optimizers.items()},
        "callbacks": {key: _copy(state) for key, callback in _rolled_back(trainer) if (state := callback.state_dict())},
    }


def restore_snapshot(trainer: Trainer, snapshot: Mapping[str, Any]) -> None:
    """Put a snapshot back; all that is no part of it stays as it is now.

    The number of draws from a pool counts on, and so do its dead and exploded states, so that the same states are not
    drawn again. A callback that has no state in the snapshot keeps its own.
    """
    trainer.network.load_state_dict(snapshot["network"])
    for name, optimizer in trainer.optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": _copy(snapshot["optimizers"][name]), "param_groups": groups})
    for key, callback in _rolled_back(trainer):
        if key in snapshot["callbacks"]:
            _restore_callback(callback, _copy(snapshot["callbacks"][key]), trainer)


def _restore_callback(callback: Any, state: dict[str, Any], trainer: Trainer) -> None:
    if isinstance(callback, PoolUpdate):
        pool = callback.pool
        counts = {"num_draws": pool.num_draws, "num_dead": callback.num_dead, "num_exploded": callback.num_exploded}
        callback.load_state_dict({**state, **counts})
    elif isinstance(callback, WeightAverage):
        callback.load_state_dict(state)
        callback.at_training_begin(trainer)  # where it takes its state up
    else:
        callback.load_state_dict(state)


def _rolled_back(trainer: Trainer) -> Iterator[tuple[str, Any]]:
    for key, callback in keyed(trainer.callbacks):
        if getattr(callback, "rolls_back", True) and hasattr(callback, "load_state_dict"):
            yield key, callback


def scale_learning_rates(trainer: Trainer, factor: float) -> None:
    """Multiply the learning rates of all optimizers, those that a schedule has yet to set included.

    Parameters
    ----------
    trainer : a :class:`~delira_nca.training.PyTorchNetworkTrainer`; of schedules, those of its
        :class:`~delira_nca.training.callbacks.LRSchedulerCallback` are known.
    factor : greater than 0.
    """
    for optimizer in trainer.optimizers.values():
        for group in optimizer.param_groups:
            group.update({key: group[key] * factor for key in _RATES if key in group})
    for callback in trainer.callbacks:
        if isinstance(callback, LRSchedulerCallback):
            for scheduler in callback._schedulers.values():
                _scale_bases(scheduler, factor)


def _scale_bases(scheduler: Any, factor: float) -> None:
    for name in _BASES:
        if hasattr(scheduler, name):
            setattr(scheduler, name, [rate * factor for rate in getattr(scheduler, name)])
    for part in getattr(scheduler, "_schedulers", ()):  # of a SequentialLR or ChainedScheduler
        _scale_bases(part, factor)


def _copy(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: _copy(value) for key, value in state.items()}
    return copy.deepcopy(state)
