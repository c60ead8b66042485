"""A perception in the frame of the cell: what it sees turns with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.models.part import Part
from delira_nca.models.perception import PADDINGS, fixed_kernels, pad_state

__all__ = ["FRAMES", "SteerablePerception"]

FRAMES = ("angle", "gradient")


class SteerablePerception(Part):
    """The state, its two gradients in the frame of the cell, and its laplacian. In 2D only.

    A gradient ``(gx, gy)`` becomes ``(c gx + s gy, c gy - s gx)``: its parts along the direction ``(c, s)`` of the
    cell and across it. The direction comes out of the last channel of the state.

    Parameters
    ----------
    frame : ``"angle"``: the last channel is an angle in radians, from the last axis towards the one before it, and is
        perceived in no other way. ``"gradient"``: the gradient of the last channel, divided by its length where that is
        above 1, is the direction; the last channel itself is perceived as the others are, but for its gradient.
    laplacian : whether the laplacian is seen.
    padding : what lies beyond the border: zeros, reflect, replicate or circular.
    sobel_scale : factor of Sobel's filters; 8, the default, is ``[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]``.

    Raises
    ------
    ConfigError, UnknownNameError
        For an unknown frame or padding, fewer than 2 channels, or other dimensions than 2.

    Notes
    -----
    Randazzo, Mordvintsev & Fouts (2023), "Growing Steerable Neural Cellular Automata". Where a picture is turned by
    ``torch.rot90`` and pi/2 is taken from all angles, each cell sees what it saw.

    Examples
    --------
    >>> perception = SteerablePerception("angle").build(num_channels=16, dims=2)
    >>> perception(torch.zeros(1, 16, 8, 8)).shape  # 4 x 15: the angle is not seen
    torch.Size([1, 60, 8, 8])
    """

    kernels: Tensor

    def __init__(
        self, frame: str = "angle", *, laplacian: bool = True, padding: str = "circular", sobel_scale: float = 8.0
    ) -> None:
        super().__init__()
        require_choice("frame", frame, FRAMES)
        require_choice("padding", padding, PADDINGS)
        self.frame, self.laplacian, self.padding = frame, bool(laplacian), padding
        self.sobel_scale = float(require_number("sobel_scale", sobel_scale, above=0))
        self.num_channels = self.dims = 0

    def build(self, num_channels: int, dims: int = 2) -> SteerablePerception:
        """Make the kernels for a state of so many channels, and return the module itself."""
        if dims != 2:
            raise ConfigError(f"a steerable perception turns on a plane: it takes dims=2, not {dims}")
        if num_channels < 2:
            raise ConfigError(f"a steerable perception needs a channel beside that of its frame, not {num_channels}")
        self.num_channels, self.dims = num_channels, dims
        kernels = [*fixed_kernels("sobel", 2, sobel_scale=self.sobel_scale), *fixed_kernels("laplacian", 2)]
        self.register_buffer("kernels", torch.stack(kernels), persistent=False)
        return self

    @property
    def out_channels(self) -> int:
        """Channels of the perception."""
        scalars = self.num_channels - (self.frame == "angle")
        return scalars * (2 if self.laplacian else 1) + 2 * (self.num_channels - 1)

    @property
    def radius(self) -> int:
        """Farthest cell that one look can reach."""
        return 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) state to (B, out_channels, H, W): state, gradients along and across, laplacian.

        Raises
        ------
        ShapeError
            If the state has other channels or dimensions than the perception was built for.
        """
        if x.dim() != 4 or x.shape[1] != self.num_channels:
            raise ShapeError(f"perception was built for (B, {self.num_channels}, 2 spatial axes), got {tuple(x.shape)}")
        zeros = self.padding == "zeros"
        padded = pad_state(x, self.padding)

        def filtered(number: int) -> Tensor:
            weight = self.kernels[number].expand(self.num_channels, 1, 3, 3)
            return F.conv2d(padded, weight, padding=int(zeros), groups=self.num_channels)

        along_x, along_y = filtered(0), filtered(1)
        cos, sin = self._direction(x[:, -1:], along_x[:, -1:], along_y[:, -1:])
        along_x, along_y = along_x[:, :-1], along_y[:, :-1]
        scalars = x.shape[1] - (self.frame == "angle")
        parts = [x[:, :scalars], cos * along_x + sin * along_y, cos * along_y - sin * along_x]
        if self.laplacian:
            parts.append(filtered(2)[:, :scalars])
        return torch.cat(parts, 1)

    def _direction(self, last: Tensor, along_x: Tensor, along_y: Tensor) -> tuple[Tensor, Tensor]:
        if self.frame == "angle":
            return last.cos(), last.sin()
        length = (along_x.square() + along_y.square()).clamp(min=1.0).sqrt()
        return along_x / length, along_y / length

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for the constructor."""
        return {
            "frame": self.frame,
            "laplacian": self.laplacian,
            "padding": self.padding,
            "sobel_scale": self.sobel_scale,
        }
