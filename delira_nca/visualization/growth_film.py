"""One film of a pattern that grows, is cut in half, and heals."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.visualization.colour import to_rgb
from delira_nca.visualization.crop import life_window
from delira_nca.visualization.film import Cut, save_film

__all__ = ["save_growth_film"]


def save_growth_film(
    growth: Any,
    healing: Any | None,
    path: str | os.PathLike[str],
    *,
    every: int = 2,
    fps: float = 15,
    min_size: int = 512,
    margin: int = 2,
    hold: float = 2.0,
) -> None:
    """Write a film of growth from the seed, a pause, the cut, and healing, with the last frame held.

    Parameters
    ----------
    growth : (T, C >= 4, H, W) array or tensor
        States from the seed on, one for each step.
    healing : (S, C >= 4, H, W) array or tensor, optional
        States after the cut, the first as it was cut: its right half, from column ``W // 2`` on, is empty. Without
        them, the film ends with the growth.
    path : path
        As for :func:`save_film`.
    every : int
        Number of steps from one frame to the next. The last state of each part is always shown.
    fps, min_size, hold
        As for :func:`save_film`.
    margin : int
        Cells to leave around the pattern.

    Raises
    ------
    ShapeError, ConfigError, UnknownNameError
        For states of other shapes, numbers out of range, and an unknown suffix.

    Examples
    --------
    >>> states = np.zeros((5, 4, 6, 6))
    >>> states[1:, :, 2:4, 2:4] = 1.0
    >>> cut = states.copy()
    >>> cut[0, ..., 3:] = 0.0
    >>> path = getfixture("tmp_path") / "film.gif"
    >>> save_growth_film(states, cut, path)
    >>> path.stat().st_size < 10_000
    True
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ConfigError(f"every must be an integer of at least 1, got {every!r}")
    grown = _frames(growth, every)
    healed = grown[:0] if healing is None else _frames(healing, every)
    if grown.shape[1:] != healed.shape[1:]:
        raise ShapeError(f"growth and healing must have one shape, got {grown.shape[1:]} and {healed.shape[1:]}")
    film = np.concatenate([grown, healed])
    rows, columns = life_window(film, margin)
    cuts = [] if healing is None else [Cut(len(grown), film.shape[-1] // 2 - columns.start)]
    save_film(to_rgb(film[..., rows, columns]), path, fps=fps, min_size=min_size, hold=hold, cuts=cuts)


def _frames(states: Any, every: int) -> npt.NDArray[np.float32]:
    """Every n-th state and the last, of which the picture's channels."""
    if hasattr(states, "detach"):
        states = states.detach().cpu().float()
    states = np.asarray(states, np.float32)
    if states.ndim != 4 or states.shape[1] < 4 or not len(states):
        raise ShapeError(f"states must be at least one of (T, C >= 4, H, W), got {states.shape}")
    return states[sorted({*range(0, len(states), every), len(states) - 1}), :4]
