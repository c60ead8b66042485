"""Rendered images of balls on a floor in front of a wall, with exact depth.

Scene ``i`` depends only on ``seed``, ``i`` and the other arguments, not on ``num_samples``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.sources.synthetic import require_drawable
from delira_nca.seeding import generator

__all__ = ["FARTHEST", "scenes"]

FARTHEST = 10.0
"""Depth in metres that corresponds to the label 1."""

_Array = npt.NDArray[np.float64]
_HAZE = np.array([0.75, 0.8, 0.85])


def scenes(
    *, num_samples: int = 16, shape: Sequence[int] = (48, 48), seed: int = 0, noise: float = 0.02
) -> dict[str, npt.NDArray[Any]]:
    """Render scenes with depth: one to four balls on a chequered floor before a wall, in haze, under one lamp.

    The camera stands 0.8 to 1.4 m high and looks 6 to 20 degrees down; the wall is 5 to 9 m away. Cues of the depth are
    the position in the image, the size of the squares of the floor, shading and haze.

    Parameters
    ----------
    num_samples : int
        Number of scenes, at least 1.
    shape : sequence of int
        (H, W), at least 8 each.
    seed : int
        Seed, at least 0.
    noise : float
        Standard deviation of the normal noise of the image.

    Returns
    -------
    dict
        ``"data"``: (N, 3, H, W) float32 in [0, 1], red, green and blue; ``"label"``: (N, 1, H, W) float32, depth along
        the optical axis divided by 10 m, above 0 and at most 1.

    Examples
    --------
    >>> drawn = scenes(num_samples=2, shape=(16, 24))
    >>> drawn["data"].shape, drawn["label"].shape, bool(drawn["label"].min() > 0.05)
    ((2, 3, 16, 24), (2, 1, 16, 24), True)
    """
    height, width = require_drawable(num_samples, shape, noise, dims=(2,))
    data = np.empty((num_samples, 3, height, width), dtype=np.float32)
    label = np.empty((num_samples, 1, height, width), dtype=np.float32)
    rays = _rays(height, width)
    for index in range(num_samples):
        rng = generator(seed, "scenes", index)
        depth, colour = _scene(rng, rays)
        picture = colour + noise * rng.normal(size=colour.shape)
        data[index] = np.clip(picture, 0.0, 1.0).transpose(2, 0, 1)
        label[index, 0] = depth / FARTHEST
    return {"data": data, "label": label}


def _rays(height: int, width: int) -> _Array:
    """Return (H, W, 3) directions (right, down, ahead = 1) of the cell centres; the longer side spans 64 degrees."""
    longer = 0.8 * max(height, width)
    down, right = np.meshgrid(
        (np.arange(height) + 0.5 - height / 2) / longer, (np.arange(width) + 0.5 - width / 2) / longer, indexing="ij"
    )
    return np.stack([right, down, np.ones_like(right)], axis=-1)


def _scene(rng: np.random.Generator, rays: _Array) -> tuple[_Array, _Array]:
    """Render the (H, W) depth in metres and (H, W, 3) colours of one scene."""
    pitch, height, wall = rng.uniform(0.1, 0.35), rng.uniform(0.8, 1.4), rng.uniform(5.0, 9.0)
    below = np.array([0.0, np.cos(pitch), np.sin(pitch)])
    ahead = np.array([0.0, -np.sin(pitch), np.cos(pitch)])
    lamp = np.array([rng.uniform(-1, 1), 0.0, 0.0]) - below - 0.7 * ahead
    lamp /= np.linalg.norm(lamp)

    depth = wall / (rays @ ahead)
    colour = np.broadcast_to(rng.uniform(0.3, 0.9, 3) * _lit(-ahead, lamp), rays.shape)
    with np.errstate(divide="ignore"):
        floor = height / np.maximum(rays @ below, 0.0)
    on_floor = floor < depth
    depth = np.minimum(depth, floor)
    points = rays * depth[..., None]
    squares = np.floor(points[..., 0]) + np.floor(points @ ahead)
    chequered = np.where(squares % 2 == 0, 1.0, 0.6)[..., None] * rng.uniform(0.5, 0.9, 3) * _lit(-below, lamp)
    colour = np.where(on_floor[..., None], chequered, colour)

    for _ in range(rng.integers(1, 5)):
        radius, away = rng.uniform(0.3, 0.7), rng.uniform(2.0, wall - 0.7)
        aside = rng.uniform(-0.5, 0.5) * away
        centre = np.array([aside, 0.0, 0.0]) + away * ahead + (height - radius) * below
        ball = _ball(rays, centre, radius)
        in_front = ball < depth
        depth = np.where(in_front, ball, depth)
        normal = (rays * depth[..., None] - centre) / radius
        colour = np.where(in_front[..., None], rng.uniform(0.2, 1.0, 3) * _lit(normal, lamp)[..., None], colour)
    clear = np.exp(-depth / 12.0)[..., None]
    return depth, clear * colour + (1 - clear) * _HAZE


def _ball(rays: _Array, centre: _Array, radius: float) -> _Array:
    """Return the (H, W) depth at which each ray enters a ball; infinite for rays that miss it."""
    squared, along = (rays**2).sum(-1), rays @ centre
    inside = along**2 - squared * (centre @ centre - radius**2)
    entry = (along - np.sqrt(np.maximum(inside, 0.0))) / squared
    return np.where((inside > 0) & (entry > 0), entry, np.inf)


def _lit(normal: _Array, lamp: _Array) -> _Array:
    """Return the brightness of a matt surface; 0.35 in the shade."""
    return np.asarray(0.35 + 0.65 * np.maximum(normal @ lamp, 0.0))
