"""Orientation of volumes: all are brought to right, anterior, superior before the network sees them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Oriented", "oriented"]


@dataclass(frozen=True)
class Oriented:
    """Image and mask with axes to the right, anterior and superior, as far as swaps and flips allow.

    Attributes
    ----------
    data : ndarray
        (C, *spatial) image.
    label : ndarray or None
        (*spatial) mask, if there is one.
    spacing : tuple of float or None
        Size of a voxel along each axis of ``data`` in mm, if the file has one.
    """

    data: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64] | None
    spacing: tuple[float, ...] | None
    _back: npt.NDArray[np.float64] | None = None

    def back(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a (..., *spatial) array with the axes of the file."""
        return array if self._back is None else _turn(array, self._back)


def oriented(sample: Mapping[str, Any], info: Mapping[str, Any]) -> Oriented:
    """Orient a sample of a :class:`~delira_nca.data_loading.readers.CaseDataset`.

    Parameters
    ----------
    sample : mapping
        ``"data"`` and, if there is a mask, ``"label"``.
    info : mapping
        Result of its ``info``. Images without an affine matrix, and those of two dimensions, keep their axes.
    """
    data = np.asarray(sample["data"])
    label = np.asarray(sample["label"])[0] if "label" in sample else None
    affine, spacing = info.get("affine"), info.get("spacing")
    if affine is None or data.ndim != 4 or not np.isfinite(affine).all():
        fits = spacing is not None and len(spacing) == data.ndim - 1
        return Oriented(data, label, tuple(map(float, spacing)) if fits and spacing is not None else None)
    orientations = importlib.import_module("nibabel.orientations")
    here = orientations.io_orientation(affine)
    canonical = np.array([[0, 1], [1, 1], [2, 1]])
    if np.isnan(here).any():
        return Oriented(data, label, tuple(map(float, spacing or (1, 1, 1))))
    there = orientations.ornt_transform(here, canonical)
    sizes: Sequence[float] = spacing or (1.0, 1.0, 1.0)
    order = np.argsort(there[:, 0])
    return Oriented(
        np.ascontiguousarray(_turn(data, there)),
        None if label is None else np.ascontiguousarray(_turn(label, there)),
        tuple(float(sizes[axis]) for axis in order),
        orientations.ornt_transform(canonical, here),
    )


def _turn(array: npt.NDArray[Any], change: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Swap and flip the last three axes."""
    apply = importlib.import_module("nibabel.orientations").apply_orientation
    last = np.moveaxis(array, (-3, -2, -1), (0, 1, 2))
    turned: npt.NDArray[Any] = np.moveaxis(apply(last, change), (0, 1, 2), (-3, -2, -1))
    return turned
