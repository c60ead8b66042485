"""Geometry of volumes: reorientation of the files of a case, and checks of their positions."""

from __future__ import annotations

import importlib
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.readers.files import describe_file
from delira_nca.errors import ConfigError

__all__ = ["fit"]

_STEP, _PLACE = 1e-3, 0.1
"""Tolerances in voxels of one step along an axis, and of the corners of the volume."""

Array = npt.NDArray[Any]


def fit(volume: Array, path: Path, onto: Path) -> Array:
    """Reorient a volume such that its voxels match those of another file.

    Axes are swapped and flipped without interpolation. The order of axes is that of the other file.

    Parameters
    ----------
    volume : (X, Y, Z, ...) array
        Values in the file ``path``, in the order of its axes.
    path, onto : Path
        File of the volume, and reference file. If one is not a NIfTI file, the volume is returned unchanged.

    Returns
    -------
    array

    Raises
    ------
    ConfigError
        If the affine matrices differ otherwise: a step along an axis by more than a thousandth of a voxel, or a corner
        of the volume by more than a tenth of one. The message describes both geometries.
    """
    affine, wanted = (describe_file(file).get("affine") for file in (path, onto))
    if affine is None or wanted is None:
        return volume
    turned, placed = _turn(volume, affine, wanted)
    voxel = float(np.linalg.norm(wanted[:3, :3], axis=0).min())
    step = float(np.abs(placed[:3, :3] - wanted[:3, :3]).max())
    apart = float(np.linalg.norm(_corners(placed, turned.shape) - _corners(wanted, turned.shape), axis=1).max())
    if not (step <= _STEP * voxel and apart <= _PLACE * voxel):  # also true if an affine is not finite
        raise ConfigError(
            f"{os.fspath(path)!r} does not lie over {os.fspath(onto)!r}: {_described(affine)}, but "
            f"{_described(wanted)}. Resample it to the same grid; if the headers are wrong, set check_geometry=False"
        )
    return turned


def _turn(volume: Array, affine: Array, wanted: Array) -> tuple[Array, Array]:
    """Reorient volume and affine by swaps and flips to the directions of another affine, as closely as possible."""
    orientations = _orientations()
    both = [orientations.io_orientation(matrix) for matrix in (affine, wanted) if np.isfinite(matrix).all()]
    if volume.ndim < 3 or len(both) < 2 or np.isnan(both).any() or np.array_equal(*both):
        return volume, affine
    change = orientations.ornt_transform(*both)
    return (
        orientations.apply_orientation(volume, change),
        affine @ orientations.inv_ornt_aff(change, volume.shape[:3]),
    )


def _corners(affine: Array, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the positions of the corner voxels, (8, 3), in mm."""
    ends = [(0, length - 1) for length in (*shape, 1, 1)[:3]]
    return np.asarray(np.array(list(itertools.product(*ends))) @ affine[:3, :3].T + affine[:3, 3], dtype=np.float64)


def _described(affine: Array) -> str:
    axes = (
        "".join(str(code) for code in _orientations().aff2axcodes(affine)) if np.isfinite(affine).all() else "nowhere"
    )
    spacing = " x ".join(f"{length:.6g}" for length in np.linalg.norm(affine[:3, :3], axis=0))
    origin = ", ".join(f"{value:.6g}" for value in affine[:3, 3])
    return f"axes to {axes}, spacing {spacing} mm, origin ({origin})"


def _orientations() -> Any:
    return importlib.import_module("nibabel.orientations")
