"""Selection of the weights that perform best in roll-outs much longer than those of training."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError
from delira_nca.models.compiled import unwrapped
from delira_nca.models.network import entry, evaluate, total_loss
from delira_nca.seeding import derive_seed
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer

__all__ = ["LongRunSelection"]

_LOGGER = logging.getLogger("delira_nca")


class LongRunSelection(AbstractCallback):
    """Keep the weights with the lowest loss after many times the number of steps used in training.

    At the end of every n-th epoch one batch is rolled out, without gradients and always with the same fire masks, and
    evaluated with the trainer's criterions or the network's own loss.

    Parameters
    ----------
    batch : mapping
        Initial states ``"data"``, and further entries that the criterions need, such as ``"label"``.
    factor : float
        Length of the roll-out, as a multiple of the longest roll-out of training.
    every : int
        Number of epochs between two evaluations; the last epoch of a training is always evaluated.
    seed : int
        Seed of the fire masks.

    Attributes
    ----------
    losses : dict of int to float
        Loss by epoch.
    best_epoch, best_loss : int and float, optional
        Epoch and loss of the best evaluation, or None before the first one. A loss that is not finite is never the
        best.

    Raises
    ------
    ConfigError
        For a factor not above 0 or an interval below 1; and from the training, for a network without
        ``training_timesteps``.

    Notes
    -----
    The network returned by the training is not changed: :meth:`network` returns a copy with the best weights.
    Mordvintsev and Niklasson (2021), micro NCA, select weights by the loss after 3 000 steps.
    """

    needs_torch = True

    rolls_back = False  # past evaluations are not rolled back

    def __init__(self, batch: Mapping[str, Any], *, factor: float = 10.0, every: int = 10, seed: int = 0) -> None:
        require_number("factor", factor, above=0)
        require_whole("every", every, 1)
        if "data" not in batch:
            raise ConfigError(f"the batch of a long run holds 'data' to begin with, not only {sorted(batch)}")
        self.batch, self.factor, self.every, self.seed = dict(batch), factor, every, seed
        self.losses: dict[int, float] = {}
        self.best_epoch: int | None = None
        self.best_loss: float | None = None
        self._weights: dict[str, Tensor] | None = None
        self._horizon, self._num_epochs = 0, 0

    def network(self, network: nn.Module) -> nn.Module:
        """Return a copy of a network with the best weights.

        Raises
        ------
        ConfigError
            Before the first evaluation with a finite loss.
        """
        if self._weights is None:
            raise ConfigError("no roll-out of a long run has had a finite loss yet: there are no best weights")
        best: nn.Module = copy.deepcopy(unwrapped(network))
        best.load_state_dict(self._weights)
        return best.eval()

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int, **event: Any) -> None:
        """Determine the length of the roll-outs of training, and try the batch with one step."""
        timesteps = getattr(trainer.network, "training_timesteps", None)
        if timesteps is None or not hasattr(trainer.network, "predict"):
            raise ConfigError(f"{type(trainer.network).__name__} has no training_timesteps and predict()")
        self._horizon = timesteps if isinstance(timesteps, int) else timesteps[1] - 1
        self._num_epochs = num_epochs
        self._look(trainer, steps=1)  # raises if the batch does not fit

    def at_epoch_end(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Evaluate the long roll-out in every n-th epoch."""
        if curr_epoch % self.every and curr_epoch != self._num_epochs and not trainer.stop_training:
            return
        loss = self._look(trainer, max(round(self.factor * self._horizon), 1))
        self.losses[curr_epoch] = loss
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            self.best_loss, self.best_epoch = loss, curr_epoch
            self._weights = {k: v.detach().cpu().clone() for k, v in trainer.network.state_dict().items()}
        _LOGGER.info("epoch %d: loss %.4g after %g times the steps of training", curr_epoch, loss, self.factor)

    def _look(self, trainer: Trainer, steps: int) -> float:
        network: Any = trainer.network
        batch = network.prepare_batch(self.batch, trainer.input_device, trainer.output_device)
        seed = derive_seed(self.seed, "long run")
        with torch.no_grad(), trainer.ranks.no_sync():
            prediction = network.predict(batch["data"], steps, seed=seed)
            named = {**batch, **prediction.parts()}
            if trainer.criterions:
                return float(total_loss(evaluate(trainer.criterions, named, trainer.metric_keys)))
            return float(network.loss(prediction, entry(batch, "label", "LongRunSelection"))["total"])

    def state_dict(self) -> dict[str, Any]:
        """Losses and best weights."""
        return {
            "losses": dict(self.losses),
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "weights": self._weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.losses, self._weights = dict(state["losses"]), state["weights"]
        self.best_epoch, self.best_loss = state["best_epoch"], state["best_loss"]

    def __repr__(self) -> str:
        return f"LongRunSelection(factor={self.factor}, every={self.every}, best_epoch={self.best_epoch})"
