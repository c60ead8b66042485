"""Masks of damage, for tests of regeneration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from delira_nca.errors import ShapeError
from delira_nca.seeding import generator

__all__ = ["ball", "standard_holes"]

_SIDES = (("left", "right"), ("top", "bottom"), ("front", "back"))
"""Names of the halves along the last axis, the one before it, and the one before that."""

_CENTRE = 0.3
"""Radius of the central hole, for a grid from -1 to 1."""


def standard_holes(shape: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
    """Return the standard set of holes for tests of regeneration.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape, of one to three axes.
    seed : int
        Seed of the three random discs.

    Returns
    -------
    dict of str to bool tensor of the shape
        True for destroyed cells: the halves along every axis (without the middle of an odd axis), a central disc, and
        three discs with centre U(-0.5, 0.5) and radius U(0.1, 0.4), for a grid from -1 to 1.

    Raises
    ------
    ShapeError
        If the number of axes is not 1, 2 or 3.

    Examples
    --------
    >>> {name: int(hole.sum()) for name, hole in standard_holes((16, 16)).items()}["left"]
    128
    """
    if not 1 <= len(shape) <= len(_SIDES):
        raise ShapeError(f"a grid has one to three axes, not {len(shape)}: {tuple(shape)}")
    holes = {}
    for axis, names in zip(range(len(shape) - 1, -1, -1), _SIDES, strict=False):
        for name, first in zip(names, (0, shape[axis] - shape[axis] // 2), strict=True):
            hole = torch.zeros(shape, dtype=torch.bool)
            hole.narrow(axis, first, shape[axis] // 2).fill_(True)
            holes[name] = hole
    holes["centre"] = ball(shape, np.zeros(len(shape)), _CENTRE)
    for number in range(1, 4):
        rng = generator(seed, "hole", number)
        holes[f"disc {number}"] = ball(shape, rng.uniform(-0.5, 0.5, len(shape)), float(rng.uniform(0.1, 0.4)))
    return holes


def ball(shape: Sequence[int], centre: Iterable[float], radius: float) -> Tensor:
    """Return the cells of a grid within a radius of a centre: a disc in 2D.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the grid, which extends from -1 to 1 along each axis.
    centre : iterable of float
        Coordinate along each axis.
    radius : float
        Radius in the same units.

    Returns
    -------
    bool tensor of the shape

    Examples
    --------
    >>> ball((3, 3), (0.0, 0.0), 1.1).int().tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape], indexing="ij")
    squares = torch.stack([(axis - float(c)).square() for axis, c in zip(axes, centre, strict=True)])
    return squares.sum(0) < radius**2
