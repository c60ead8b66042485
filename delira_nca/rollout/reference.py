"""One step of an automaton in plain PyTorch: the definition that every fast path is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from delira_nca.errors import ShapeError

__all__ = ["Alive", "Cell", "step", "step_beside"]


class Alive(Protocol):
    """Which cells live: a rule on the state, asked before the update, after it, or both."""

    @property
    def before(self) -> bool:
        """Whether a cell must live before the update."""
        ...

    @property
    def after(self) -> bool:
        """Whether a cell must live after the update."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) state to (B, 1, *spatial) bool."""
        ...


class Cell(Protocol):
    """What a roll-out needs to know of an automaton."""

    fire_rate: float
    num_fixed_channels: int
    update_noise: float

    @property
    def skips_dead_space(self) -> bool:
        """Whether a cell without life in its neighbourhood is zero after a step, and padding adds nothing but zeros."""
        ...

    @property
    def radius(self) -> int:
        """Farthest cell that one look can reach; asked for only where ``skips_dead_space``."""
        ...

    @property
    def alive(self) -> Alive | None:
        """Which cells live; None where all do."""
        ...

    def perceive(self, x: Tensor, t: int) -> Tensor:
        """(B, C, *spatial) state at step ``t`` to (B, P, *spatial) perception."""
        ...

    @property
    def rule(self) -> Callable[..., Tensor]:
        """(B, P, *spatial) perception to the (B, C - num_fixed_channels, *spatial) update.

        Where the cell has an attribute ``num_draws`` above 0, the rule is handed so many uniform numbers per cell, too.
        """
        ...


def step(
    cell: Cell,
    x: Tensor,
    t: int,
    fire: Tensor | None,
    noise: Tensor | None = None,
    draws: Tensor | None = None,
) -> Tensor:
    """Update every cell once.

    Selection instead of products with 0 and 1: a NaN in a cell that does not fire, or dies, goes nowhere.

    Parameters
    ----------
    cell : Cell
        The automaton.
    x : Tensor
        (B, C, *spatial) state.
    t : int
        Number of the step, from 0.
    fire : Tensor or None
        (B, 1, *spatial) bool mask of the cells that update, or None for all.
    noise : Tensor or None
        (B, C - fixed, *spatial) that joins the update, or None.
    draws : Tensor or None
        (B, n, *spatial) numbers from 0 to 1 for a rule in which cells choose, or None.

    Returns
    -------
    (B, C, *spatial) tensor
        The first ``cell.num_fixed_channels`` channels are those of ``x``, bit for bit.

    Notes
    -----
    Mordvintsev et al. (2020), "Growing Neural Cellular Automata", Distill.
    """
    return step_beside(cell, x, t, None if fire is None else ~fire, noise, draws)


def step_beside(
    cell: Cell, x: Tensor, t: int, rest: Tensor | None, noise: Tensor | None = None, draws: Tensor | None = None
) -> Tensor:
    """:func:`step` with the (B, 1, *spatial) bool mask of the cells that do not update, which saves an operation."""
    alive, fixed = cell.alive, cell.num_fixed_channels
    perception = cell.perceive(x, t)
    update = cell.rule(perception) if draws is None else cell.rule(perception, draws)
    if noise is not None:
        update = update + noise
    free = x[:, fixed:] if fixed else x
    if not isinstance(update, Tensor) or update.shape != free.shape:
        shown = tuple(update.shape) if isinstance(update, Tensor) else f"a {type(update).__name__}"
        raise ShapeError(
            f"rule {type(cell.rule).__name__} maps a perception of {tuple(perception.shape)} to {shown}; an update of "
            f"{tuple(free.shape)} was expected"
        )
    new = free + (update if rest is None else update.masked_fill(rest, 0.0))
    if alive is not None:
        living = alive(x) if alive.before else None
        if alive.after:
            after = alive(torch.cat([x[:, :fixed], new], 1) if fixed else new)
            living = after if living is None else living & after
        if living is not None:
            spared = getattr(alive, "num_spared", 0)
            mortal = (new[:, :-spared] if spared else new).masked_fill(~living, 0.0)
            new = torch.cat([mortal, new[:, -spared:]], 1) if spared else mortal
    return torch.cat([x[:, :fixed], new], 1) if fixed else new
