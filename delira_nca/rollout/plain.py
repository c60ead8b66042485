"""An automaton as numbers: what a back end that does not call the cell's own modules has to know of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from delira_nca.errors import DeliraNCAError

__all__ = ["AliveRule", "NotPlainError", "PlainCell"]


class NotPlainError(DeliraNCAError):
    """A cell cannot be written as a :class:`PlainCell`; the message says which part of it, in half a sentence."""


@dataclass(frozen=True)
class AliveRule:
    """Cells live while the largest value of a channel among their 3, 9 or 27 neighbours is above a threshold."""

    channel: int
    threshold: float
    before: bool
    after: bool


@dataclass(frozen=True)
class PlainCell:
    """Perception, multi-layer perceptron, and masks, as tensors that gradients can flow to.

    A perception is ``num_filters * C`` depth-wise channels, filter by filter, then the outputs of the full filters,
    then, if there is one, the time. All filters are cross-correlations with one odd kernel shape.

    Parameters
    ----------
    num_channels, num_fixed_channels : int
        Of the state; the first ``num_fixed_channels`` never change.
    padding : str
        Zeros, reflect, replicate or circular.
    filters : Tensor
        (F, C, *kernel) depth-wise filters; the identity is one of them.
    learned : tuple of bool
        For each filter, whether its numbers are weights; zeros of the others may be left out.
    filter_bias : Tensor or None
        (F, C), or None.
    full : Tensor or None
        (O, C, *kernel) filters over all channels, or None.
    full_bias : Tensor or None
        (O,), or None.
    full_relu : bool
        Whether a rectifier follows the full filters.
    weights : tuple of Tensor
        Of the layers of the rule, (out, in) each; the last one has ``num_channels - num_fixed_channels`` rows.
    biases : tuple
        One for each layer, (out,) or None.
    nonlinearity : str
        After every layer but the last: relu, leaky_relu, gelu, silu or tanh.
    time_scale : float or None
        The time channel is ``t * time_scale``; None where there is none.
    alive : AliveRule or None
        Which cells live; None where all do.
    fire_rate : float
        Probability that a cell updates.
    update_noise : float
        Standard deviation of the noise on every update, 0 for none.
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
        """Spatial dimensions."""
        return self.filters.dim() - 2

    @property
    def radius(self) -> tuple[int, ...]:
        """Farthest cell along each axis that the filters reach."""
        return tuple(size // 2 for size in self.filters.shape[2:])

    def tensors(self) -> list[Tensor | None]:
        """All tensors, in one order for all back ends."""
        return [self.filters, self.filter_bias, self.full, self.full_bias, *self.weights, *self.biases]

    def with_tensors(self, tensors: list[Tensor | None]) -> PlainCell:
        """The same cell with other tensors, in the order of :meth:`tensors`."""
        filters, filter_bias, full, full_bias, *layers = tensors
        depth = len(self.weights)
        return PlainCell(
            **{
                **self.__dict__,
                "filters": filters,
                "filter_bias": filter_bias,
                "full": full,
                "full_bias": full_bias,
                "weights": tuple(layers[:depth]),
                "biases": tuple(layers[depth:]),
            }
        )
