"""Films, film strips and pictures in the pixels of the cells."""

from __future__ import annotations

import itertools
import math
import operator
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.io.files import replaced
from delira_nca.visualization._files import suffix_of
from delira_nca.visualization.palette import shared_palette

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["film_strip", "save_film", "save_picture"]

UInt8Array = npt.NDArray[np.uint8]
LONGEST_DELAY = 655.35  # seconds; a GIF counts them in 16 bits of 10 ms


def save_film(frames: Any, path: str | os.PathLike[str], *, fps: float = 20, scale: int = 8, hold: float = 1.0) -> None:
    """Write an animated picture that loops for ever.

    Parameters
    ----------
    frames : (T, H, W, 3) uint8 array or tensor, or an iterable of (H, W, 3) ones
    path : the suffix says the format: ``.gif`` (at most 256 colours, one palette for the whole film, no dithering),
        ``.png`` (APNG) or ``.webp``, which keep every colour. The file appears when it is complete.
    fps : frames per second, in (0, 50]. Delays are multiples of 10 ms, chosen so that the film keeps its length;
        viewers slow a film down whose delays are below 20 ms.
    scale : pixels per cell and axis; enlarged without smoothing.
    hold : seconds that the last frame stands, if that is longer than the others.

    Raises
    ------
    ShapeError
        If there is no frame, or the frames are not of one shape (H, W, 3).
    ConfigError
        If frames are not uint8, or a number is out of its range.
    UnknownNameError
        If the suffix is none that can be written here; they are listed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "blink.gif"
    >>> save_film(np.array([0, 255], np.uint8)[:, None, None, None].repeat(3, axis=3), path, fps=2)
    >>> from PIL import Image
    >>> with Image.open(path) as film:
    ...     film.n_frames, film.size, film.info["duration"]
    (2, (8, 8), 500)
    """
    from PIL import features

    path = Path(path)
    webp = [".webp"] if features.check("webp") else []
    suffix = suffix_of(path, [".gif", ".png", *webp])
    film, scale = _as_film(frames), _as_count("scale", scale)
    delays = _delays(len(film), fps, hold)
    pictures = _indexed(film, scale) if suffix == ".gif" else _coloured(film, scale)
    options: dict[str, Any] = {"format": {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}[suffix]}
    if suffix == ".gif":
        options |= {"disposal": 1, "optimize": False}
    elif suffix == ".webp":
        options |= {"lossless": True}
    first = next(pictures)
    others = list(pictures) if suffix == ".png" else pictures  # Pillow goes over those of an APNG twice
    with replaced(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=delays, loop=0, **options)


def film_strip(
    frames: Any, columns: int = 8, *, rows: int | None = 1, gap: int = 1, gap_colour: int = 208
) -> UInt8Array:
    """Lay frames side by side in one picture.

    Parameters
    ----------
    frames : (T, H, W, 3) uint8 array or tensor, or an iterable of (H, W, 3) ones
    columns : frames in a row.
    rows : number of rows. Of a film with more frames than places, frames at even distances are shown, the first and
        the last among them. ``None`` shows all frames in as many rows as that takes.
    gap : pixels between frames.
    gap_colour : grey level of the gaps and of empty places, 0 to 255.

    Returns
    -------
    (rows * (H + gap) - gap, columns * (W + gap) - gap, 3) uint8 array
        Fewer columns and rows where there are fewer frames.

    Raises
    ------
    ShapeError
        If there is no frame, or the frames are not of one shape (H, W, 3).
    ConfigError
        If frames are not uint8, or a number is out of its range.

    Examples
    --------
    >>> film = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    >>> film_strip(film, 4)[0, :, 0].tolist()
    [0, 208, 3, 208, 6, 208, 9]
    """
    film = _as_film(frames)
    columns = _as_count("columns", columns)
    gap = _as_count("gap", gap, least=0)
    if not 0 <= gap_colour <= 255:
        raise ConfigError(f"gap_colour is a grey level from 0 to 255, not {gap_colour!r}")
    if rows is not None:
        places = min(len(film), columns * _as_count("rows", rows))
        film = film[np.rint(np.linspace(0, len(film) - 1, places)).astype(int)]
    columns = min(columns, len(film))
    rows = math.ceil(len(film) / columns)
    height, width = film.shape[1:3]
    strip = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), gap_colour, np.uint8)
    for index, frame in enumerate(film):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        strip[top : top + height, left : left + width] = frame
    return strip


