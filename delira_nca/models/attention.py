"""A rule that attends to the neighbours of a cell."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, require_choice
from delira_nca.models.part import Part
from delira_nca.models.perception import PADDINGS, pad_state

__all__ = ["AttentionRule"]

_POINTWISE: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}


class AttentionRule(Part):
    """A transformer's block per cell that sees the 3, 9 or 27 cells around and a zero-initialised last layer.

    What a cell perceives is embedded; each head compares the cell with its neighbours, and with where they are; a
    perceptron and the last layer make the update of it. A fresh automaton changes nothing.

    Parameters
    ----------
    width : of the embedding; a multiple of the heads.
    num_heads : of the attention.
    hidden_size : neurons of the perceptron.
    padding : what lies beyond the border: circular, reflect, replicate, or zeros, where nobody is: such places are not
        attended to.

    Raises
    ------
    ConfigError, UnknownNameError
        For numbers below 1, a width that cannot be divided by the heads, or an unknown padding.

    Notes
    -----
    Tesfaldet et al. (2022), "Attention-based Neural Cellular Automata". Places are relative to the cell, so that the
    rule is the same wherever it stands; the article adds absolute ones. Only the reference back end runs it.

    Examples
    --------
    >>> rule = AttentionRule().build(in_channels=32, out_channels=31, dims=2)
    >>> rule(torch.ones(1, 32, 8, 8)).abs().max().item()
    0.0
    """

    radius = 1

    def __init__(self, width: int = 32, *, num_heads: int = 4, hidden_size: int = 128, padding: str = "zeros") -> None:
        super().__init__()
        for name, number in (("width", width), ("num_heads", num_heads), ("hidden_size", hidden_size)):
            require_whole(name, number, 1)
        if width % num_heads:
            raise ConfigError(f"width is a multiple of num_heads, and {width} is none of {num_heads}")
        require_choice("padding", padding, PADDINGS)
        self.width, self.num_heads, self.hidden_size, self.padding = width, num_heads, hidden_size, padding

    def build(self, in_channels: int, out_channels: int, dims: int = 2) -> AttentionRule:
        """Make the layers, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _POINTWISE)
        convolution = _POINTWISE[dims]
        self.dims = dims
        self.embed = convolution(in_channels, self.width, 1)
        self.query_key_value = convolution(self.width, 3 * self.width, 1, bias=False)
        self.places = nn.Parameter(0.02 * torch.randn(self.width, 3**dims))
        self.project = convolution(self.width, self.width, 1)
        self.hidden = nn.ModuleList(
            [convolution(self.width, self.hidden_size, 1), convolution(self.hidden_size, self.width, 1)]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(self.width) for _ in range(3))
        self.last = convolution(self.width, out_channels, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        return self

    def forward(self, perception: Tensor) -> Tensor:
        """(B, P, *spatial) perception to (B, out_channels, *spatial) update."""
        x = self.embed(perception)
        x = x + self.project(self._attend(self._normalised(0, x)))
        first, second = self.hidden
        x = x + second(F.gelu(first(self._normalised(1, x))))
        update: Tensor = self.last(self._normalised(2, x))
        return update

    def _normalised(self, number: int, x: Tensor) -> Tensor:
        normalised: Tensor = self.norms[number](x.movedim(1, -1)).movedim(-1, 1)
        return normalised

    def _attend(self, x: Tensor) -> Tensor:
        samples, _, *sizes = x.shape
        heads = (self.num_heads, self.width // self.num_heads)
        query, key, value = self.query_key_value(x).chunk(3, 1)
        keys, values = (self._neighbours(part).view(samples, *heads, -1, *sizes) for part in (key, value))
        places = self.places.view(*heads, -1, *(1,) * self.dims)
        scores = (query.reshape(samples, *heads, 1, *sizes) * (keys + places)).sum(2) / heads[1] ** 0.5
        if self.padding == "zeros":
            somebody = self._neighbours(x.new_ones(1, 1, *x.shape[2:])) > 0
            scores = scores.masked_fill(~somebody, -torch.inf)
        attended: Tensor = (scores.softmax(2).unsqueeze(2) * values).sum(3).flatten(1, 2)
        return attended

    def _neighbours(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to (B, C, 3 ** dims, *spatial): each cell with those around it, row by row."""
        zeros = self.padding == "zeros"
        padded, sizes = F.pad(x, (1, 1) * self.dims) if zeros else pad_state(x, self.padding), x.shape[2:]
        shifted = []
        for offsets in itertools.product(range(3), repeat=self.dims):
            part = padded
            for axis, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
                part = part.narrow(axis + 2, offset, size)
            shifted.append(part)
        return torch.stack(shifted, 2)

    def freeze(self, freeze_last: bool = False) -> None:
        """Take the layers out of training, but for the last one unless it is asked for."""
        self.requires_grad_(False)
        self.last.requires_grad_(not freeze_last)

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for the constructor."""
        return {
            "width": self.width,
            "num_heads": self.num_heads,
            "hidden_size": self.hidden_size,
            "padding": self.padding,
        }
