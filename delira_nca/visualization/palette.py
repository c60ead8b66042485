"""Few colours for a whole film, so that nothing flickers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["shared_palette"]

UInt8Array = npt.NDArray[np.uint8]
NUM_EXACT = 16  # the most frequent colours, the background first of all, are kept as they are


def shared_palette(frames: UInt8Array, num_colours: int = 256) -> tuple[UInt8Array, UInt8Array]:
    """One palette for all frames, and the frames in its colours.

    Up to ``num_colours`` different colours are kept exactly. Of more, the most frequent are kept exactly and the
    others are gathered by median cut and k-means; every pixel gets the nearest colour, without dithering. The same
    colour is the same entry in every frame, so a still region stays still.

    Parameters
    ----------
    frames : (T, H, W, 3) uint8 array
    num_colours : the largest size of the palette, at most 256.

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
    """Palette of a set of colours; how often a colour occurs counts, but far less than in proportion."""
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
    """Index of the nearest palette entry of each colour, by squared distance, in bounded memory."""
    entries = palette.astype(np.float32)
    lengths = (entries**2).sum(axis=1)
    chunks = np.array_split(colours, max(1, len(colours) // 16384))
    found = [np.argmin(lengths - 2.0 * chunk.astype(np.float32) @ entries.T, axis=1) for chunk in chunks]
    return np.concatenate(found).astype(np.uint8)
