"""Reference step of an automaton in plain PyTorch, against which all back ends are tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from delira_nca.errors import ShapeError

__all__ = ["Alive", "Cell", "step", "step_beside"]


class Alive(Protocol):
    """Interface of alive masks, applied before the update, after it, or both."""

    @property
    def before(self) -> bool:
        """Whether a cell must live before the update."""
        ...

    @property
    def after(self) -> bool:
        """Whether a cell must live after the update."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Map a (B, C, *spatial) state to the (B, 1, *spatial) bool mask of living cells."""
        ...


class Cell(Protocol):
    """Interface of automata that can be rolled out."""

    fire_rate: float
    num_fixed_channels: int
    update_noise: float

    @property
    def skips_dead_space(self) -> bool:
        """Whether cells without living neighbours are zero after a step, and padding adds only zeros."""
        ...

    @property
    def radius(self) -> int:
        """Distance of the farthest cell that is perceived; used only if ``skips_dead_space``."""
        ...

    @property
    def alive(self) -> Alive | None:
        """Alive mask; None if all cells live."""
        ...

    def perceive(self, x: Tensor, t: int) -> Tensor:
        """Map the (B, C, *spatial) state at step ``t`` to the (B, P, *spatial) perception."""
        ...

    @property
    def rule(self) -> Callable[..., Tensor]:
        """Map from the (B, P, *spatial) perception to the (B, C - num_fixed_channels, *spatial) update.

        If the cell has an attribute ``num_draws`` above 0, the second argument of the rule are that many uniform random
        numbers per cell. If it has a method ``own_update``, the rule may return the update of all channels, which the
        method reduces.
        """
        ...


def step(
    cell: Cell, x: Tensor, t: int, fire: Tensor | None, noise: Tensor | None = None, draws: Tensor | None = None
) -> Tensor:
    """Update every cell once.

    Masks are applied by selection, not by multiplication, so that NaN in cells that do not fire, or die, does not
    spread.

    Parameters
    ----------
    cell : Cell
        Automaton.
    x : Tensor
        (B, C, *spatial) state.
    t : int
        Number of the step, from 0.
    fire : Tensor or None
        (B, 1, *spatial) bool mask of the cells that update, or None for all.
    noise : Tensor or None
        (B, C - fixed, *spatial) noise that is added to the update, or None.
    draws : Tensor or None
        (B, n, *spatial) random numbers from 0 to 1 for the rule, or None.

    Returns
    -------
    (B, C, *spatial) tensor
        The first ``cell.num_fixed_channels`` channels are bit-equal to those of ``x``.

    Notes
    -----
    Mordvintsev et al. (2020), "Growing Neural Cellular Automata", Distill.
    """
    return step_beside(cell, x, t, None if fire is None else ~fire, noise, draws)


def step_beside(
    cell: Cell, x: Tensor, t: int, rest: Tensor | None, noise: Tensor | None = None, draws: Tensor | None = None
) -> Tensor:
    """Apply :func:`step` with the (B, 1, *spatial) bool mask of the cells that do not update, to save an operation."""
    alive, fixed = cell.alive, cell.num_fixed_channels
    perception = cell.perceive(x, t)
    update = cell.rule(perception) if draws is None else cell.rule(perception, draws)
    if (reduce := getattr(cell, "own_update", None)) is not None:
        update = reduce(update)
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
