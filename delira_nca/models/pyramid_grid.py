"""Grids of several resolutions: downscaled images, upscaled states and nested patches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_wholes
from delira_nca.errors import ConfigError, ShapeError, require_choice

__all__ = [
    "DOWNSCALES",
    "Patch",
    "cropped",
    "draw_patches",
    "enlarge",
    "interpret_scales",
    "pad_to",
    "resize_labels",
    "shrink",
]

DOWNSCALES = ("area", "bilinear", "bilinear_corners", "max", "nearest")
"""Methods of :func:`shrink`."""

Shape = tuple[int, ...]
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_LARGEST = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def interpret_scales(scales: Sequence[int | Sequence[int]], dims: int) -> tuple[Shape, ...]:
    """Return the scale of every level along every axis, from the coarsest level to the finest.

    Parameters
    ----------
    scales : sequence of int, or of sequences of int
        Downscaling factor of each level, as one number or one per axis.
    dims : int
        Number of spatial axes.

    Raises
    ------
    ConfigError
        If they do not descend to 1, or one is not a multiple of the next.

    Examples
    --------
    >>> interpret_scales([4, 2, (1, 1)], 2)
    ((4, 4), (2, 2), (1, 1))
    >>> interpret_scales([4, 2], 2)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: scales descend to 1, the image itself: [4, 2] end at 2
    """
    levels = [require_wholes("a scale", scale, 1, count=dims, repeat=dims) for scale in scales]
    if not levels:
        raise ConfigError("a pyramid has at least one scale")
    if set(levels[-1]) != {1}:
        raise ConfigError(f"scales descend to 1, the image itself: {list(scales)} end at {scales[-1]}")
    for coarse, fine in itertools.pairwise(levels):
        if coarse == fine or any(a % b for a, b in zip(coarse, fine, strict=True)):
            raise ConfigError(
                f"scales descend, and each is a multiple of the next: {list(scales)} go from {coarse} to {fine}"
            )
    return tuple(levels)


def pad_to(image: Tensor, scale: Shape) -> Tensor:
    """Repeat the last cells of (B, C, *spatial) until every axis is a multiple of the scale."""
    missing = [-size % by for size, by in zip(image.shape[2:], scale, strict=True)]
    if not any(missing):
        return image
    return F.pad(image, [n for pad in reversed(missing) for n in (0, pad)], mode="replicate")


def cropped(state: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop (B, C, *spatial) to the first cells along each axis, which reverts :func:`pad_to`.

    Examples
    --------
    >>> cropped(torch.zeros(1, 2, 8, 6), (7, 9)).shape
    torch.Size([1, 2, 7, 6])
    """
    for axis, size in enumerate(shape):
        state = state.narrow(axis + 2, 0, min(size, state.shape[axis + 2]))
    return state