def save_picture(rgb: Any, path: str | os.PathLike[str], scale: int = 8) -> None:
    """Write one picture, enlarged without smoothing and without loss.

    Parameters
    ----------
    rgb : (H, W, 3) uint8 array or tensor
    path : ends in ``.png``, or in ``.webp`` where Pillow can. The file appears when it is complete.
    scale : pixels per cell and axis.

    Raises
    ------
    ShapeError
        If the picture has another shape.
    ConfigError
        If the picture is not uint8, or the scale is not a positive integer.
    UnknownNameError
        If the suffix is none that can be written here; they are listed.
    """
    from PIL import features

    path = Path(path)
    suffix = suffix_of(path, [".png", ".webp"] if features.check("webp") else [".png"])
    picture = next(_coloured(_as_film([rgb]), _as_count("scale", scale)))
    with replaced(path) as temporary:
        if suffix == ".png":
            picture.save(temporary, format="PNG", optimize=True)
        else:
            picture.save(temporary, format="WEBP", lossless=True)


def _as_film(frames: Any) -> UInt8Array:
    """Frames as one array (T, H, W, 3)."""
    if not hasattr(frames, "shape") and not isinstance(frames, Iterable):
        raise ShapeError(f"frames are an array (T, H, W, 3) or an iterable of (H, W, 3), not {type(frames).__name__}")
    arrays = [np.asarray(_on_cpu(frame)) for frame in _on_cpu(frames)]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][-1] != 3 or 0 in shapes[0]:
        raise ShapeError(f"frames are at least one, all of one shape (H, W, 3), not {shapes or 'none'}")
    kinds = sorted({str(array.dtype) for array in arrays})
    if kinds != ["uint8"]:
        raise ConfigError(f"frames hold uint8 from 0 to 255, not {', '.join(kinds)}; to_rgb makes them of states")
    return np.stack(arrays)


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _as_count(what: str, value: Any, least: int = 1) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise ConfigError(f"{what} is an integer of at least {least}, not {value!r}")
    return count


def _delays(num_frames: int, fps: float, hold: float) -> list[int]:
    """Milliseconds that each frame stands: multiples of 10 whose sum is that of the exact ones, but for the hold.

    >>> _delays(4, fps=30, hold=0.5)
    [30, 40, 30, 500]
    """
    if not 1 / LONGEST_DELAY <= fps <= 50:
        raise ConfigError(f"fps is above 0 and at most 50 (a delay of 20 ms to {LONGEST_DELAY} s), not {fps!r}")
    if not 0 <= hold <= LONGEST_DELAY:
        raise ConfigError(f"hold is from 0 to {LONGEST_DELAY} seconds, not {hold!r}")
    ends = [math.floor(index * 100 / fps + 0.5) for index in range(num_frames + 1)]
    delays = [10 * (end - start) for start, end in itertools.pairwise(ends)]
    return [*delays[:-1], max(delays[-1], 10 * round(100 * hold))]


def _coloured(film: UInt8Array, scale: int) -> Iterator[Image.Image]:
    from PIL import Image

    for frame in film:
        yield Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1))


def _indexed(film: UInt8Array, scale: int) -> Iterator[Image.Image]:
    from PIL import Image

    palette, indices = shared_palette(film)
    for frame in indices:
        picture = Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1))  # becomes "P" with its palette
        picture.putpalette(palette.tobytes())
        yield picture
