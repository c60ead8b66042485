"""Several rules, and a choice among them that every cell makes for itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, require_choice
from delira_nca.models.part import Part
from delira_nca.models.rule import MLPRule

__all__ = ["CHOICES", "MixtureRule"]

CHOICES = ("categorical", "mean")


class MixtureRule(Part):
    """K rules, of which each cell takes one, or the mean, by the probabilities of a selector.

    Parameters
    ----------
    num_rules : K, at least 1.
    rule : what all K look like; each has weights of its own.
    selector_size : neurons of the hidden layer of the selector, whose last layer starts at zero: all rules are equally
        likely at first.
    choice : ``"categorical"`` draws one rule for each cell and step, by the same numbers in every repetition; the
        gradient is that of the mean. ``"mean"`` takes the mean of all updates by probability.

    Raises
    ------
    ConfigError, UnknownNameError
        For fewer than 1 rule, another rule than an :class:`MLPRule`, or an unknown choice.

    Notes
    -----
    Mixtures of neural cellular automata (2025). Which rule a cell would take can be read:
    :meth:`probabilities` of ``model.perceive(x, t)``. Only the reference back end runs it.

    Examples
    --------
    >>> rule = MixtureRule(3, choice="mean").build(in_channels=48, out_channels=16, dims=2)
    >>> maps = rule.probabilities(torch.ones(1, 48, 8, 8))
    >>> maps.shape, round(maps[0, 0, 0, 0].item(), 4)
    (torch.Size([1, 3, 8, 8]), 0.3333)
    """

    def __init__(
        self,
        num_rules: int = 3,
        rule: MLPRule | None = None,
        *,
        selector_size: int = 32,
        choice: str = "categorical",
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
        """Random numbers that each cell needs in a step."""
        return int(self.choice == "categorical")

    def build(self, in_channels: int, out_channels: int, dims: int = 2) -> MixtureRule:
        """Make the layers, and return the module itself."""
        self.rules = nn.ModuleList(
            MLPRule(**copy.deepcopy(self._config)).build(in_channels, out_channels, dims) for _ in range(self.num_rules)
        )
        self.selector = MLPRule(self.selector_size).build(in_channels, self.num_rules, dims)
        return self

    def probabilities(self, perception: Tensor) -> Tensor:
        """(B, P, *spatial) perception to (B, K, *spatial): how likely each cell takes each rule."""
        chances: Tensor = self.selector(perception).softmax(1)
        return chances

    def forward(self, perception: Tensor, draw: Tensor | None = None) -> Tensor:
        """(B, P, *spatial) perception to (B, out_channels, *spatial) update.

        Parameters
        ----------
        perception : what each cell sees.
        draw : (B, 1, *spatial) numbers from 0 to 1 by which the cells choose; a roll-out gives them.

        Raises
        ------
        ConfigError
            If cells are to choose and there are no numbers.
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
        """Take the layers out of training, but for the last ones of the rules unless it is asked for."""
        self.selector.requires_grad_(False)
        for rule in self.rules:
            rule.freeze(freeze_last)  # type: ignore[operator]

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for :meth:`from_dict`."""
        return {
            "num_rules": self.num_rules,
            "rule": dict(self._config),
            "selector_size": self.selector_size,
            "choice": self.choice,
        }

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> MixtureRule:
        """Rule from what :meth:`to_dict` gave, to be built by its model."""
        return cls(**{**config, "rule": MLPRule(**config["rule"])})
