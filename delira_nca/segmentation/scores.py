"""Scores of a mask against a reference, by class: overlap, and distances of surfaces in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from delira_nca.errors import ShapeError

__all__ = ["SCORES", "case_scores"]

SCORES = ("dice", "iou", "hd95", "assd", "surface_dice")
Mask = npt.NDArray[Any]


def case_scores(
    mask: Mask,
    reference: Mask,
    *,
    values: Sequence[int],
    spacing: Sequence[float] | None = None,
    tolerance: float | None = None,
) -> dict[int, dict[str, float]]:
    """Compare a mask with its reference.

    Parameters
    ----------
    mask, reference : ndarray
        Spatial arrays of classes.
    values : sequence of int
        Classes to compare.
    spacing : sequence of float, optional
        Size of a voxel along each axis; 1 by default.
    tolerance : float, optional
        Distance up to which a surface counts as found; the largest size of a voxel by default.

    Returns
    -------
    dict of int to dict
        For each class: ``dice`` and ``iou``; ``hd95``, the 95 % quantile of the distances of both surfaces to the other
        (the larger of the two), ``assd``, the mean of all of them, and ``surface_dice``, the fraction within the
        tolerance. All are NaN for a class that is in neither; if it is in one only, distances are infinite.

    Raises
    ------
    ShapeError
        If the shapes differ.

    Notes
    -----
    Surfaces consist of the voxels with a face on the border, as in MedPy and MONAI. Distances are those of
    ``scipy.ndimage.distance_transform_edt``. Nikolov et al. (2018) define the surface Dice score.

    Examples
    --------
    >>> one, other = np.zeros((8, 8), int), np.zeros((8, 8), int)
    >>> one[2:6, 2:6], other[2:6, 3:7] = 1, 1
    >>> {name: round(value, 3) for name, value in case_scores(one, other, values=[1])[1].items()}
    {'dice': 0.75, 'iou': 0.6, 'hd95': 1.0, 'assd': 0.5, 'surface_dice': 1.0}
    """
    if mask.shape != reference.shape:
        raise ShapeError(f"a mask of shape {mask.shape} cannot be compared with one of shape {reference.shape}")
    spacing = [1.0] * mask.ndim if spacing is None else [float(size) for size in spacing]
    within = max(spacing) if tolerance is None else tolerance
    return {int(value): _scores(mask == value, reference == value, spacing, within) for value in values}


def _scores(found: Mask, wanted: Mask, spacing: Sequence[float], tolerance: float) -> dict[str, float]:
    common, sizes = int((found & wanted).sum()), (int(found.sum()), int(wanted.sum()))
    if not any(sizes):
        return dict.fromkeys(SCORES, float("nan"))
    overlap = {"dice": 2 * common / sum(sizes), "iou": common / (sum(sizes) - common)}
    if not all(sizes):
        return {**overlap, "hd95": np.inf, "assd": np.inf, "surface_dice": 0.0}
    there, back = _distances(found, wanted, spacing)
    both = np.concatenate([there, back])
    return {
        **overlap,
        "hd95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "assd": float(both.mean()),
        "surface_dice": float((both <= tolerance).mean()),
    }


def _distances(one: Mask, other: Mask, spacing: Sequence[float]) -> tuple[Any, Any]:
    """Return the distances of the surface of each mask to that of the other."""
    region = _around(one | other)
    one, other = np.pad(one[region], 1), np.pad(other[region], 1)
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    far = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return far[1][surfaces[0]], far[0][surfaces[1]]


def _around(mask: Mask) -> tuple[slice, ...]:
    """Return the region that contains all cells of a mask, which makes the distances quick to compute."""
    found: list[tuple[slice, ...]] = ndimage.find_objects(mask.astype(np.uint8))
    return found[0]
