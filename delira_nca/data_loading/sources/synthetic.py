"""Computed images with exact masks: discs, blobs and vessels in two or three dimensions.

Sample ``i`` depends only on ``seed``, ``i`` and the other arguments, not on ``num_samples``. The image is computed from
the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_number, require_whole, require_wholes
from delira_nca.errors import ConfigError
from delira_nca.seeding import generator

__all__ = ["blobs", "discs", "vessels"]

_Mask = npt.NDArray[np.bool_]
_MIN_LENGTH = 8


def discs(
    *, num_samples: int = 16, shape: Sequence[int] = (64, 64), seed: int = 0, noise: float = 0.1
) -> dict[str, npt.NDArray[Any]]:
    """Compute discs, or balls in 3D: one to four per image, completely inside of it; they may overlap.

    Parameters
    ----------
    num_samples : int
        Number of images, at least 1.
    shape : sequence of int
        (H, W) or (D, H, W), at least 8 each.
    seed : int
        Seed, at least 0.
    noise : float
        Standard deviation of the normal noise of the image, which has values from 0 to 1.

    Returns
    -------
    dict
        ``"data"``: (N, 1, *shape) float32 in [0, 1]; ``"label"``: (N, 1, *shape) uint8, 1 where the centre of a
        cell is at most a radius away from the centre of a disc.

    Examples
    --------
    >>> drawn = discs(num_samples=2, shape=(16, 16), seed=1)
    >>> drawn["data"].shape, drawn["label"].dtype, np.unique(drawn["label"]).tolist()
    ((2, 1, 16, 16), dtype('uint8'), [0, 1])
    """
    return _draw("discs", _mask_of_discs, num_samples, shape, seed, noise)


def blobs(
    *, num_samples: int = 16, shape: Sequence[int] = (64, 64), seed: int = 0, noise: float = 0.1
) -> dict[str, npt.NDArray[Any]]:
    """Compute irregular blobs, the high values of a smooth random field, which cover a fifth to a half of the image.

    The field is white noise smoothed by a Gaussian of a twelfth of the shortest side. It is periodic, so blobs continue
    at the opposite border.

    Parameters
    ----------
    num_samples, shape, seed, noise
        See :func:`discs`.

    Returns
    -------
    dict
        ``"data"``: (N, 1, *shape) float32 in [0, 1]; ``"label"``: (N, 1, *shape) uint8, 1 in the blobs.

    Examples
    --------
    >>> drawn = blobs(num_samples=1, shape=(8, 16, 16))
    >>> drawn["data"].shape, bool(0.2 <= drawn["label"].mean() <= 0.5)
    ((1, 1, 8, 16, 16), True)
    """
    return _draw("blobs", _mask_of_blobs, num_samples, shape, seed, noise)


def vessels(
    *, num_samples: int = 16, shape: Sequence[int] = (64, 64), seed: int = 0, noise: float = 0.1
) -> dict[str, npt.NDArray[Any]]:
    """Compute vessels: a winding trunk from a border, with two generations of thinner branches.

    Parameters
    ----------
    num_samples, shape, seed, noise
        See :func:`discs`.

    Returns
    -------
    dict
        ``"data"``: (N, 1, *shape) float32 in [0, 1]; ``"label"``: (N, 1, *shape) uint8, 1 where the centre of a
        cell is at most a radius away from the middle line of a vessel, which is sampled every half cell.

    Examples
    --------
    >>> drawn = vessels(num_samples=3)
    >>> bool((drawn["label"] == vessels(num_samples=5)["label"][:3]).all())
    True
    """
    return _draw("vessels", _mask_of_vessels, num_samples, shape, seed, noise)


def require_drawable(num_samples: int, shape: Sequence[int], noise: float, *, dims: tuple[int, ...]) -> tuple[int, ...]:
    """Check the arguments and return the shape."""
    require_whole("num_samples", num_samples, 1)
    lengths = require_wholes("shape", shape, _MIN_LENGTH)
    if len(lengths) not in dims:
        forms = " or ".join({2: "(H, W)", 3: "(D, H, W)"}[number] for number in dims)
        raise ConfigError(f"shape must be {forms}, not {shape!r}")
    require_number("noise", noise, 0)
    return lengths


def _draw(
    kind: str,
    mask: Callable[[np.random.Generator, tuple[int, ...]], _Mask],
    num_samples: int,
    shape: Sequence[int],
    seed: int,
    noise: float,
) -> dict[str, npt.NDArray[Any]]:
    lengths = require_drawable(num_samples, shape, noise, dims=(2, 3))
    data = np.empty((num_samples, 1, *lengths), dtype=np.float32)
    label = np.empty((num_samples, 1, *lengths), dtype=np.uint8)
    for index in range(num_samples):
        rng = generator(seed, kind, index)
        inside = mask(rng, lengths)
        label[index, 0] = inside
        data[index, 0] = _paint(rng, inside, noise)
    return {"data": data, "label": label}


def _paint(rng: np.random.Generator, inside: _Mask, noise: float) -> npt.NDArray[np.float64]:
    """Compute the brightness: a background with a gradient, a brighter foreground, and noise."""
    direction = rng.normal(size=inside.ndim)
    slope = np.zeros(inside.shape)
    for axis, length in enumerate(inside.shape):
        line = np.linspace(-0.1, 0.1, length) * direction[axis] / np.abs(direction).sum()
        slope += line.reshape([-1 if other == axis else 1 for other in range(inside.ndim)])
    bright = rng.uniform(0.3, 0.5)
    picture = 0.25 + slope + bright * inside + noise * rng.normal(size=inside.shape)
    return np.clip(picture, 0.0, 1.0)


def _stamp(inside: _Mask, centre: npt.NDArray[np.float64], radius: float) -> None:
    """Set the cells with centres, at integer coordinates, within ``radius`` of ``centre``."""
    low = np.maximum(np.ceil(centre - radius).astype(int), 0)
    high = np.minimum(np.floor(centre + radius).astype(int) + 1, inside.shape)
    if (low >= high).any():
        return
    axes = [(np.arange(a, b) - c) ** 2 for a, b, c in zip(low, high, centre, strict=True)]
    distance = sum(np.ix_(*axes))
    inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] |= distance <= radius**2


def _mask_of_discs(rng: np.random.Generator, shape: tuple[int, ...]) -> _Mask:
    inside = np.zeros(shape, dtype=np.bool_)
    last = np.array(shape) - 1.0
    for _ in range(rng.integers(1, 5)):
        radius = min(shape) * rng.uniform(0.1, 0.25)
        _stamp(inside, rng.uniform(radius, last - radius), max(radius, 1.0))
    return inside


def _mask_of_blobs(rng: np.random.Generator, shape: tuple[int, ...]) -> _Mask:
    from scipy import ndimage

    field = ndimage.gaussian_filter(rng.normal(size=shape), sigma=max(min(shape) / 12, 1.0), mode="wrap")
    return np.asarray(field > np.quantile(field, 1 - rng.uniform(0.21, 0.49)))


def _mask_of_vessels(rng: np.random.Generator, shape: tuple[int, ...]) -> _Mask:
    inside = np.zeros(shape, dtype=np.bool_)
    last = np.array(shape) - 1.0
    start = rng.uniform(0.2 * last, 0.8 * last)
    side = int(rng.integers(len(shape)))
    start[side] = 0.0 if rng.random() < 0.5 else last[side]
    open_ends = [(start, last / 2 - start, max(min(shape) / 24, 1.2), 0)]
    while open_ends:
        point, direction, radius, generation = open_ends.pop()
        line = _walk(rng, point, direction, shape, steps=int(2.4 * max(shape)) >> generation)
        for place in line:
            _stamp(inside, place, radius)
        if generation < 2 and len(line) > 4:
            for fork in rng.integers(len(line) // 4, len(line) - 1, size=2):
                aside = line[fork + 1] - line[fork] + rng.normal(size=len(shape))
                open_ends.append((line[fork], aside, max(0.7 * radius, 0.9), generation + 1))
    return inside


def _walk(
    rng: np.random.Generator,
    point: npt.NDArray[np.float64],
    direction: npt.NDArray[np.float64],
    shape: tuple[int, ...],
    steps: int,
) -> list[npt.NDArray[np.float64]]:
    """Return the centre line of a vessel: points at distances of half a cell, until it leaves the grid."""
    line = []
    last = np.array(shape) - 1.0
    for _ in range(steps):
        if (point < 0).any() or (point > last).any():
            break
        line.append(point)
        direction = direction / np.linalg.norm(direction) + 0.1 * rng.normal(size=len(shape))
        point = point + 0.5 * direction / np.linalg.norm(direction)
    return line
