"""One film of a pattern that grows, is cut in half, and heals."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.errors import ShapeError
from delira_nca.io.paths import absolute
from delira_nca.visualization.colour import to_rgb
from delira_nca.visualization.crop import life_window
from delira_nca.visualization.film import Cut, save_film

__all__ = ["save_growth_film"]

_LOGGER = logging.getLogger("delira_nca")
_SETTINGS = ((4, 128, 1), (8, 64, 1), (12, 48, 1), (12, 48, 2), (16, 32, 3))
"""Tolerance, number of colours, and by how much fewer frames are shown: what is seen least goes first."""


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
    max_bytes: int = 400_000,
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
    max_bytes : int
        Largest size of the file. As far as it takes, slight changes of colour are left out, colours are fewer, and
        then frames are. A film that is still larger is written, and a warning logged.

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
    require_whole("every", every, 1)
    grown = _pictures(growth)
    healed = grown[:0] if healing is None else _pictures(healing)
    if grown.shape[1:] != healed.shape[1:]:
        raise ShapeError(f"growth and healing must have one shape, got {grown.shape[1:]} and {healed.shape[1:]}")
    rows, columns = life_window(np.concatenate([grown, healed]), margin)
    for tolerance, num_colours, thinner in _SETTINGS:
        parts = [_every(part, every * thinner) for part in (grown, healed) if len(part)]
        cuts = [Cut(len(parts[0]), grown.shape[-1] // 2 - columns.start)] if len(healed) else []
        film = to_rgb(np.concatenate(parts)[..., rows, columns])
        save_film(
            film,
            path,
            fps=fps / thinner,
            min_size=min_size,
            hold=hold,
            cuts=cuts,
            tolerance=tolerance,
            num_colours=num_colours,
        )
        if (size := absolute(path).stat().st_size) <= max_bytes:
            return
    _LOGGER.warning("the film %s has %d bytes, more than %d", path, size, max_bytes)


def _every(states: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
    """Every n-th state and the last."""
    return states[sorted({*range(0, len(states), step), len(states) - 1})]


def _pictures(states: Any) -> npt.NDArray[np.float32]:
    """Channels of states that the picture consists of."""
    if hasattr(states, "detach"):
        states = states.detach().cpu().float()
    states = np.asarray(states, np.float32)
    if states.ndim != 4 or states.shape[1] < 4 or not len(states):
        raise ShapeError(f"states must be at least one of (T, C >= 4, H, W), got {states.shape}")
    pictures: npt.NDArray[np.float32] = states[:, :4]
    return pictures
