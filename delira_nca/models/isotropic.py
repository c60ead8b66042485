"""A perception that knows no direction: how steep a channel is, and not which way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number
from delira_nca.errors import ShapeError, require_choice
from delira_nca.models.part import Part
from delira_nca.models.perception import PADDINGS, fixed_kernels, pad_state

__all__ = ["IsotropicPerception"]

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class IsotropicPerception(Part):
    """The state, the length of its gradient, and its laplacian, each channel by itself.

    Parameters
    ----------
    laplacian : whether the laplacian is seen.
    padding : what lies beyond the border: zeros, reflect, replicate or circular.
    sobel_scale : factor of Sobel's filters; 1, the default, gives 1 on a ramp of slope 1.

    Raises
    ------
    ConfigError, UnknownNameError
        For an unknown padding, a scale that is not above 0, or other dimensions than 1, 2 and 3.

    Notes
    -----
    Mordvintsev, Randazzo & Fouts (2022), "Growing Isotropic Neural Cellular Automata". Without the gradient,
    ``Perception("identity", "laplacian")`` is the same, and all back ends can do it.

    Examples
    --------
    >>> perception = IsotropicPerception().build(num_channels=1, dims=2)
    >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    >>> perception(ramp)[0, :, 2, 2].tolist()  # state, length of the gradient, laplacian
    [2.0, 1.0, 0.0]
    """

    kernels: Tensor

    def __init__(self, *, laplacian: bool = True, padding: str = "circular", sobel_scale: float = 1.0) -> None:
        super().__init__()
        require_choice("padding", padding, PADDINGS)
        self.laplacian, self.padding = bool(laplacian), padding
        self.sobel_scale = float(require_number("sobel_scale", sobel_scale, above=0))
        self.num_channels = self.dims = 0

    def build(self, num_channels: int, dims: int = 2) -> IsotropicPerception:
        """Make the kernels for a state of so many channels and spatial dimensions, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _CONVOLUTIONS)
        self.num_channels, self.dims = num_channels, dims
        kernels = fixed_kernels("sobel", dims, sobel_scale=self.sobel_scale)
        self.register_buffer("kernels", torch.stack([*kernels, *fixed_kernels("laplacian", dims)]), persistent=False)
        return self

    @property
    def out_channels(self) -> int:
        """Channels of the perception."""
        return self.num_channels * (3 if self.laplacian else 2)

    @property
    def radius(self) -> int:
        """Farthest cell that one look can reach."""
        return 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) state to (B, out_channels, *spatial): state, lengths of gradients, laplacian.

        Where a channel is flat, the length has a gradient of 0.

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

        def filtered(kernel: Tensor) -> Tensor:
            weight = kernel.expand(self.num_channels, 1, *kernel.shape)
            return _CONVOLUTIONS[self.dims](padded, weight, padding=int(zeros), groups=self.num_channels)

        *sobel, laplacian = self.kernels
        steepness = torch.linalg.vector_norm(torch.stack([filtered(kernel) for kernel in sobel]), dim=0)
        return torch.cat([x, steepness, *([filtered(laplacian)] if self.laplacian else [])], 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for the constructor."""
        return {"laplacian": self.laplacian, "padding": self.padding, "sobel_scale": self.sobel_scale}
