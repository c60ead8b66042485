"""A rule whose hidden layer is normalised over all cells, as some medical automata have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from delira_nca.errors import ConfigError, require_choice
from delira_nca.models.rule import MLPRule

__all__ = ["NormedRule"]

_BATCH: dict[int, type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


class NormedRule(MLPRule):
    """Perceptron per cell with a normalisation between each hidden layer and its nonlinearity.

    The statistics are those of the states at hand, in evaluation too; none are kept. So what a cell does depends on all
    cells: a patch is not computed like the image that it comes from, and with ``"batch"`` a sample not like alone.

    Parameters
    ----------
    hidden_size, nonlinearity, final_bias, zero_init, spare_rows : as of :class:`MLPRule`.
    norm : ``"batch"`` normalises each neuron over all samples and cells, ``"group"`` each group of neurons over the
        cells of a sample.
    num_groups : of ``"group"``; divides the numbers of neurons.

    Raises
    ------
    ConfigError, UnknownNameError
        For an unknown norm, or groups that do not divide the neurons.

    Notes
    -----
    M3D-NCA (Kalkhof and Mukhopadhyay, 2023) has ``BatchNorm3d(track_running_stats=False)``. No fast back end knows the
    rule.

    Examples
    --------
    >>> rule = NormedRule(64, final_bias=False).build(in_channels=32, out_channels=16, dims=3)
    >>> sum(parameter.numel() for parameter in rule.parameters())
    3264
    """

    local = False
    """Whether an update depends on the cell's perception only."""

    def __init__(
        self,
        hidden_size: int | Sequence[int] = 64,
        *,
        nonlinearity: str = "relu",
        final_bias: bool = True,
        zero_init: bool = True,
        spare_rows: int = 0,
        norm: str = "batch",
        num_groups: int = 8,
    ) -> None:
        super().__init__(
            hidden_size,
            nonlinearity=nonlinearity,
            final_bias=final_bias,
            zero_init=zero_init,
            spare_rows=spare_rows,
        )
        require_choice("norm", norm, ("batch", "group"))
        if norm == "group" and (num_groups < 1 or any(size % num_groups for size in self.hidden_sizes)):
            raise ConfigError(f"num_groups={num_groups} does not divide the numbers of neurons {self.hidden_sizes}")
        self.norm, self.num_groups = norm, num_groups

    def build(self, in_channels: int, out_channels: int, dims: int = 2) -> NormedRule:
        """Make the layers, and return the module itself."""
        super().build(in_channels, out_channels, dims)
        self.norms = nn.ModuleList(
            _BATCH[dims](size, track_running_stats=False)
            if self.norm == "batch"
            else nn.GroupNorm(self.num_groups, size)
            for size in self.hidden_sizes
        )
        return self

    def activated(self, layer: int, hidden: Tensor) -> Tensor:
        """(B, neurons, *spatial) of a hidden layer, normalised and after the nonlinearity."""
        normed: Tensor = self.norms[layer](hidden)
        return super().activated(layer, normed)

    def freeze(self, freeze_last: bool = False) -> None:
        """Take the layers and their norms out of training, but for the last layer unless it is asked for."""
        super().freeze(freeze_last)
        self.norms.requires_grad_(False)

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for the constructor."""
        return {**super().to_dict(), "norm": self.norm, "num_groups": self.num_groups}
