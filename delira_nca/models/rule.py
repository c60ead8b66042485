"""Rules that compute the update of a cell: perceptrons, and rules with norms, attention or several experts."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.checks import require_number, require_whole, require_wholes
from delira_nca.errors import ConfigError, require_choice
from delira_nca.models.part import Part
from delira_nca.models.perception import CONVOLUTION_LAYERS, PADDINGS, pad_state

__all__ = ["CHOICES", "AttentionRule", "BasicNCARule", "LinearRule", "MLPRule", "MixtureRule", "NormedRule"]

_NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": F.tanh,
}


class MLPRule(Part):
    """Multi-layer perceptron per cell. Its last layer starts at zero, so a new automaton does not change its state.

    Parameters
    ----------
    hidden_size : int or sequence of int
        Number of neurons of the hidden layer, or of each hidden layer.
    nonlinearity : {"relu", "leaky_relu", "gelu", "silu", "tanh"}
        Activation function of the hidden layers.
    final_bias : bool
        Whether the last layer has a bias.
    zero_init : bool
        Whether the last layer starts at zero; otherwise it has torch's default initialisation.
    spare_rows : int
        Number of unused rows at the start of the last layer. Published models with an immutable image have them for its
        channels; they keep the number of parameters and the shapes of the weights as published, without changing the
        update.

    Raises
    ------
    ConfigError, UnknownNameError
        If a size is below 1 or the nonlinearity is unknown.

    Notes
    -----
    Mordvintsev et al. (2020): one hidden layer of 128, with the final bias. A model builds a copy for its channels, so
    one rule can be passed to several models.

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
        """Make the layers and return the module itself."""
        require_choice("number of spatial dimensions", dims, CONVOLUTION_LAYERS)
        convolution = CONVOLUTION_LAYERS[dims]
        sizes = (in_channels, *self.hidden_sizes)
        self.hidden = nn.ModuleList(convolution(a, b, 1) for a, b in zip(sizes, self.hidden_sizes, strict=False))
        self.last = convolution(sizes[-1], self.spare_rows + out_channels, 1, bias=self.final_bias)
        for parameter in self.last.parameters() if self.zero_init else ():
            nn.init.zeros_(parameter)
        return self

    def forward(self, perception: Tensor) -> Tensor:
        """Map a (B, P, *spatial) perception to a (B, out_channels, *spatial) update."""
        for number, layer in enumerate(self.hidden):
            perception = self.activated(number, layer(perception))
        update: Tensor = self.last(perception)
        return update[:, self.spare_rows :] if self.spare_rows else update

    def activated(self, layer: int, hidden: Tensor) -> Tensor:
        """Apply the nonlinearity to a hidden layer, (B, neurons, *spatial)."""
        return _NONLINEARITIES[self.nonlinearity](hidden)

    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layers; the last one only if ``freeze_last`` is set."""
        for layer in (*self.hidden, *((self.last,) if freeze_last else ())):
            layer.requires_grad_(False)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor as plain values."""
        return {
            "hidden_size": list(self.hidden_sizes),
            "nonlinearity": self.nonlinearity,
            "final_bias": self.final_bias,
            **({} if self.zero_init else {"zero_init": False}),
            **({"spare_rows": self.spare_rows} if self.spare_rows else {}),
        }


class LinearRule(Part):
    """One linear layer per cell, for perceptions that are nonlinear.

    Parameters
    ----------
    init_scale : float
        Standard deviation of the initial weights and bias; with 0, a new automaton does not change its state.
    bias : bool
        Whether the layer has a bias.

    Raises
    ------
    ConfigError
        If the scale is negative or infinite.

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
        """Make the layer and return the module itself."""
        require_choice("number of spatial dimensions", dims, CONVOLUTION_LAYERS)
        self.last = CONVOLUTION_LAYERS[dims](in_channels, out_channels, 1, bias=self.bias)
        for parameter in self.last.parameters():
            nn.init.normal_(parameter, 0.0, self.init_scale)
        return self

    def forward(self, perception: Tensor) -> Tensor:
        """Map a (B, P, *spatial) perception to a (B, out_channels, *spatial) update."""
        update: Tensor = self.last(perception)
        return update

    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layer if ``freeze_last`` is set, as it is the last one."""
        if freeze_last:
            self.last.requires_grad_(False)


BasicNCARule = MLPRule
"""Name on NCALab's API page."""


