"""Colours of states and of lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError

__all__ = ["shared_palette", "to_rgb"]

UInt8Array = npt.NDArray[np.uint8]
NUM_EXACT = 16  # number of most frequent colours that are kept exactly, such as the background


def shared_palette(frames: UInt8Array, num_colours: int = 256) -> tuple[UInt8Array, UInt8Array]:
    """Compute one palette for all frames, and convert the frames to indices of it.

    Up to ``num_colours`` different colours are kept exactly. If there are more, the most frequent are kept exactly and
    the others are clustered by median cut and k-means. Every pixel gets the nearest colour, without dithering. A colour
    has the same index in every frame, so static regions do not flicker.

    Parameters
    ----------
    frames : ndarray of uint8
        (T, H, W, 3) uint8 array
    num_colours : int
        Maximum size of the palette, at most 256.

    Returns
    -------
    palette : (P, 3) uint8 array, P <= num_colours
    indices : (T, H, W) uint8 array

    Examples
    --------
    >>> frames = np.array([[[[255, 255, 255], [9, 0, 0]]], [[[255, 255, 255], [255, 255, 255]]]], np.uint8)
    >>> palette, indices = shared_palette(frames)
    >>> palette.tolist()
    [[9, 0, 0], [255, 255, 255]]
    >>> indices.tolist()
    [[[1, 0]], [[1, 1]]]
    """
    packed = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    keys, inverse, counts = np.unique(packed.reshape(-1), return_inverse=True, return_counts=True)
    colours = np.stack([keys >> 16, keys >> 8 & 255, keys & 255], axis=-1).astype(np.uint8)
    if len(colours) <= num_colours:
        palette, nearest = colours, np.arange(len(colours), dtype=np.uint8)
    else:
        palette = _gather(colours, counts, num_colours)
        nearest = _nearest(colours, palette)
    return palette, nearest[inverse].reshape(packed.shape)


def _gather(colours: UInt8Array, counts: npt.NDArray[np.intp], num_colours: int) -> UInt8Array:
    """Compute a palette of a set of colours. The weight of a colour grows less than linearly with its count."""
    from PIL import Image

    order = np.argsort(-counts, kind="stable")
    num_exact = min(NUM_EXACT, num_colours // 2)
    rest = order[num_exact:]
    weights = 1 + np.log2(counts[rest]).astype(np.intp)
    sample = Image.fromarray(np.repeat(colours[rest], weights, axis=0)[None])
    num_rest = num_colours - num_exact
    reduced = sample.quantize(num_rest, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    gathered = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[:num_rest]
    return np.unique(np.concatenate([colours[order[:num_exact]], gathered]), axis=0)


def _nearest(colours: UInt8Array, palette: UInt8Array) -> UInt8Array:
    """Return the index of the nearest palette entry of each colour, by squared distance, in bounded memory."""
    entries = palette.astype(np.float32)
    lengths = (entries**2).sum(axis=1)
    chunks = np.array_split(colours, max(1, len(colours) // 16384))
    found = [np.argmin(lengths - 2.0 * chunk.astype(np.float32) @ entries.T, axis=1) for chunk in chunks]
    return np.concatenate(found).astype(np.uint8)


DIVERGED = (255, 0, 255)


def to_rgb(state: Any, background: float | Sequence[float] = 1.0) -> npt.NDArray[np.uint8]:
    """Convert states to colours on a plain background: ``rgb + (1 - alpha) * background``.

    Parameters
    ----------
    state : (..., C, H, W) array or tensor, C >= 4
        The first three channels are red, green and blue from 0 to 1, premultiplied by the fourth, alpha. Alpha and the
        result are clipped to [0, 1]. Further channels are ignored.
    background : float or sequence of float
        One grey level or three colour levels, each in [0, 1]; 1.0 is white.

    Returns
    -------
    (..., H, W, 3) uint8 array
        Cells with NaN in one of the four channels are magenta, so that divergence is visible.

    Raises
    ------
    ShapeError
        If there are fewer than three axes or four channels.
    ConfigError
        If the background is not one or three numbers in [0, 1].

    Examples
    --------
    One half transparent red cell (premultiplied) and one empty cell, on white:

    >>> state = np.zeros((4, 1, 2))
    >>> state[[0, 3], 0, 0] = 0.5
    >>> to_rgb(state).tolist()
    [[[255, 128, 128], [255, 255, 255]]]
    """
    if hasattr(state, "detach"):
        state = state.detach().cpu().float()
    cells = np.asarray(state)
    if cells.ndim < 3 or cells.shape[-3] < 4:
        raise ShapeError(f"a state of coloured cells has the shape (..., C >= 4, H, W), not {cells.shape}")
    cells = np.moveaxis(cells[..., :4, :, :].astype(np.float32), -3, -1)
    alpha = np.clip(cells[..., 3:], 0.0, 1.0)
    colours = np.clip(cells[..., :3] + (1.0 - alpha) * _levels(background), 0.0, 1.0)
    diverged = np.isnan(cells).any(axis=-1)
    pixels = np.rint(np.where(diverged[..., None], 0.0, colours) * 255.0).astype(np.uint8)
    pixels[diverged] = DIVERGED
    return pixels


def _levels(background: float | Sequence[float]) -> npt.NDArray[np.float32]:
    try:
        levels = np.asarray(background, dtype=np.float32)
    except (TypeError, ValueError):
        levels = np.empty(0, np.float32)
    if levels.shape not in ((), (1,), (3,)) or not ((levels >= 0) & (levels <= 1)).all():
        raise ConfigError(f"a background is one number or three numbers in [0, 1], not {background!r}")
    return levels
