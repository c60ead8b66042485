"""Decoder that computes images of a higher resolution than the grid from the states of the cells."""

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
    """Small perceptron that computes every pixel of an image that is finer than the grid.

    Its input are the states of the cells around the pixel, bilinearly interpolated, and the position of the pixel in
    its cell: sine and cosine of each coordinate, which are continuous between cells. As the ``head`` of a
    :class:`delira_nca.models.BasicNCAModel` it maps the hidden channels to a prediction that is ``scale`` times as
    large as the grid.

    Parameters
    ----------
    in_channels : int
        Number of input channels; for a head, the number of hidden channels of the model.
    out_channels : int
        Number of channels of the image.
    scale : int or sequence of int
        Pixels per cell along each axis; one number for all axes or one for each. Another scale can be passed to
        :meth:`forward`, for instance after training.
    hidden_size : int or sequence of int
        Number of neurons of the hidden layer, or of each hidden layer.
    dims : int
        Number of spatial axes.

    Raises
    ------
    ConfigError, UnknownNameError
        If a number is below 1, or ``dims`` is not 1, 2 or 3.

    Notes
    -----
    The method follows the local pattern producing network of "Neural Cellular Automata: From Cells to Pixels" (2025).

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
        """Pixels per cell along every axis, under the name that torch's modules use."""
        return self.scale

    def _interpret_scale(self, scale: Scale) -> tuple[int, ...]:
        return require_wholes("scale", scale, 1, count=self.dims, repeat=self.dims)

    def forward(self, states: Tensor, scale: Scale | None = None) -> Tensor:
        """Map (B, in_channels, *spatial) states to the (B, out_channels, *finer) image.

        Parameters
        ----------
        states : Tensor
            States of the cells.
        scale : int, sequence of int or None
            Pixels per cell; that of the decoder by default.

        Raises
        ------
        ShapeError, ConfigError
            If the number of channels or axes is wrong, or the scale is below 1.
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
        """Return the arguments of the constructor as plain values."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "scale": list(self.scale),
            "hidden_size": list(self.hidden_sizes),
            "dims": self.dims,
        }


def _between(states: Tensor, axis: int, factor: int) -> Tensor:
    """Interpolate linearly along an axis; values beyond the border are those of the last cells.

    It consists of slices and sums, so that the backward pass adds in one order on every device.
    """
    if factor == 1:
        return states
    size = states.shape[axis]
    padded = torch.cat([states.narrow(axis, 0, 1), states, states.narrow(axis, size - 1, 1)], axis)
    phases = []
    for pixel in range(factor):
        place = (pixel + 0.5) / factor - 0.5  # offset of the pixel from the centre of its cell, in cells
        first = 0 if place < 0 else 1
        share = place + 1 - first
        phases.append(padded.narrow(axis, first, size) * (1 - share) + padded.narrow(axis, first + 1, size) * share)
    return torch.stack(phases, axis + 1).flatten(axis, axis + 1)


def _places(seen: Tensor, factors: Sequence[int]) -> Tensor:
    """Sine and cosine of the position of each pixel in its cell along each axis, (B, 2 * dims, *spatial)."""
    planes, shape = [], seen.shape[2:]
    for axis, factor in enumerate(factors):
        angle = math.pi * ((2 * torch.arange(factor, device=seen.device, dtype=seen.dtype) + 1) / factor - 1)
        for wave in (angle.sin(), angle.cos()):
            line = wave.repeat(shape[axis] // factor).view([-1 if other == axis else 1 for other in range(len(shape))])
            planes.append(line.expand(shape))
    return torch.stack(planes).expand(len(seen), -1, *shape)
