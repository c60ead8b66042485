"""How long a training takes on this machine, measured before it starts."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from delira_nca.models import BasicNCAModel
from delira_nca.seeding import isolated_rng
from delira_nca.training.callbacks.reporting import ProgressBar

__all__ = ["GrowthBar", "expected_seconds"]

_STEPS = 24  # of the roll-outs that are timed
_OVERHEAD = 0.006  # seconds of an iteration beside the roll-out: batch, pool, optimizer


def expected_seconds(
    network: BasicNCAModel, target: Tensor, batch_size: int, iterations: int, steps: Sequence[float]
) -> list[float]:
    """Expected seconds of each epoch, from the time of a few roll-outs with all cells of the target alive.

    Other work on the machine, now or later, makes them wrong.

    Parameters
    ----------
    network : BasicNCAModel
        Network to train; a copy with random weights is timed.
    target : (4, H, W) tensor
        Picture to grow.
    batch_size, iterations : int
        Number of states in an iteration, and of iterations in an epoch.
    steps : sequence of float
        Mean number of steps of a roll-out in each epoch.
    """
    trial = copy.deepcopy(network)
    states = torch.zeros(batch_size, network.num_channels, *target.shape[1:], device=network.device)
    states[:, : len(target)] = target.to(states)
    states[:, len(target) :] = 0.1 * (target[3] > 0).to(states)
    with isolated_rng(0):
        for parameter in trial.parameters():
            torch.nn.init.normal_(parameter, std=1e-4)  # the states stay what they are, and no step is skipped
        seconds = min(_time(trial, states) for _ in range(3))
    return [iterations * (seconds * number / _STEPS + _OVERHEAD) for number in steps]


class GrowthBar(ProgressBar):
    """Progress bar that knows from the start how long a training of one picture will take.

    Parameters
    ----------
    *arguments
        Those of :func:`expected_seconds` after the network.
    **options
        As for :class:`~delira_nca.training.callbacks.ProgressBar`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(**options)
        self._arguments = arguments

    def at_training_begin(self, trainer: Any, *, num_epochs: int, **event: Any) -> None:
        """Measure the time of a few roll-outs, and open the bar."""
        self.expected_seconds = expected_seconds(trainer.network, *self._arguments)
        super().at_training_begin(trainer, num_epochs=num_epochs, **event)


def _time(network: BasicNCAModel, states: Tensor) -> float:
    begin = time.perf_counter()
    loss = network(states, _STEPS).output_image.square().mean()
    loss.backward()
    loss.item()  # waits for a GPU
    return time.perf_counter() - begin
