"""What a model is told beside its state: the goal of each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models.part import Part
from delira_nca.rollout.plain import NotPlainError, PlainCell

if TYPE_CHECKING:
    from delira_nca.models.basic_nca import BasicNCAModel

__all__ = ["GoalEmbedding", "ToldCell"]


class GoalEmbedding(Part):
    """A learned vector for each of several goals, which are whole numbers.

    Parameters
    ----------
    num_goals : how many there are.
    num_channels : length of a vector, which is added to so many of the last hidden channels; all of them by default.

    Raises
    ------
    ConfigError
        For numbers below 1, or more channels than are hidden.

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
        """Make the table, and return the module itself."""
        length = num_hidden_channels if self.num_channels is None else self.num_channels
        if not 1 <= length <= num_hidden_channels:
            raise ConfigError(
                f"a goal is told through hidden channels: {length} do not fit into the {num_hidden_channels} there are"
            )
        self.table = nn.Embedding(self.num_goals, length)
        return self

    def forward(self, goals: Tensor) -> Tensor:
        """(B,) numbers of goals to (B, num_channels).

        Raises
        ------
        ShapeError, ConfigError
            If they are no whole numbers, or one of them is none of the goals.
        """
        if goals.dim() != 1 or goals.is_floating_point() or goals.dtype == torch.bool:
            raise ShapeError(f"goals are (B,) whole numbers, not {goals.dtype} of {tuple(goals.shape)}")
        if not goals.is_meta and len(goals) and not 0 <= int(goals.min()) <= int(goals.max()) < self.num_goals:
            outside = sorted({int(g) for g in goals if not 0 <= int(g) < self.num_goals})
            raise ConfigError(f"goals {outside} are none of the {self.num_goals} goals, 0 to {self.num_goals - 1}")
        vectors: Tensor = self.table(goals.long())
        return vectors

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for the constructor."""
        return {"num_goals": self.num_goals, "num_channels": self.num_channels}


class ToldCell(nn.Module):
    """A model whose samples know their goals: the cell of one roll-out.

    What is told is added to the last hidden channels of living cells before they perceive; the state keeps nothing of
    it, and dead cells are told nothing.

    Parameters
    ----------
    model : with a conditioning.
    goal : for each sample, what the conditioning takes: (B,) numbers of goals; one number stands for all samples.
    batch_size : number of samples.

    Raises
    ------
    ConfigError, ShapeError
        If there is no goal, none for each sample, or the conditioning refuses it.
    """

    def __init__(self, model: BasicNCAModel, goal: Tensor | int | None, batch_size: int) -> None:
        super().__init__()
        if goal is None:
            raise ConfigError(f"{_name(model)} is told a goal: give goal=, or batch['goal'], with one for each sample")
        if isinstance(goal, int):
            goal = torch.full((batch_size,), goal)
        if goal.dim() == 0 or len(goal) != batch_size:
            raise ShapeError(f"goals of {batch_size} samples are {batch_size}, not of shape {tuple(goal.shape)}")
        vectors: Tensor = model.conditioning(goal.to(model.device))  # type: ignore[misc]  # asked for only if there
        if vectors.dim() != 2 or len(vectors) != batch_size or vectors.shape[1] > model.num_hidden_channels:
            raise ShapeError(
                f"a conditioning gives {batch_size} vectors for at most {model.num_hidden_channels} hidden channels, "
                f"not {tuple(vectors.shape)}"
            )
        self.model, self.vectors = model, vectors
        self.fire_rate, self.update_noise = model.fire_rate, model.update_noise
        self.num_fixed_channels, self.num_draws = model.num_fixed_channels, model.num_draws
        self.alive, self.rule, self.input_mask = model.alive, model.rule, model.input_mask

    @property
    def skips_dead_space(self) -> bool:
        """Whether a roll-out may leave out the space around all life: as the model."""
        return self.model.skips_dead_space

    @property
    def radius(self) -> int:
        """Farthest cell that one step can see."""
        return self.model.radius

    def told(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) state with the goals in the hidden channels of living cells."""
        last = self.model.num_image_channels + self.model.num_hidden_channels
        first = last - self.vectors.shape[1]
        vectors = self.vectors.to(x.dtype).view(*self.vectors.shape, *(1,) * (x.dim() - 2))
        added = torch.where(self.model._alive(x), vectors, 0.0)
        return torch.cat([x[:, :first], x[:, first:last] + added, x[:, last:]], 1)

    def perceive(self, x: Tensor, t: int) -> Tensor:
        """(B, C, *spatial) state at step ``t`` to what its cells see, who know their goals."""
        return self.model.perceive(self.told(x), t)

    def plain(self) -> PlainCell:
        """Never: the fast back ends know nothing of goals."""
        raise NotPlainError("its cells are told a goal")


def _name(model: nn.Module) -> str:
    return f"this {type(model).__name__}"
