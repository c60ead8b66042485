"""What is rolled out: sizes, states and weights, the same for everybody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from delira_nca.models import AliveMask, BasicNCAModel, LearnedFilters, MLPRule, Perception, presets

__all__ = ["STATIONARY", "WORKLOADS", "Workload"]

STATIONARY = 1e-4
"""Size of the last weights at which a state stays what it is for a hundred steps, so that every run does the same."""


@dataclass(frozen=True)
class Workload:
    """A roll-out to be timed.

    Parameters
    ----------
    name : for the command line.
    batch, shape : of the state.
    steps : of a roll-out.
    short_steps : of the slow ones; their time per cell and step is taken to be the same.
    is_growing : 16 channels, identity and Sobel's filters, zero padding, alive mask before and after the update; else
        3 fixed image channels, 20 hidden ones, 1 for the output, identity and two learned filters, reflecting padding.
    is_dense : whether every cell lives; only a ball in the middle does otherwise.
    """

    name: str
    batch: int
    shape: tuple[int, ...]
    steps: int
    short_steps: int
    is_growing: bool
    is_dense: bool

    @property
    def num_cells(self) -> int:
        """Cells of the batch."""
        return self.batch * prod(self.shape)

    @property
    def scored(self) -> slice:
        """Channels that the loss looks at."""
        return slice(0, 4) if self.is_growing else slice(23, 24)

    @property
    def text(self) -> str:
        """One line that says what it is."""
        size = " x ".join(map(str, self.shape))
        if not self.is_growing:
            return f"batch {self.batch}, {size}, 3 image + 20 hidden + 1 channels, two learned filters, T {self.steps}"
        life = "every cell alive" if self.is_dense else f"{self.share_of_life():.0%} of the cells within reach of life"
        return f"batch {self.batch}, {size}, 16 channels, Sobel's filters, alive mask, {life}, T {self.steps}"

    def state(self) -> Tensor:
        """(B, C, *shape) state to begin with."""
        source = torch.Generator().manual_seed(0)
        x = torch.rand(self.batch, 16 if self.is_growing else 24, *self.shape, generator=source)
        if not self.is_growing:
            x[:, 3:] = 0.1 * (x[:, 3:] - 0.5)
            return x
        x[:, 3] = 1.0
        return x if self.is_dense else torch.where(self._ball(), x, 0.0)

    def _ball(self) -> Tensor:
        """(*shape) bool: the ball that lives, of radius 17 in a grid of 72."""
        axes = [torch.arange(size) - (size - 1) / 2 for size in self.shape]
        distance = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
        return distance <= 17 / 72 * min(self.shape)

    def share_of_life(self) -> float:
        """Share of the cells that live or have a neighbour that does."""
        alive = AliveMask()(self.state()) if self.is_growing else torch.ones(1)
        return float(alive.float().mean())

    def label(self) -> Tensor:
        """(B, channels scored, *shape) tensor to come close to."""
        channels = self.scored.stop - self.scored.start
        return torch.rand(self.batch, channels, *self.shape, generator=torch.Generator().manual_seed(1))

    def model(self, update_scale: float = STATIONARY, fire_rate: float = 0.5, alive_before: bool = True) -> Any:
        """Automaton with weights that are the same in every process.

        Parameters
        ----------
        update_scale : standard deviation of the last layer's weights.
        fire_rate : probability that a cell updates.
        alive_before : whether the alive mask is also asked before the update; NCALab's is not.
        """
        more = {"dims": len(self.shape), "fire_rate": fire_rate}
        if self.is_growing:
            model = BasicNCAModel(**presets.growing(alive=AliveMask(before=alive_before), **more))
        else:
            learned = LearnedFilters(2, 3)
            model = BasicNCAModel(
                num_image_channels=3, num_hidden_channels=20, num_output_channels=1, immutable_image_channels=True,
                perception=Perception("identity", learned, padding="reflect"), rule=MLPRule(128, final_bias=False),
                **more,
            )  # fmt: skip
        source = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                width = parameter[0].numel() if parameter.dim() > 1 else 128
                scale = update_scale if name == "rule.last.weight" else width**-0.5
                if name != "rule.last.bias":
                    parameter.copy_(scale * torch.randn(parameter.shape, generator=source))
        return model

    def quick(self) -> Workload:
        """The same on a small grid and for a few steps, to see that everything runs."""
        return replace(self, batch=min(self.batch, 2), shape=(12,) * len(self.shape), steps=4, short_steps=2)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("G", 8, (72, 72), 80, 16, is_growing=True, is_dense=False),
        Workload("G-dense", 8, (72, 72), 80, 16, is_growing=True, is_dense=True),
        Workload("S64", 8, (64, 64), 48, 8, is_growing=False, is_dense=True),
        Workload("S256", 1, (256, 256), 32, 32, is_growing=False, is_dense=True),
        Workload("S256-b8", 8, (256, 256), 32, 3, is_growing=False, is_dense=True),
        Workload("V32", 2, (32, 32, 32), 32, 6, is_growing=True, is_dense=False),
        Workload("V32-dense", 2, (32, 32, 32), 32, 6, is_growing=True, is_dense=True),
    )
}
