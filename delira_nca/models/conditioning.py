"""Conditioning of a model on a goal for each sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models.part import Part

__all__ = ["GoalEmbedding"]


class GoalEmbedding(Part):
    """Learned vector for each of several goals, which are numbered from 0.

    Parameters
    ----------
    num_goals : int
        Number of goals.
    num_channels : int or None
        Length of the vectors: the number of hidden channels, the last ones, to which they are added; all by default.

    Raises
    ------
    ConfigError
        If a number is below 1, or ``num_channels`` is larger than the number of hidden channels.

    Notes
    -----
    Sudhakaran et al. (2022), "Goal-Guided Neural Cellular Automata".

    Examples
    --------
    >>> embedding = GoalEmbedding(num_goals=3).build(num_hidden_channels=16)
    >>> embedding(torch.tensor([0, 2])).shape
    torch.Size([2, 16])
    """

    def __init__(self, num_goals: int, num_channels: int | None = None) -> None:
        super().__init__()
        for name, number in (("num_goals", num_goals), ("num_channels", 1 if num_channels is None else num_channels)):
            require_whole(name, number, 1)
        self.num_goals, self.num_channels = num_goals, num_channels

    def build(self, num_hidden_channels: int) -> GoalEmbedding:
        """Make the table of vectors and return the module itself."""
        length = num_hidden_channels if self.num_channels is None else self.num_channels
        if not 1 <= length <= num_hidden_channels:
            raise ConfigError(
                f"goals are added to hidden channels: {length} do not fit into the {num_hidden_channels} there are"
            )
        self.table = nn.Embedding(self.num_goals, length)
        return self

    def forward(self, goals: Tensor) -> Tensor:
        """Map (B,) numbers of goals to (B, num_channels) vectors.

        Raises
        ------
        ShapeError, ConfigError
            If the goals are not integers, or one is not in the range.
        """
        if goals.dim() != 1 or goals.is_floating_point() or goals.dtype == torch.bool:
            raise ShapeError(f"goals are (B,) whole numbers, not {goals.dtype} of {tuple(goals.shape)}")
        if not goals.is_meta and len(goals) and not 0 <= int(goals.min()) <= int(goals.max()) < self.num_goals:
            outside = sorted({int(g) for g in goals if not 0 <= int(g) < self.num_goals})
            raise ConfigError(f"goals {outside} are none of the {self.num_goals} goals, 0 to {self.num_goals - 1}")
        vectors: Tensor = self.table(goals.long())
        return vectors
