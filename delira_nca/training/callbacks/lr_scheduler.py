"""Learning rates that change: any scheduler of torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from delira_nca.errors import ConfigError, require_choice
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.scores import find_score_key, higher_is_better

__all__ = ["LRSchedulerCallback"]


class LRSchedulerCallback(AbstractCallback):
    """Step a scheduler of torch, one for each optimizer.

    Parameters
    ----------
    scheduler_cls : class, or function of the optimizer, from ``torch.optim.lr_scheduler``.
    params : its keyword arguments.
    every : ``"epoch"`` or ``"iteration"``: how often it steps.
    monitor_key : score that it is stepped with, in epochs that measure it. ``ReduceLROnPlateau`` follows the score
        that decides which epoch is best, in its direction, where nothing is said.

    Raises
    ------
    ConfigError
        If the scheduler is none, its parameters do not fit, or it has no state dict; at the beginning of the training.

    Examples
    --------
    >>> from torch.optim.lr_scheduler import MultiStepLR
    >>> LRSchedulerCallback(MultiStepLR, {"milestones": [1000], "gamma": 0.3}, every="iteration")
    LRSchedulerCallback(MultiStepLR, every='iteration')
    """

    rolls_back = False  # time does not go back

    def __init__(
        self,
        scheduler_cls: Any,
        params: Mapping[str, Any] | None = None,
        *,
        every: str = "epoch",
        monitor_key: str | None = None,
    ) -> None:
        if not callable(scheduler_cls):
            raise ConfigError(f"scheduler_cls is called with an optimizer, but {scheduler_cls!r} cannot be called")
        require_choice("period of a scheduler", every, ("epoch", "iteration"))
        self._is_plateau = isinstance(scheduler_cls, type) and issubclass(scheduler_cls, ReduceLROnPlateau)
        if (monitor_key is not None or self._is_plateau) and every == "iteration":
            raise ConfigError("a scheduler that follows a score steps once per epoch, not per iteration")
        self.scheduler_cls, self.params, self.every = scheduler_cls, dict(params or {}), every
        self.monitor_key, self._key = monitor_key, monitor_key
        self._direction: dict[str, str] = {}
        self._schedulers: dict[str, Any] = {}
        self._loaded: Mapping[str, Any] = {}

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Make the schedulers, unless they are there from a training before, or take up those of a checkpoint."""
        self._follow(trainer)
        of_this_trainer = all(
            getattr(scheduler, "optimizer", optimizer) is optimizer
            for name, scheduler in self._schedulers.items()
            for optimizer in [trainer.optimizers.get(name)]
        )
        if self._schedulers and of_this_trainer and not self._loaded:
            return
        for name, optimizer in trainer.optimizers.items():
            self._schedulers[name] = self._make(optimizer, self._loaded.get(name))
        self._loaded = {}

    def _follow(self, trainer: Trainer) -> None:
        self._key = self.monitor_key
        if self._key is None and self._is_plateau:
            self._key = trainer.best.key
            if self._key is None:
                raise ConfigError(f"{self._name} follows a score: give monitor_key, or the training a val_score_key")
            self._direction = {"mode": "max" if higher_is_better(trainer.best.mode) else "min"}
        if self._key is not None and (names := trainer.score_names()) is not None:
            find_score_key(self._key, names)

    def _make(self, optimizer: Optimizer, state: Mapping[str, Any] | None) -> Any:
        resumed = [{k: copy.deepcopy(v) for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        try:
            scheduler = self.scheduler_cls(optimizer, **{**self._direction, **self.params})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"parameters {self.params} do not fit {self._name}: {error}") from error
        for method in ("step", "state_dict", "load_state_dict"):
            if not callable(getattr(scheduler, method, None)):
                raise ConfigError(
                    f"scheduler {self._name} has no {method}, without which no run resumes: derive it from "
                    "torch.optim.lr_scheduler.LRScheduler, or give it step, state_dict and load_state_dict"
                )
        if state is not None:
            scheduler.load_state_dict(dict(state))
            for group, values in zip(optimizer.param_groups, resumed, strict=True):
                group.update(values)  # a fresh scheduler has set the rates of its first step
        return scheduler

    def at_iter_end(self, trainer: Trainer, *, train: bool, **event: Any) -> None:
        """Step after an iteration of training."""
        if train and self.every == "iteration":
            for scheduler in self._schedulers.values():
                scheduler.step()

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, float], **event: Any) -> None:
        """Step after an epoch."""
        if self.every != "epoch":
            return
        if self._key is None:
            for scheduler in self._schedulers.values():
                scheduler.step()
            return
        if (measured := trainer.measured_score(self._key, val_metrics)) is not None:
            for scheduler in self._schedulers.values():
                scheduler.step(measured[1])

    @property
    def _name(self) -> str:
        return str(getattr(self.scheduler_cls, "__name__", self.scheduler_cls))

    def state_dict(self) -> dict[str, Any]:
        """State of each scheduler, by the optimizer's name."""
        if self._loaded:
            return {name: dict(state) for name, state in self._loaded.items()}
        return {name: scheduler.state_dict() for name, scheduler in self._schedulers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state, at the beginning of the next training."""
        self._schedulers, self._loaded = {}, dict(state)

    def __repr__(self) -> str:
        return f"LRSchedulerCallback({self._name}, every={self.every!r})"
