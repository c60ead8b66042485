"""Plain form of an automaton, for back ends that do not call its modules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from delira_nca.errors import DeliraNCAError

__all__ = ["AliveRule", "CellParameters", "UnsupportedCellError"]


class UnsupportedCellError(DeliraNCAError):
    """Raised if the fast back ends do not support a cell. The message is a clause that gives the reason."""


@dataclass(frozen=True)
class AliveRule:
    """Alive mask: the maximum of a channel over the 3, 9 or 27 cells around a cell exceeds a threshold."""

    channel: int
    threshold: float
    before: bool
    after: bool


@dataclass(frozen=True)
class CellParameters:
    """Perception, multi-layer perceptron and masks of a cell as differentiable tensors and numbers.

    A perception consists of ``num_filters * C`` depth-wise channels, ordered by filter, the outputs of the full
    filters, and the optional time. All filters are cross-correlations with one odd kernel shape.

    Parameters
    ----------
    num_channels, num_fixed_channels : int
        Number of channels of the state, and of the first channels that never change.
    padding : str
        ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    filters : Tensor
        (F, C, *kernel) depth-wise filters, including the identity.
    learned : tuple of bool
        Whether each filter is learned. Zeros of other filters may be skipped.
    filter_bias : Tensor or None
        (F, C) biases, or None.
    full : Tensor or None
        (O, C, *kernel) filters over all channels, or None.
    full_bias : Tensor or None
        (O,) biases, or None.
    full_relu : bool
        Whether a ReLU follows the full filters.
    weights : tuple of Tensor
        (out, in) weights of each layer of the rule. The last one has ``num_channels - num_fixed_channels`` rows.
    biases : tuple
        (out,) bias of each layer, or None.
    nonlinearity : str
        Activation after every layer but the last: ``"relu"``, ``"leaky_relu"``, ``"gelu"``, ``"silu"`` or ``"tanh"``.
    time_scale : float or None
        Factor of the time channel, ``t * time_scale``; None without a time channel.
    alive : AliveRule or None
        Alive mask; None if all cells live.
    fire_rate : float
        Probability that a cell updates.
    update_noise : float
        Standard deviation of the noise on every update; 0 for no noise.
    """

    num_channels: int
    num_fixed_channels: int
    padding: str
    filters: Tensor
    learned: tuple[bool, ...]
    filter_bias: Tensor | None
    full: Tensor | None
    full_bias: Tensor | None
    full_relu: bool
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    nonlinearity: str
    time_scale: float | None
    alive: AliveRule | None
    fire_rate: float
    update_noise: float

    @property
    def dims(self) -> int:
        """Number of spatial dimensions."""
        return self.filters.dim() - 2

    @property
    def radius(self) -> tuple[int, ...]:
        """Distance of the farthest cell that the filters reach along each axis."""
        return tuple(size // 2 for size in self.filters.shape[2:])

    def tensors(self) -> list[Tensor | None]:
        """Return all tensors in a fixed order."""
        return [self.filters, self.filter_bias, self.full, self.full_bias, *self.weights, *self.biases]

    def with_tensors(self, tensors: list[Tensor | None]) -> CellParameters:
        """Return the cell with other tensors, in the order of :meth:`tensors`."""
        parts: list[Any] = tensors
        filters, filter_bias, full, full_bias, *layers = parts
        depth = len(self.weights)
        banks = {"filters": filters, "filter_bias": filter_bias, "full": full, "full_bias": full_bias}
        return replace(self, **banks, weights=tuple(layers[:depth]), biases=tuple(layers[depth:]))
