"""Resizing of images by averaging or interpolation, and of masks by the nearest value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ShapeError

__all__ = ["area_weights", "resize_image", "resize_label"]


def resize_image(image: npt.NDArray[Any], size: Sequence[int]) -> npt.NDArray[np.float32]:
    """Resize an image along each axis, by area averaging to smaller sizes and linearly to larger ones.

    Both preserve constant images and the range of the values.

    Parameters
    ----------
    image : ndarray
        (C, *spatial) array.
    size : sequence of int
        New length of each spatial axis.

    Returns
    -------
    (C, *size) float32 array

    Examples
    --------
    >>> import numpy as np
    >>> resize_image(np.array([[0.0, 2.0, 4.0, 6.0]]), [2]).tolist(), resize_image(np.array([[0.0, 4.0]]), [4]).tolist()
    ([[1.0, 5.0]], [[0.0, 1.0, 3.0, 4.0]])
    """
    _require_axes(size, image.shape[1:])
    values = image.astype(np.float64)
    for axis, new in enumerate(size, start=1):
        old = values.shape[axis]
        if new != old:
            weights = area_weights(old, new) if new < old else _ramps(old, new)
            with np.errstate(invalid="ignore"):  # infinite values become NaN, which `CaseDataset.check` reports
                values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values, dtype=np.float32)


def resize_label(label: npt.NDArray[Any], size: Sequence[int]) -> npt.NDArray[Any]:
    """Resize a mask by nearest-neighbour interpolation, which adds no new classes.

    Parameters
    ----------
    label : ndarray
        Array of the spatial axes.
    size : sequence of int
        New length of each axis.

    Returns
    -------
    array of the new shape with the same dtype

    Examples
    --------
    >>> import numpy as np
    >>> resize_label(np.array([0, 9, 9, 0]), [2]).tolist(), resize_label(np.array([0, 9]), [4]).tolist()
    ([9, 0], [0, 0, 9, 9])
    """
    _require_axes(size, label.shape)
    lengths = zip(label.shape, size, strict=True)
    places = [np.floor((np.arange(new) + 0.5) * old / new).astype(int) for old, new in lengths]
    return label[np.ix_(*places)]


def _require_axes(size: Sequence[int], spatial: tuple[int, ...]) -> None:
    if len(size) != len(spatial):
        raise ShapeError(f"cannot resize {len(spatial)} axes {spatial} to {tuple(size)}: give {len(spatial)} lengths")


def area_weights(old: int, new: int) -> npt.NDArray[np.float64]:
    """Return the fraction of each of ``old`` pixels in each of ``new`` pixels, (new, old). Rows sum to 1.

    Examples
    --------
    >>> area_weights(3, 2).round(2).tolist()
    [[0.67, 0.33, 0.0], [0.0, 0.33, 0.67]]
    """
    edges = np.arange(new + 1) * (old / new)
    overlap = np.minimum(edges[1:, None], np.arange(1, old + 1)) - np.maximum(edges[:-1, None], np.arange(old))
    overlap = np.clip(overlap, 0.0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True))


def _ramps(old: int, new: int) -> npt.NDArray[np.float64]:
    """Return the weights of linear interpolation between pixel centres, (new, old), constant beyond the last centre."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.asarray(np.maximum(0.0, 1 - np.abs(centres[:, None] - np.arange(old))))
