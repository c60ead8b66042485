"""A perception with one filter for each channel: the eye of the smallest automata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number, require_wholes
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.models.part import Part
from delira_nca.models.perception import PADDINGS, fixed_kernels, pad_state

__all__ = ["GroupedPerception"]

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class GroupedPerception(Part):
    """Each channel through one fixed filter of its own; the state, what was seen, and the absolute values of both.

    The first channels go through the laplacian, the next ones through Sobel's filter along the last axis, and so on
    for each axis before it.

    Parameters
    ----------
    groups : number of channels for the laplacian, and for the filter of each axis; by default a share each where the
        channels can be divided so, else the laplacian has twice the share of a gradient.
    padding : what lies beyond the border: zeros, reflect, replicate or circular.
    sobel_scale : factor of Sobel's filters; 8, the default, is ``[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]``.

    Raises
    ------
    ConfigError, UnknownNameError
        For groups that are no numbers, or do not add up to the channels of the state.

    Notes
    -----
    Mordvintsev & Niklasson (2021), "uNCA". The default groups are those of the article: 2, 1 and 1 of 4 channels, 2
    each of 6, 4, 2 and 2 of 8, 4 each of 12.

    Examples
    --------
    >>> perception = GroupedPerception().build(num_channels=8, dims=2)
    >>> perception.groups, perception.out_channels
    ((4, 2, 2), 32)
    """

    kernels: Tensor

    def __init__(
        self, groups: tuple[int, ...] | None = None, *, padding: str = "circular", sobel_scale: float = 8.0
    ) -> None:
        super().__init__()
        require_choice("padding", padding, PADDINGS)
        self.groups = None if groups is None else require_wholes("groups", groups, 0)
        self.padding, self.sobel_scale = padding, float(require_number("sobel_scale", sobel_scale, above=0))
        self.num_channels = self.dims = 0

    def build(self, num_channels: int, dims: int = 2) -> GroupedPerception:
        """Make the kernels for a state of so many channels and spatial dimensions, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _CONVOLUTIONS)
        groups = _shares(num_channels, dims) if self.groups is None else self.groups
        if len(groups) != dims + 1 or sum(groups) != num_channels:
            raise ConfigError(
                f"groups of {num_channels} channels in {dims}D are {dims + 1} numbers with the sum {num_channels}, "
                f"the laplacian's and one for each axis, not {groups}"
            )
        self.groups, self.num_channels, self.dims = groups, num_channels, dims
        filters = [*fixed_kernels("laplacian", dims), *fixed_kernels("sobel", dims, sobel_scale=self.sobel_scale)]
        kernels = [kernel for kernel, count in zip(filters, groups, strict=True) for _ in range(count)]
        self.register_buffer("kernels", torch.stack(kernels), persistent=False)
        return self

    @property
    def out_channels(self) -> int:
        """Channels of the perception."""
        return 4 * self.num_channels

    @property
    def radius(self) -> int:
        """Farthest cell that one look can reach."""
        return 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) state to (B, 4 C, *spatial): the state, its filters, and the absolute values of these.

        Raises
        ------
        ShapeError
            If the state has other channels or dimensions than the perception was built for.
        """
        if x.dim() != self.dims + 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                f"perception was built for (B, {self.num_channels}, {self.dims} spatial axes), got {tuple(x.shape)}"
            )
        zeros = self.padding == "zeros"
        padded = pad_state(x, self.padding)
        kernels = self.kernels.unsqueeze(1)
        seen = _CONVOLUTIONS[self.dims](padded, kernels, padding=int(zeros), groups=self.num_channels)
        both = torch.cat([x, seen], 1)
        return torch.cat([both, both.abs()], 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for :meth:`from_dict`."""
        groups = None if self.groups is None else list(self.groups)
        return {"groups": groups, "padding": self.padding, "sobel_scale": self.sobel_scale}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> GroupedPerception:
        """Perception from what :meth:`to_dict` gave, to be built by its model."""
        groups = config.get("groups")
        return cls(**{**config, "groups": None if groups is None else tuple(groups)})


def _shares(num_channels: int, dims: int) -> tuple[int, ...]:
    share = num_channels // (dims + 1 if num_channels % (dims + 1) == 0 else dims + 2)
    return (num_channels - dims * share, *(share,) * dims)