_BATCH: dict[int, type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


class NormedRule(MLPRule):
    """Perceptron per cell with a normalisation layer before each nonlinearity.

    The statistics are those of the current states, in evaluation too; there are no running statistics. The update of a
    cell therefore depends on all cells: the result for a patch differs from that for its image, and with ``"batch"``
    the result for a sample depends on the other samples.

    Parameters
    ----------
    hidden_size, nonlinearity, final_bias, zero_init, spare_rows
        See :class:`MLPRule`.
    norm : {"batch", "group"}
        ``"batch"`` normalises each neuron over all samples and cells, ``"group"`` each group of neurons over the cells
        of a sample.
    num_groups : int
        Number of groups of ``"group"``. It must divide the numbers of neurons.

    Raises
    ------
    ConfigError, UnknownNameError
        If the norm is unknown, or ``num_groups`` does not divide the numbers of neurons.

    Notes
    -----
    M3D-NCA (Kalkhof and Mukhopadhyay, 2023) has ``BatchNorm3d(track_running_stats=False)``. Only the reference back end
    supports this rule.

    Examples
    --------
    >>> rule = NormedRule(64, final_bias=False).build(in_channels=32, out_channels=16, dims=3)
    >>> sum(parameter.numel() for parameter in rule.parameters())
    3264
    """

    local = False
    """Whether the update of a cell depends only on its own perception."""

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
            hidden_size, nonlinearity=nonlinearity, final_bias=final_bias, zero_init=zero_init, spare_rows=spare_rows
        )
        require_choice("norm", norm, ("batch", "group"))
        if norm == "group" and (num_groups < 1 or any(size % num_groups for size in self.hidden_sizes)):
            raise ConfigError(f"num_groups={num_groups} does not divide the numbers of neurons {self.hidden_sizes}")
        self.norm, self.num_groups = norm, num_groups

    def build(self, in_channels: int, out_channels: int, dims: int = 2) -> NormedRule:
        """Make the layers and return the module itself."""
        super().build(in_channels, out_channels, dims)
        self.norms = nn.ModuleList(
            _BATCH[dims](size, track_running_stats=False)
            if self.norm == "batch"
            else nn.GroupNorm(self.num_groups, size)
            for size in self.hidden_sizes
        )
        return self

    def activated(self, layer: int, hidden: Tensor) -> Tensor:
        """Apply the norm and the nonlinearity to a hidden layer, (B, neurons, *spatial)."""
        normed: Tensor = self.norms[layer](hidden)
        return super().activated(layer, normed)

    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layers and their norms; the last layer only if ``freeze_last`` is set."""
        super().freeze(freeze_last)
        self.norms.requires_grad_(False)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor as plain values."""
        return {**super().to_dict(), "norm": self.norm, "num_groups": self.num_groups}


