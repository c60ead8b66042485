"""Crop states to the living cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.errors import ShapeError

__all__ = ["crop_to_life", "life_window"]


def crop_to_life(states: Any, margin: int = 2, *, threshold: float = 0.1) -> npt.NDArray[Any]:
    """Crop states to the smallest square that contains the living cells of all of them.

    Parameters
    ----------
    states : object
        (..., C, H, W) array or tensor with C >= 4. The fourth channel is alpha.
    margin : int
        Number of cells around the living cells that are kept, within the grid.
    threshold : float
        Alpha value above which a cell lives.

    Returns
    -------
    (..., C, h, w) array, a view if ``states`` is an array
        The whole grid if no cell lives. The side of the square is the longer side of the bounding box, limited by the
        grid.

    Raises
    ------
    ShapeError
        If there are fewer than three axes or four channels.
    ConfigError
        If the margin is negative.

    Examples
    --------
    >>> states = np.zeros((2, 4, 9, 9))
    >>> states[0, 3, 4, 4] = states[1, 3, 4, 6] = 1.0
    >>> crop_to_life(states, margin=1).shape
    (2, 4, 5, 5)
    """
    if hasattr(states, "detach"):
        states = states.detach().cpu()
    cells = np.asarray(states)
    rows, columns = life_window(cells, margin, threshold=threshold)
    return cells[..., rows, columns]


def life_window(cells: npt.NDArray[Any], margin: int = 2, *, threshold: float = 0.1) -> tuple[slice, slice]:
    """Return the rows and columns to which :func:`crop_to_life` crops an array.

    Examples
    --------
    >>> cells = np.zeros((4, 9, 9))
    >>> cells[3, 4, 5] = 1.0
    >>> life_window(cells, margin=1)
    (slice(3, 6, None), slice(4, 7, None))
    """
    if cells.ndim < 3 or cells.shape[-3] < 4:
        raise ShapeError(f"a state of coloured cells has the shape (..., C >= 4, H, W), not {cells.shape}")
    require_whole("margin", margin, 0)
    living = np.any((cells[..., 3, :, :] > threshold).reshape(-1, *cells.shape[-2:]), axis=0)
    if not living.any():
        return slice(0, cells.shape[-2]), slice(0, cells.shape[-1])
    spans = [np.flatnonzero(np.any(living, axis=axis)) for axis in (1, 0)]
    side = int(max(span[-1] - span[0] + 1 for span in spans)) + 2 * margin
    rows, columns = (_centred(span, side, size) for span, size in zip(spans, living.shape, strict=True))
    return rows, columns


def _centred(span: npt.NDArray[np.intp], side: int, size: int) -> slice:
    """Return a slice of ``side`` cells centred on the span, shifted to lie within the axis."""
    side = min(side, size)
    first = (int(span[0]) + int(span[-1]) + 1 - side) // 2
    first = min(max(first, 0), size - side)
    return slice(first, first + side)
