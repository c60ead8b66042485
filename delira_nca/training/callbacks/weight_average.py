"""Averages of the weights over the training: exponential (EMA) or plain (SWA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from delira_nca.errors import ConfigError, require_choice
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer

__all__ = ["WeightAverage", "validated_network"]


class WeightAverage(AbstractCallback):
    """Average the weights, and validate with the average.

    During validation, and so in the choice of the best epoch, the network holds the averaged weights; training goes
    on with its own.

    Parameters
    ----------
    decay : of the exponential average; None for the plain mean of all.
    every : ``"iteration"`` or ``"epoch"``: how often the weights are taken in.
    start_epoch : the first epoch that is taken in.
    validate : whether validation sees the averaged weights.

    Raises
    ------
    ConfigError, UnknownNameError
        For a decay outside of 0 to 1, or an unknown period.

    Notes
    -----
    On ``torch.optim.swa_utils.AveragedModel``. In the ablations of OctreeNCA (2025), a decay of 0.99 was worth four
    points of Dice on the prostate.
    """

    def __init__(
        self, decay: float | None = 0.999, *, every: str = "iteration", start_epoch: int = 1, validate: bool = True
    ) -> None:
        if decay is not None and not 0.0 <= decay < 1.0:
            raise ConfigError(f"decay is at least 0 and below 1, or None for the plain mean, not {decay!r}")
        require_choice("period of an average", every, ("iteration", "epoch"))
        self.decay, self.every, self.start_epoch, self.validate = decay, every, start_epoch, validate
        self._average: AveragedModel | None = None
        self._loaded: Mapping[str, Any] | None = None
        self._own_weights: dict[str, Tensor] | None = None

    @property
    def network(self) -> nn.Module:
        """The network with the averaged weights.

        Raises
        ------
        ConfigError
            Before the first training.
        """
        if self._average is None:
            raise ConfigError("there is no average before the training has begun")
        network: nn.Module = self._average.module
        return network

    @property
    def has_begun(self) -> bool:
        """Whether any weights have been taken in."""
        return self._average is not None and int(self._average.n_averaged) > 0

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Make the average, or take up that of a checkpoint."""
        if self._average is None:
            average = get_swa_multi_avg_fn() if self.decay is None else get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(trainer.network, multi_avg_fn=average)
        if self._loaded is not None:
            self._average.load_state_dict(dict(self._loaded))
            self._loaded = None

    def _take_in(self, trainer: Trainer, epoch: int) -> None:
        if self._average is not None and epoch >= self.start_epoch:
            self._average.update_parameters(trainer.network)

    def at_iter_begin(self, trainer: Trainer, *, train: bool, **event: Any) -> None:
        """Lend the network the averaged weights when validation begins."""
        if not train and self.validate and self._own_weights is None and self._average is not None:
            if int(self._average.n_averaged) == 0:
                return
            self._own_weights = {k: v.detach().clone() for k, v in trainer.network.state_dict().items()}
            trainer.network.load_state_dict(self._average.module.state_dict())

    def _give_back(self, trainer: Trainer) -> None:
        if self._own_weights is not None:
            trainer.network.load_state_dict(self._own_weights)
            self._own_weights = None

    def at_iter_end(self, trainer: Trainer, *, train: bool, curr_epoch: int, **event: Any) -> None:
        """Take the weights in after an iteration of training."""
        if train and self.every == "iteration":
            self._take_in(trainer, curr_epoch)

    def at_epoch_end(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Give the network its own weights back, and take them in after an epoch."""
        self._give_back(trainer)
        if self.every == "epoch":
            self._take_in(trainer, curr_epoch)

    def at_exception(self, trainer: Trainer, **event: Any) -> None:
        """Give the network its own weights back."""
        self._give_back(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights, and of how many."""
        if self._loaded is not None:
            return dict(self._loaded)
        return {} if self._average is None else dict(self._average.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up an average, at the beginning of the next training."""
        self._average = None  # that of another network may have other shapes
        self._loaded = {k: torch.as_tensor(v).clone() for k, v in state.items()} or None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_average": None, "_loaded": self.state_dict() or None, "_own_weights": None}


def validated_network(trainer: Trainer) -> Any:
    """Network whose weights a validation would see now: the averaged ones where a WeightAverage lends them.

    Parameters
    ----------
    trainer : a :class:`~delira_nca.training.PyTorchNetworkTrainer` after ``at_training_begin``.

    Returns
    -------
    nn.Module
        One that the training goes on to change: copy what is to be kept.
    """
    for callback in trainer.callbacks:
        if isinstance(callback, WeightAverage) and callback.validate and callback.has_begun:
            return callback.network
    return trainer.network