def shrink(image: Tensor, scale: Shape, how: str) -> Tensor:
    """Downscale an image by a scale that divides its axes; scale 1 returns the image itself.

    Parameters
    ----------
    image : Tensor
        (B, C, *spatial) image.
    scale : tuple of int
        Scale along each axis.
    how : str
        Value of each block of cells: ``"area"`` is the mean, ``"max"`` the maximum, ``"bilinear"`` the interpolation at
        its centre, ``"nearest"`` its first cell. ``"bilinear_corners"`` interpolates with the corner cells of both
        grids aligned.

    Examples
    --------
    >>> shrink(torch.tensor([[[0.0, 1.0, 4.0, 7.0]]]), (2,), "area").tolist()
    [[[0.5, 5.5]]]
    """
    require_choice("way to shrink an image", how, DOWNSCALES)
    dims = len(scale)
    if set(scale) == {1}:
        return image
    if how in ("area", "max"):
        pool: Any = (_AVERAGE if how == "area" else _LARGEST)[dims]
        pooled: Tensor = pool(image, scale, scale)
        return pooled
    if how == "nearest":
        first_cells: tuple[Any, ...] = (..., *(slice(None, None, by) for by in scale))
        return image[first_cells]
    shape = [size // by for size, by in zip(image.shape[2:], scale, strict=True)]
    return F.interpolate(image, shape, mode=_LINEAR[dims], align_corners=how == "bilinear_corners")


def enlarge(state: Tensor, factor: Shape) -> Tensor:
    """Repeat every cell of (B, C, *spatial) ``factor`` times along each axis: nearest interpolation.

    Examples
    --------
    >>> enlarge(torch.tensor([[[1.0, 2.0]]]), (3,)).tolist()
    [[[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]]]
    """
    shape = state.shape[2:]
    spread = [n for size, by in zip(shape, factor, strict=True) for n in (size, by)]
    apart = [n for size in shape for n in (size, 1)]
    large = [size * by for size, by in zip(shape, factor, strict=True)]
    return state.reshape(*state.shape[:2], *apart).expand(*state.shape[:2], *spread).reshape(*state.shape[:2], *large)


def resize_labels(label: Tensor, shape: Sequence[int]) -> Tensor:
    """Resize a label map by nearest-cell interpolation, which keeps its dtype and adds no new labels.

    Parameters
    ----------
    label : Tensor
        (..., *spatial) tensor of any type.
    shape : sequence of int
        New spatial shape. Its length is the number of spatial axes.

    Raises
    ------
    ShapeError
        If the label has fewer axes, or a size is below 1.

    Examples
    --------
    >>> resize_labels(torch.tensor([0, 0, 7, 7]), [2]).tolist()
    [0, 7]
    """
    if label.dim() < len(shape) or any(size < 1 for size in shape) or 0 in label.shape:
        raise ShapeError(f"a label of {tuple(label.shape)} cannot be resized to {tuple(shape)}")
    for axis, size in zip(range(label.dim() - len(shape), label.dim()), shape, strict=True):
        old = label.shape[axis]
        if old != size:
            index = (2 * torch.arange(size, device=label.device) + 1) * old // (2 * size)
            label = label.index_select(axis, index)
    return label


@dataclass(frozen=True)
class Patch:
    """Boxes of one shape, one in each sample.

    Attributes
    ----------
    origin : ndarray
        First cell of each box, (B, dims) integers.
    shape : tuple of int
        Length along each axis.
    """

    origin: npt.NDArray[np.int64]
    shape: Shape

    def cut(self, tensor: Tensor, offset: npt.NDArray[np.int64] | int = 0) -> Tensor:
        """Cut the boxes from a (B, ..., *spatial) tensor that begins at cell ``offset`` of the grid."""
        first, boxes = tensor.dim() - len(self.shape), []
        for sample, origin in zip(tensor, self.origin - offset, strict=True):
            box = sample
            for axis, (start, length) in enumerate(zip(origin.tolist(), self.shape, strict=True)):
                box = box.narrow(first - 1 + axis, start, length)
            boxes.append(box)
        return torch.stack(boxes)


def draw_patches(
    rng: np.random.Generator, samples: int, shape: Shape, scales: Sequence[Shape], patch: Shape, levels: int
) -> list[Patch | None]:
    """Draw patches of the finest levels, each within that of the previous level.

    The finest patches are drawn first, uniformly over the image, and the others uniformly around them.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator.
    samples : int
        Number of samples. Each has its own patches.
    shape : tuple of int
        Spatial shape of the image, before :func:`pad_to`.
    scales : sequence of tuple of int
        Scales of all levels.
    patch : tuple of int
        Number of cells of a patch along each axis, at each level. If it covers an axis of the image, the whole axis is
        used.
    levels : int
        Number of levels that use a patch.

    Returns
    -------
    list
        One patch per level; None for a level on its whole grid.
    """
    drawn = rng.random((samples, len(scales), len(shape)))  # the same draws for all sizes
    found: list[Patch | None] = [None] * len(scales)
    whole = [size + -size % by for size, by in zip(shape, scales[0], strict=True)]
    origin = np.zeros((samples, len(shape)), np.int64)
    box = list(patch)
    for axis, (size, cells) in enumerate(zip(shape, patch, strict=True)):
        if cells >= size:
            box[axis] = whole[axis]
        else:
            origin[:, axis] = (drawn[:, -1, axis] * (size - cells + 1)).astype(np.int64)
    found[-1] = Patch(origin, tuple(box))
    for level in range(len(scales) - 2, len(scales) - 1 - levels, -1):
        inner, origin, box = origin, np.zeros_like(origin), list(box)
        for axis, (coarse, fine) in enumerate(zip(scales[level], scales[level + 1], strict=True)):
            factor, cells = coarse // fine, whole[axis] // coarse
            first = inner[:, axis] // factor
            last = -(-(inner[:, axis] + box[axis]) // factor)
            box[axis] = min(max(patch[axis], -(-(box[axis] + factor - 1) // factor)), cells)
            low, high = np.maximum(last - box[axis], 0), np.minimum(first, cells - box[axis])
            origin[:, axis] = low + (drawn[:, level, axis] * (high - low + 1)).astype(np.int64)
        found[level] = Patch(origin, tuple(box))
    cells_of = [[n // by for n, by in zip(whole, scale, strict=True)] for scale in scales]
    return [
        None if part is None or prod(part.shape) == prod(cells) else part
        for part, cells in zip(found, cells_of, strict=True)
    ]
