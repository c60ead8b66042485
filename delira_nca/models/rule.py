"""What a cell does with what it sees: a small network of its own, the same for every cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.errors import ConfigError, require_choice

__all__ = ["BasicNCARule", "MLPRule"]

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


class MLPRule(nn.Module):
    """Multi-layer perceptron per cell, whose last layer starts at zero: a fresh automaton changes nothing.

    Parameters
    ----------
    hidden_size : neurons of the hidden layer, or of each of several.
    nonlinearity : relu, leaky_relu, gelu, silu or tanh.
    final_bias : whether the last layer has a bias (it starts at zero as well).

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
        self, hidden_size: int | Sequence[int] = 128, *, nonlinearity: str = "relu", final_bias: bool = True
    ) -> None:
        super().__init__()
        sizes: tuple[Any, ...] = tuple(hidden_size) if isinstance(hidden_size, Sequence) else (hidden_size,)
        if not sizes or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sizes):
            raise ConfigError(f"hidden_size is a number of neurons of at least 1, or several, not {hidden_size!r}")
        require_choice("nonlinearity", nonlinearity, _NONLINEARITIES)
        self.hidden_sizes, self.nonlinearity, self.final_bias = sizes, nonlinearity, final_bias

    def build(self, in_channels: int, out_channels: int, dims: int = 2) -> MLPRule:
        """Make the layers, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _POINTWISE)
        convolution = _POINTWISE[dims]
        sizes = (in_channels, *self.hidden_sizes)
        self.hidden = nn.ModuleList(convolution(a, b, 1) for a, b in zip(sizes, self.hidden_sizes, strict=False))
        self.last = convolution(sizes[-1], out_channels, 1, bias=self.final_bias)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        return self

    def forward(self, perception: Tensor) -> Tensor:
        """(B, P, *spatial) perception to (B, out_channels, *spatial) update."""
        activate = _NONLINEARITIES[self.nonlinearity]
        for layer in self.hidden:
            perception = activate(layer(perception))
        update: Tensor = self.last(perception)
        return update

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
        }


BasicNCARule = MLPRule
"""The name on NCALab's API page."""
