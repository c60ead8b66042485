"""Pictures sharper than the grid: what lies between the cells, computed from their states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.checks import require_whole, require_wholes
from delira_nca.errors import ShapeError, require_choice
from delira_nca.models.part import Part

__all__ = ["ImplicitDecoder"]

Scale = int | Sequence[int]


class ImplicitDecoder(Part):
    """Small perceptron that every pixel of a finer picture asks about the place where it lies.

    A pixel sees the states of the cells around it, bilinearly interpolated, and where it is in its cell: sine and
    cosine of each coordinate, which go on smoothly from cell to cell. As the ``head`` of a
    :class:`delira_nca.models.BasicNCAModel` it is given the hidden channels, and what is compared with the label is
    ``scale`` times as large as the grid.

    Parameters
    ----------
    in_channels : int
        That a pixel sees; as a head, the model's hidden channels.
    out_channels : int
        Of the picture.
    scale : int or sequence of int
        Pixels for each cell along an axis, or a number for each axis. Training at one scale and looking at another is
        possible: see :meth:`forward`.
    hidden_size : int or sequence of int
        Neurons of the hidden layer, or of each of several.
    dims : int
        Spatial axes.

    Raises
    ------
    ConfigError, UnknownNameError
        If a number is below 1, or there are other than 1 to 3 dimensions.

    Notes
    -----
    The idea is the local pattern producing network of "Neural Cellular Automata: From Cells to Pixels" (2025).

    Examples
    --------
    >>> decoder = ImplicitDecoder(in_channels=8, out_channels=3, scale=4)
    >>> decoder(torch.zeros(1, 8, 10, 12)).shape, decoder(torch.zeros(1, 8, 10, 12), scale=8).shape
    (torch.Size([1, 3, 40, 48]), torch.Size([1, 3, 80, 96]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: Scale = 4,
        hidden_size: int | Sequence[int] = (32, 32),
        *,
        dims: int = 2,
    ) -> None:
        super().__init__()
        require_choice("number of spatial dimensions", dims, (1, 2, 3))
        sizes = require_wholes("hidden_size", hidden_size, 1, repeat=1)
        for name, number in (("in_channels", in_channels), ("out_channels", out_channels)):
            require_whole(name, number, 1)
        self.in_channels, self.out_channels, self.hidden_sizes, self.dims = in_channels, out_channels, sizes, dims
        self.scale = self._interpret_scale(scale)
        widths = (in_channels + 2 * dims, *sizes)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, sizes, strict=False))
        self.last = nn.Linear(widths[-1], out_channels)

    @property
    def scale_factor(self) -> tuple[int, ...]:
        """Pixels for each cell along every axis, as modules of torch call it."""
        return self.scale

    def _interpret_scale(self, scale: Scale) -> tuple[int, ...]:
        return require_wholes("scale", scale, 1, count=self.dims, repeat=self.dims)

    def forward(self, states: Tensor, scale: Scale | None = None) -> Tensor:
        """(B, in_channels, *spatial) states to the (B, out_channels, *finer) picture.

        Parameters
        ----------
        states : Tensor
            Of the cells.
        scale : int, sequence of int or None
            Pixels for each cell, where it is to be another than the decoder's own.

        Raises
        ------
        ShapeError, ConfigError
            If the states have other channels or axes, or the scale is below 1.
        """
        if states.dim() != self.dims + 2 or states.shape[1] != self.in_channels:
            raise ShapeError(
                f"the decoder takes (B, {self.in_channels}, {self.dims} spatial axes), not {tuple(states.shape)}"
            )
        factors = self.scale if scale is None else self._interpret_scale(scale)
        seen = states
        for axis, factor in enumerate(factors):
            seen = _between(seen, axis + 2, factor)
        seen = torch.cat([seen, _places(seen, factors)], 1).movedim(1, -1)
        for layer in self.hidden:
            seen = F.relu(layer(seen))
        picture: Tensor = self.last(seen)
        return picture.movedim(-1, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for the constructor."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "scale": list(self.scale),
            "hidden_size": list(self.hidden_sizes),
            "dims": self.dims,
        }


def _between(states: Tensor, axis: int, factor: int) -> Tensor:
    """Linear interpolation along an axis; the last cells go on beyond the border.

    In slices and sums, so that the way back adds up in one order on every device.
    """
    if factor == 1:
        return states
    size = states.shape[axis]
    padded = torch.cat([states.narrow(axis, 0, 1), states, states.narrow(axis, size - 1, 1)], axis)
    phases = []
    for pixel in range(factor):
        place = (pixel + 0.5) / factor - 0.5  # of the pixel, in cells from the middle of its own
        first = 0 if place < 0 else 1
        share = place + 1 - first
        phases.append(padded.narrow(axis, first, size) * (1 - share) + padded.narrow(axis, first + 1, size) * share)
    return torch.stack(phases, axis + 1).flatten(axis, axis + 1)


def _places(seen: Tensor, factors: Sequence[int]) -> Tensor:
    """(B, 2 * dims, *spatial): sine and cosine of where each pixel lies in its cell, along each axis."""
    planes, shape = [], seen.shape[2:]
    for axis, factor in enumerate(factors):
        angle = math.pi * ((2 * torch.arange(factor, device=seen.device, dtype=seen.dtype) + 1) / factor - 1)
        for wave in (angle.sin(), angle.cos()):
            line = wave.repeat(shape[axis] // factor).view([-1 if other == axis else 1 for other in range(len(shape))])
            planes.append(line.expand(shape))
    return torch.stack(planes).expand(len(seen), -1, *shape)
