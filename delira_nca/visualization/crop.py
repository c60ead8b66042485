"""The part of a film in which something is to be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.errors import ShapeError

__all__ = ["crop_to_life", "life_window"]


def crop_to_life(states: Any, margin: int = 2, *, threshold: float = 0.1) -> npt.NDArray[Any]:
    """Cut states to the smallest square that holds the living cells of all of them.

    Parameters
    ----------
    states : object
        (..., C, H, W) array or tensor, C >= 4, the fourth channel alpha.
    margin : int
        Cells to leave around life, as far as there are any.
    threshold : float
        A cell lives whose alpha is above it.

    Returns
    -------
    (..., C, h, w) array, a view where ``states`` is an array
        The whole where nothing lives. The square is as large as its longer side needs, and the grid allows.

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
    """Rows and columns that :func:`crop_to_life` cuts to, from the same arguments, of an array.

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
    """Slice of so many cells with the span in its middle, moved inside of the axis."""
    side = min(side, size)
    first = (int(span[0]) + int(span[-1]) + 1 - side) // 2
    first = min(max(first, 0), size - side)
    return slice(first, first + side)