class AttentionRule(Part):
    """Transformer block per cell that attends to the 3, 9 or 27 nearest cells, with a zero-initialised last layer.

    The perception of a cell is embedded. Each head attends to the embeddings and relative positions of the neighbours.
    A perceptron and the last layer compute the update. A new automaton does not change its state.

    Parameters
    ----------
    width : int
        Width of the embedding; a multiple of ``num_heads``.
    num_heads : int
        Number of attention heads.
    hidden_size : int
        Number of neurons of the hidden layer of the perceptron.
    padding : str
        Neighbours beyond the border: ``"circular"``, ``"reflect"``, ``"replicate"``, or ``"zeros"`` to exclude them
        from the attention.

    Raises
    ------
    ConfigError, UnknownNameError
        If a number is below 1, ``width`` is not a multiple of ``num_heads``, or the padding is unknown.

    Notes
    -----
    Tesfaldet et al. (2022), "Attention-based Neural Cellular Automata". Positions are relative to the cell, so that the
    rule is equal at all positions; the article adds absolute positions. Only the reference back end supports this rule.

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
        """Make the layers and return the module itself."""
        require_choice("number of spatial dimensions", dims, CONVOLUTION_LAYERS)
        convolution = CONVOLUTION_LAYERS[dims]
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
        """Map a (B, P, *spatial) perception to a (B, out_channels, *spatial) update."""
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
        """Collect the neighbours of each cell row by row: (B, C, *spatial) to (B, C, 3 ** dims, *spatial)."""
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
        """Freeze the layers; the last one only if ``freeze_last`` is set."""
        self.requires_grad_(False)
        self.last.requires_grad_(not freeze_last)


CHOICES = ("categorical", "mean")


class MixtureRule(Part):
    """K rules, of which each cell applies one, or the mean, by the probabilities of a selector.

    Parameters
    ----------
    num_rules : int
        Number of rules K, at least 1.
    rule : MLPRule or None
        Architecture of all K rules. Each has its own weights.
    selector_size : int
        Number of neurons of the hidden layer of the selector. Its last layer starts at zero, so that all rules are
        equally likely at first.
    choice : {"categorical", "mean"}
        ``"categorical"`` draws one rule for each cell and step, reproducibly from the seed; the gradient is that of the
        mean. ``"mean"`` is the mean of all updates weighted by probability.

    Raises
    ------
    ConfigError, UnknownNameError
        If ``num_rules`` is below 1, ``rule`` is not an :class:`MLPRule`, or ``choice`` is unknown.

    Notes
    -----
    Mixtures of neural cellular automata (2025). The probabilities of the rules of each cell are given by
    :meth:`probabilities` of ``model.perceive(x, t)``. Only the reference back end supports this rule.

    Examples
    --------
    >>> rule = MixtureRule(3, choice="mean").build(in_channels=48, out_channels=16, dims=2)
    >>> maps = rule.probabilities(torch.ones(1, 48, 8, 8))
    >>> maps.shape, round(maps[0, 0, 0, 0].item(), 4)
    (torch.Size([1, 3, 8, 8]), 0.3333)
    """

    def __init__(
        self, num_rules: int = 3, rule: MLPRule | None = None, *, selector_size: int = 32, choice: str = "categorical"
    ) -> None:
        super().__init__()
        for name, number in (("num_rules", num_rules), ("selector_size", selector_size)):
            require_whole(name, number, 1)
        if rule is not None and type(rule) is not MLPRule:
            raise ConfigError(f"the rules of a mixture are MLPRules, not {rule!r}")
        require_choice("choice", choice, CHOICES)
        self.num_rules, self.selector_size, self.choice = num_rules, selector_size, choice
        self._config = (MLPRule() if rule is None else rule).to_dict()

    @property
    def num_draws(self) -> int:
        """Number of random numbers per cell and step."""
        return int(self.choice == "categorical")

    def build(self, in_channels: int, out_channels: int, dims: int = 2) -> MixtureRule:
        """Make the layers and return the module itself."""
        self.rules = nn.ModuleList(
            MLPRule(**copy.deepcopy(self._config)).build(in_channels, out_channels, dims) for _ in range(self.num_rules)
        )
        self.selector = MLPRule(self.selector_size).build(in_channels, self.num_rules, dims)
        return self

    def probabilities(self, perception: Tensor) -> Tensor:
        """Map a (B, P, *spatial) perception to the (B, K, *spatial) probabilities of the rules."""
        chances: Tensor = self.selector(perception).softmax(1)
        return chances

    def forward(self, perception: Tensor, draw: Tensor | None = None) -> Tensor:
        """Map a (B, P, *spatial) perception to a (B, out_channels, *spatial) update.

        Parameters
        ----------
        perception : Tensor
            Perception of each cell.
        draw : Tensor or None
            (B, 1, *spatial) random numbers from 0 to 1 for the choice of the rules, passed by roll-outs.

        Raises
        ------
        ConfigError
            If the numbers are missing for ``choice="categorical"``.
        """
        chances = self.probabilities(perception)
        weights = chances
        if self.choice == "categorical":
            if draw is None:
                raise ConfigError("a mixture with choice='categorical' needs a draw for each cell: roll it out")
            number = (draw >= chances.detach().cumsum(1)[:, :-1]).sum(1, keepdim=True)
            taken = torch.zeros_like(chances).scatter_(1, number, 1.0)
            weights = taken + (chances - chances.detach())
        updates = torch.stack([rule(perception) for rule in self.rules], 1)
        return (weights.unsqueeze(2) * updates).sum(1)

    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layers; the last layers of the rules only if ``freeze_last`` is set."""
        self.selector.requires_grad_(False)
        for rule in self.rules:
            rule.freeze(freeze_last)  # type: ignore[operator]

    def to_dict(self) -> dict[str, Any]:
        """Return a plain description, for :meth:`from_dict`."""
        return {
            "num_rules": self.num_rules,
            "rule": dict(self._config),
            "selector_size": self.selector_size,
            "choice": self.choice,
        }

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> MixtureRule:
        """Make an unbuilt rule from the result of :meth:`to_dict`."""
        return cls(**{**config, "rule": MLPRule(**config["rule"])})
