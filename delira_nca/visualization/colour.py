"""What colour a cell has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError

__all__ = ["to_rgb"]

DIVERGED = (255, 0, 255)


def to_rgb(state: Any, background: float | Sequence[float] = 1.0) -> npt.NDArray[np.uint8]:
    """Colours of cells on a plain background: ``rgb + (1 - alpha) * background``.

    Parameters
    ----------
    state : (..., C, H, W) array or tensor, C >= 4
        The first three channels are red, green and blue from 0 to 1, premultiplied by the fourth, alpha. Alpha is
        clipped to [0, 1], so is the result. Further channels are not looked at.
    background : one grey level or three colour levels, each in [0, 1]; 1.0 is white.

    Returns
    -------
    (..., H, W, 3) uint8 array
        A cell that holds NaN in one of its four channels is magenta, so that a diverged cell is seen.

    Raises
    ------
    ShapeError
        If there are fewer than three axes or four channels.
    ConfigError
        If the background is not one or three numbers in [0, 1].

    Examples
    --------
    One half transparent red cell (premultiplied) and one empty cell, on white:

    >>> state = np.zeros((4, 1, 2))
    >>> state[[0, 3], 0, 0] = 0.5
    >>> to_rgb(state).tolist()
    [[[255, 128, 128], [255, 255, 255]]]
    """
    if hasattr(state, "detach"):
        state = state.detach().cpu().float()
    cells = np.asarray(state)
    if cells.ndim < 3 or cells.shape[-3] < 4:
        raise ShapeError(f"a state of coloured cells has the shape (..., C >= 4, H, W), not {cells.shape}")
    cells = np.moveaxis(cells[..., :4, :, :].astype(np.float32), -3, -1)
    alpha = np.clip(cells[..., 3:], 0.0, 1.0)
    colours = np.clip(cells[..., :3] + (1.0 - alpha) * _levels(background), 0.0, 1.0)
    diverged = np.isnan(cells).any(axis=-1)
    pixels = np.rint(np.where(diverged[..., None], 0.0, colours) * 255.0).astype(np.uint8)
    pixels[diverged] = DIVERGED
    return pixels


def _levels(background: float | Sequence[float]) -> npt.NDArray[np.float32]:
    try:
        levels = np.asarray(background, dtype=np.float32)
    except (TypeError, ValueError):
        levels = np.empty(0, np.float32)
    if levels.shape not in ((), (1,), (3,)) or not ((levels >= 0) & (levels <= 1)).all():
        raise ConfigError(f"a background is one number or three numbers in [0, 1], not {background!r}")
    return levels
