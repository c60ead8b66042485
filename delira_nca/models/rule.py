"""What a cell does with what it sees: a small network of its own, the same for every cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.checks import require_number, require_whole, require_wholes
from delira_nca.errors import require_choice
from delira_nca.models.part import Part

__all__ = ["BasicNCARule", "LinearRule", "MLPRule"]

_POINTWISE: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
_NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": F.tanh,
}


class MLPRule(Part):
    """Multi-layer perceptron per cell, whose last layer starts at zero: a fresh automaton changes nothing.

    Parameters
    ----------
    hidden_size : neurons of the hidden layer, or of each of several.
    nonlinearity : relu, leaky_relu, gelu, silu or tanh.
    final_bias : whether the last layer has a bias (it starts at zero as well).
    zero_init : whether the last layer starts at zero; as torch's layers do otherwise.
    spare_rows : rows of the last layer, before all others, that nobody asks for: published models of a fixed image
        have them for its channels. They make a model count, and take weights, as published; its function is the same.

    Raises
    ------
    ConfigError, UnknownNameError
        For a size below 1 or an unknown nonlinearity.

    Notes
    -----
    Mordvintsev et al. (2020): one hidden layer of 128, with the final bias. A model builds a copy for its own
    channels, so that one rule may describe many.

    Examples
    --------
    >>> import torch
    >>> rule = MLPRule(128).build(in_channels=48, out_channels=16, dims=2)
    >>> rule(torch.ones(1, 48, 8, 8)).abs().max().item()
    0.0
    """

    def __init__(
        self,
        hidden_size: int | Sequence[int] = 128,
        *,
        nonlinearity: str = "relu",
        final_bias: bool = True,
        zero_init: bool = True,
        spare_rows: int = 0,
    ) -> None:
        super().__init__()
        require_choice("nonlinearity", nonlinearity, _NONLINEARITIES)
        self.hidden_sizes = require_wholes("hidden_size", hidden_size, 1, repeat=1)
        self.nonlinearity, self.final_bias = nonlinearity, final_bias
        self.zero_init, self.spare_rows = bool(zero_init), require_whole("spare_rows", spare_rows, 0)

    def build(self, in_channels: int, out_channels: int, dims: int = 2) -> MLPRule:
        """Make the layers, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _POINTWISE)
        convolution = _POINTWISE[dims]
        sizes = (in_channels, *self.hidden_sizes)
        self.hidden = nn.ModuleList(convolution(a, b, 1) for a, b in zip(sizes, self.hidden_sizes, strict=False))
        self.last = convolution(sizes[-1], self.spare_rows + out_channels, 1, bias=self.final_bias)
        for parameter in self.last.parameters() if self.zero_init else ():
            nn.init.zeros_(parameter)
        return self

    def forward(self, perception: Tensor) -> Tensor:
        """(B, P, *spatial) perception to (B, out_channels, *spatial) update."""
        for number, layer in enumerate(self.hidden):
            perception = self.activated(number, layer(perception))
        update: Tensor = self.last(perception)
        return update[:, self.spare_rows :] if self.spare_rows else update

    def activated(self, layer: int, hidden: Tensor) -> Tensor:
        """(B, neurons, *spatial) of a hidden layer after the nonlinearity."""
        return _NONLINEARITIES[self.nonlinearity](hidden)

    def freeze(self, freeze_last: bool = False) -> None:
        """Take the layers out of training, but for the last one unless it is asked for."""
        for layer in (*self.hidden, *((self.last,) if freeze_last else ())):
            layer.requires_grad_(False)

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for the constructor."""
        return {
            "hidden_size": list(self.hidden_sizes),
            "nonlinearity": self.nonlinearity,
            "final_bias": self.final_bias,
            **({} if self.zero_init else {"zero_init": False}),
            **({"spare_rows": self.spare_rows} if self.spare_rows else {}),
        }


class LinearRule(Part):
    """One layer per cell and nothing else: what is not linear lies in the perception.

    Parameters
    ----------
    init_scale : standard deviation of the weights at the start, of the bias too; 0 starts at the identity.
    bias : whether there is one.

    Raises
    ------
    ConfigError
        For a negative or infinite scale.

    Notes
    -----
    Mordvintsev & Niklasson (2021), "uNCA: Texture Generation with Ultra-Compact Neural Cellular Automata".

    Examples
    --------
    >>> sum(p.numel() for p in LinearRule().build(in_channels=16, out_channels=4).parameters())
    68
    """

    def __init__(self, *, init_scale: float = 1e-3, bias: bool = True) -> None:
        super().__init__()
        self.init_scale, self.bias = float(require_number("init_scale", init_scale, 0)), bool(bias)

    def build(self, in_channels: int, out_channels: int, dims: int = 2) -> LinearRule:
        """Make the layer, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _POINTWISE)
        self.last = _POINTWISE[dims](in_channels, out_channels, 1, bias=self.bias)
        for parameter in self.last.parameters():
            nn.init.normal_(parameter, 0.0, self.init_scale)
        return self

    def forward(self, perception: Tensor) -> Tensor:
        """(B, P, *spatial) perception to (B, out_channels, *spatial) update."""
        update: Tensor = self.last(perception)
        return update

    def freeze(self, freeze_last: bool = False) -> None:
        """Take the layer out of training if that is asked for: it is the last one."""
        if freeze_last:
            self.last.requires_grad_(False)

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for the constructor."""
        return {"init_scale": self.init_scale, "bias": self.bias}


BasicNCARule = MLPRule
"""The name on NCALab's API page."""
