"""Holes for automata to grow shut: shapes of damage, on grids of any dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from delira_nca.errors import require_choice
from delira_nca.evaluation.holes import ball

__all__ = ["DAMAGES", "Damage", "apply_damage", "disc", "half", "mixed", "rectangle"]

Damage = Callable[[np.random.Generator, Sequence[int]], Tensor]
"""Makes a bool tensor of a spatial shape, True where cells are destroyed."""


def disc(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Disc (a ball in 3D) with its centre in the middle half of the grid and a radius of 0.1 to 0.4 of half its width.

    Notes
    -----
    Mordvintsev et al. (2020): centre U(-0.5, 0.5), radius U(0.1, 0.4), the grid reaching from -1 to 1.

    Examples
    --------
    >>> hole = disc(np.random.default_rng(0), (32, 32))
    >>> hole.dtype, 0 < int(hole.sum()) < 32 * 32
    (torch.bool, True)
    """
    centre, radius = rng.uniform(-0.5, 0.5, len(shape)), rng.uniform(0.1, 0.4)
    return ball(shape, centre, radius)


def half(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """One half of the grid, before or behind the middle of a random axis."""
    axis, sign = int(rng.integers(len(shape))), float(rng.choice([-1.0, 1.0]))
    view = [-1 if other == axis else 1 for other in range(len(shape))]
    return (torch.linspace(-1, 1, shape[axis]).view(view) * sign > 0).expand(*shape).clone()


def rectangle(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Box of an eighth to a half of the grid along each axis, anywhere inside."""
    hole = torch.zeros(*shape, dtype=torch.bool)
    sides = [int(rng.integers(max(size // 8, 1), max(size // 2, 1) + 1)) for size in shape]
    corner = [int(rng.integers(0, size - side + 1)) for size, side in zip(shape, sides, strict=True)]
    hole[tuple(slice(c, c + side) for c, side in zip(corner, sides, strict=True))] = True
    return hole


def mixed(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Disc, half or rectangle, each as often as the others."""
    return (disc, half, rectangle)[int(rng.integers(3))](rng, shape)


DAMAGES: dict[str, Damage] = {"disc": disc, "half": half, "rectangle": rectangle, "mixed": mixed}


def apply_damage(state: Tensor, damage: Damage | str, rng: np.random.Generator) -> Tensor:
    """Copy of one state with a hole: every channel is 0 inside, and untouched outside.

    Parameters
    ----------
    state : (C, *spatial) tensor.
    damage : shape of the hole, or the name of one: disc, half, rectangle, mixed.
    rng : to draw it from.

    Raises
    ------
    UnknownNameError
        For an unknown name.
    """
    if isinstance(damage, str):
        require_choice("damage", damage, DAMAGES)
        damage = DAMAGES[damage]
    hole = damage(rng, state.shape[1:]).to(state.device)
    return torch.where(hole, 0.0, state)
