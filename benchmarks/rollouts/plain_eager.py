"""An automaton as people write it in PyTorch: one tensor operation after the other, every cell in every step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PlainEager"]


class PlainEager(nn.Module):
    """Depth-wise convolutions, a concatenation, two 1x1 convolutions, a random mask, and a max-pool for life.

    Parameters
    ----------
    model : the automaton whose weights are copied. Nothing of it is called.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.dims, self.fire_rate, self.num_fixed = model.dims, model.fire_rate, model.num_fixed_channels
        self.masks_life = model.alive is not None
        self.convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[self.dims]
        self.pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[self.dims]
        self.learned = nn.ModuleList(copy.deepcopy(c) for bank in model.perception.learned for c in bank)
        if not self.learned:
            for axis in range(self.dims):
                self.register_buffer(
                    f"sobel{axis}", sobel(self.dims, axis).repeat(model.num_channels, 1, *[1] * self.dims)
                )
        self.hidden, self.last = copy.deepcopy(model.rule.hidden[0]), copy.deepcopy(model.rule.last)

    def perceive(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) state to (B, P, *spatial)."""
        if self.learned:
            return torch.cat([x, *(convolution(x) for convolution in self.learned)], 1)
        kernels = [getattr(self, f"sobel{axis}") for axis in reversed(range(self.dims))]
        seen = [self.convolve(x, kernel, padding=1, groups=x.shape[1]) for kernel in kernels]
        return torch.cat([x, *seen], 1)

    def alive(self, x: Tensor) -> Tensor:
        """(B, 1, *spatial) bool: which cells live."""
        living: Tensor = self.pool(x[:, 3:4], 3, stride=1, padding=1) > 0.1
        return living

    def step(self, x: Tensor, fire: Tensor | None = None) -> Tensor:
        """State one step later; ``fire`` replaces the random mask."""
        before = self.alive(x) if self.masks_life else None
        update = self.last(F.relu(self.hidden(self.perceive(x))))
        if fire is None:
            fire = torch.rand(x.shape[0], 1, *x.shape[2:]) < self.fire_rate
        update = update * fire.float()
        if self.num_fixed:
            update = torch.cat([torch.zeros_like(x[:, : self.num_fixed]), update], 1)
        x = x + update
        return x if before is None else x * (before & self.alive(x)).float()

    def forward(self, x: Tensor, steps: int, masks: Sequence[Tensor] | None = None) -> Tensor:
        """State after all steps."""
        for t in range(steps):
            x = self.step(x, None if masks is None else masks[t])
        return x


def sobel(dims: int, axis: int) -> Tensor:
    """(1, 1, 3, ..., 3) gradient along an axis; a ramp of slope 1 gives 1."""
    kernel = torch.ones(())
    for other in range(dims):
        line = torch.tensor([-1.0, 0.0, 1.0] if other == axis else [1.0, 2.0, 1.0])
        kernel = kernel.unsqueeze(-1) * line
    return (kernel / kernel.abs().sum())[None, None]
