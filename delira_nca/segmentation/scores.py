"""Scores of a mask against a reference, by class: overlap, and distances of surfaces in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from delira_nca.errors import ShapeError

__all__ = ["SCORES", "case_scores", "instance_scores", "mean_dice"]

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


def instance_scores(mask: Mask, reference: Mask) -> dict[str, float]:
    """Compare the objects of a mask with numbered objects.

    Parameters
    ----------
    mask : ndarray
        Spatial array; each connected component above 0 is an object.
    reference : ndarray
        Spatial array with the number of the object of each cell, 0 for the background.

    Returns
    -------
    dict of str to float
        ``f1``, the F1 score of the objects that match with an IoU above 0.5; ``sq``, the mean IoU of the matches;
        ``pq``, the panoptic quality, their product; ``found`` and ``numbered``, the numbers of objects. The first three
        are NaN for two empty masks.

    Notes
    -----
    Kirillov et al. (2019), "Panoptic Segmentation". An IoU above 0.5 makes the match of an object unique.

    Examples
    --------
    >>> mask, reference = np.zeros((4, 9), int), np.zeros((4, 9), int)
    >>> mask[:, :2], reference[:, :2], reference[:, 6:] = 1, 1, 2
    >>> instance_scores(mask, reference)  # doctest: +NORMALIZE_WHITESPACE
    {'f1': 0.6666666666666666, 'sq': 1.0, 'pq': 0.6666666666666666, 'found': 1.0, 'numbered': 2.0}
    """
    if mask.shape != reference.shape:
        raise ShapeError(f"a mask of shape {mask.shape} cannot be compared with one of shape {reference.shape}")
    objects, found = ndimage.label(mask > 0)
    names, numbers = np.unique(reference, return_inverse=True)
    numbers = numbers.reshape(reference.shape) + (0 if names[0] == 0 else 1)
    numbered = int(numbers.max())
    counts = np.zeros((found + 1, numbered + 1), np.int64)
    np.add.at(counts, (objects.ravel(), numbers.ravel()), 1)
    union = counts.sum(1, keepdims=True) + counts.sum(0, keepdims=True) - counts
    iou = (counts / np.maximum(union, 1))[1:, 1:]
    matches = iou[iou > 0.5]
    f1 = 2 * len(matches) / (found + numbered) if found + numbered else float("nan")
    sq = float(matches.mean()) if len(matches) else 0.0 if found + numbered else float("nan")
    return {"f1": f1, "sq": sq, "pq": f1 * sq, "found": float(found), "numbered": float(numbered)}


def mean_dice(mask: Mask, reference: Mask, values: Sequence[int]) -> float:
    """Return the mean Dice score of the classes that the mask or the reference contains; 1 if there are none."""
    found = []
    for value in values:
        one, other = mask == value, reference == value
        if total := int(one.sum() + other.sum()):
            found.append(2 * int((one & other).sum()) / total)
    return float(np.mean(found)) if found else 1.0


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
