"""Films of roll-outs."""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.visualization.colour import shared_palette, to_rgb
from delira_nca.visualization.crop import life_window
from delira_nca.visualization.plots import suffix_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Cut", "film_strip", "save_film", "save_growth_film", "save_picture"]

UInt8Array = npt.NDArray[np.uint8]
LONGEST_DELAY = 655.35  # seconds; a GIF stores delays as 16 bits in units of 10 ms
CUT_COLOUR = (214, 40, 57)


@dataclass(frozen=True)
class Cut:
    """Moment of a film at which a part is cut off, marked by a dashed line, a caption and a pause.

    Parameters
    ----------
    frame : int
        Number of the first frame after the cut; it and the one before are marked.
    column : int
        Column of cells. The cut is along its left edge.
    caption : str
        Text beside the line.
    pause : float
        Minimum duration of each of the two frames in seconds.
    """

    frame: int
    column: int
    caption: str = "cut"
    pause: float = 0.7


def save_film(
    frames: Any,
    path: str | os.PathLike[str],
    *,
    fps: float = 20,
    scale: int | None = None,
    min_size: int = 512,
    hold: float = 1.0,
    cuts: Sequence[Cut] = (),
    tolerance: int = 0,
    num_colours: int = 254,
) -> None:
    """Write an animated image that loops forever.

    Parameters
    ----------
    frames : object
        (T, H, W, 3) uint8 array or tensor, or an iterable of (H, W, 3) ones
    path : str or path-like
        Path of the file. Its suffix sets the format: ``.gif`` (at most 256 colours, one palette for the whole film, no
        dithering), ``.png`` (APNG) or ``.webp``, both lossless. The file appears when it is complete.
    fps : float
        Frames per second, in (0, 50]. Delays are multiples of 10 ms, chosen to keep the duration of the film. Viewers
        slow down films with delays below 20 ms.
    scale : int or None
        Pixels per cell along each axis; frames are enlarged without smoothing. By default the smallest integer for
        which the longer side has at least ``min_size`` pixels.
    min_size : int
        Minimum number of pixels along the longer side if ``scale`` is None.
    hold : float
        Minimum duration of the last frame in seconds.
    cuts : sequence of Cut
        Moments to mark.
    tolerance : int
        Difference per colour channel, out of 255, up to which a pixel keeps the colour of the previous frame; the
        background is always exact. Barely visible flickering makes a film several times larger.
    num_colours : int
        Size of the palette of a GIF, at most 254.

    Raises
    ------
    ShapeError
        If there is no frame, or the frames do not have one shape (H, W, 3).
    ConfigError
        If frames are not uint8, or a number is out of range.
    UnknownNameError
        If the suffix is not supported. The message lists the supported ones.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "blink.gif"
    >>> save_film(np.array([0, 255], np.uint8)[:, None, None, None].repeat(3, axis=3), path, fps=2)
    >>> from PIL import Image
    >>> with Image.open(path) as film:
    ...     film.n_frames, film.size, film.info["duration"]
    (2, (512, 512), 500)
    """
    from PIL import features

    path = absolute(path)
    webp = [".webp"] if features.check("webp") else []
    suffix = suffix_of(path, [".gif", ".png", *webp])
    film = _settled(_as_film(frames), require_whole("tolerance", tolerance, 0))
    require_whole("num_colours", num_colours, 1, 254)
    scale = _scale(film, min_size) if scale is None else require_whole("scale", scale, 1)
    marks = _marks(cuts, film)
    delays = _delays(len(film), fps, hold, {number: cut.pause for number, cut in marks.items()})
    options: dict[str, Any] = {"format": {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}[suffix]}
    if suffix == ".gif":
        palette, indices = shared_palette(film, num_colours)
        clear = len(palette) + 1
        pictures = _indexed(palette, indices, scale, marks)
        # with a palette for the whole file, frames are written without a local palette
        options |= {"disposal": 1, "optimize": False, "palette": _palette_bytes(palette), "transparency": clear}
    else:
        pictures = _coloured(film, scale, marks)
        options |= {"lossless": True} if suffix == ".webp" else {}
    first = next(pictures)
    others = list(pictures) if suffix == ".png" else pictures  # Pillow iterates twice over the frames of an APNG
    with replaced(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=delays, loop=0, **options)


def film_strip(
    frames: Any, columns: int = 8, *, rows: int | None = 1, gap: int = 1, gap_colour: int = 208
) -> UInt8Array:
    """Arrange frames side by side in one image.

    Parameters
    ----------
    frames : object
        (T, H, W, 3) uint8 array or tensor, or an iterable of (H, W, 3) ones
    columns : int
        Number of frames per row.
    rows : int or None
        Number of rows. If there are more frames than places, evenly spaced frames are shown, including the first and
        the last. None shows all frames.
    gap : int
        Number of pixels between frames.
    gap_colour : int
        Grey level of the gaps and of empty places, 0 to 255.

    Returns
    -------
    (rows * (H + gap) - gap, columns * (W + gap) - gap, 3) uint8 array
        Fewer columns and rows if there are fewer frames.

    Raises
    ------
    ShapeError
        If there is no frame, or the frames do not have one shape (H, W, 3).
    ConfigError
        If frames are not uint8, or a number is out of range.

    Examples
    --------
    >>> film = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    >>> film_strip(film, 4)[0, :, 0].tolist()
    [0, 208, 3, 208, 6, 208, 9]
    """
    film = _as_film(frames)
    columns = require_whole("columns", columns, 1)
    gap = require_whole("gap", gap, 0)
    require_number("gap_colour", gap_colour, 0, 255)
    if rows is not None:
        places = min(len(film), columns * require_whole("rows", rows, 1))
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
    """Write one image, enlarged without smoothing, in a lossless format.

    Parameters
    ----------
    rgb : object
        (H, W, 3) uint8 array or tensor
    path : str or path-like
        Path that ends in ``.png``, or ``.webp`` if Pillow supports it. The file appears when it is complete.
    scale : int
        Pixels per cell along each axis.

    Raises
    ------
    ShapeError
        If the shape of the image is wrong.
    ConfigError
        If the image is not uint8, or the scale is not a positive integer.
    UnknownNameError
        If the suffix is not supported. The message lists the supported ones.
    """
    from PIL import features

    path = absolute(path)
    suffix = suffix_of(path, [".png", ".webp"] if features.check("webp") else [".png"])
    picture = next(_coloured(_as_film([rgb]), require_whole("scale", scale, 1)))
    with replaced(path) as temporary:
        if suffix == ".png":
            picture.save(temporary, format="PNG", optimize=True)
        else:
            picture.save(temporary, format="WEBP", lossless=True)


def _as_film(frames: Any) -> UInt8Array:
    """Convert frames to one (T, H, W, 3) array."""
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


def _settled(film: UInt8Array, tolerance: int) -> UInt8Array:
    """Return the film with pixels that change only if the difference exceeds the tolerance."""
    if not tolerance:
        return film
    colours, counts = np.unique(film.reshape(-1, 3), axis=0, return_counts=True)
    background = colours[counts.argmax()]  # the background is exact, so that no remains of a cut part are visible
    film = film.copy()
    for former, frame in itertools.pairwise(film):  # views: frames are compared with settled ones
        near = np.abs(frame.astype(np.int16) - former).max(axis=-1) <= tolerance
        near &= (frame != background).any(axis=-1)
        frame[near] = former[near]
    return film


def _scale(film: UInt8Array, min_size: int) -> int:
    return -(-require_whole("min_size", min_size, 1) // int(max(film.shape[1:3])))


def _marks(cuts: Sequence[Cut], film: UInt8Array) -> dict[int, Cut]:
    """Return the cuts by the numbers of the frames that show them."""
    for cut in cuts:
        if not (1 <= cut.frame < len(film) and 0 <= cut.column <= film.shape[2]):
            raise ConfigError(
                f"a cut must lie within the film of {len(film)} frames and {film.shape[2]} columns, got {cut!r}"
            )
    return {number: cut for cut in cuts for number in (cut.frame - 1, cut.frame)}


def _delays(num_frames: int, fps: float, hold: float, pauses: Mapping[int, float] | None = None) -> list[int]:
    """Return the duration of each frame in ms, multiples of 10. Without hold and pauses, their sum is exact.

    >>> _delays(4, fps=30, hold=0.5)
    [30, 40, 30, 500]
    """
    if not 1 / LONGEST_DELAY <= fps <= 50:
        raise ConfigError(f"fps is above 0 and at most 50 (a delay of 20 ms to {LONGEST_DELAY} s), not {fps!r}")
    standing = [("hold", num_frames - 1, hold), *(("pause", *pause) for pause in (pauses or {}).items())]
    ends = [math.floor(index * 100 / fps + 0.5) for index in range(num_frames + 1)]
    delays = [10 * (end - start) for start, end in itertools.pairwise(ends)]
    for what, number, seconds in standing:
        require_number(what, seconds, 0, LONGEST_DELAY)
        delays[number] = max(delays[number], 10 * round(100 * seconds))
    return delays


def _coloured(film: UInt8Array, scale: int, marks: Mapping[int, Cut] | None = None) -> Iterator[Image.Image]:
    from PIL import Image

    for number, frame in enumerate(film):
        picture = Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1))
        if marks and number in marks:
            _draw_cut(picture, marks[number], scale, CUT_COLOUR)
        yield picture


def _indexed(palette: UInt8Array, indices: UInt8Array, scale: int, marks: Mapping[int, Cut]) -> Iterator[Image.Image]:
    """Return frames with the palette, the colour of cuts, and one transparent colour that stands for "unchanged"."""
    from PIL import Image

    ink, clear = len(palette), len(palette) + 1
    for number, frame in enumerate(indices):
        if number and not marks.keys() & {number, number - 1}:  # only complete frames remove lines
            frame = np.where(frame == indices[number - 1], np.uint8(clear), frame)
        picture = Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1))  # becomes "P" with its palette
        picture.putpalette(_palette_bytes(palette))
        if number in marks:
            _draw_cut(picture, marks[number], scale, ink)
        yield picture


def _palette_bytes(palette: UInt8Array) -> bytes:
    return palette.tobytes() + bytes(CUT_COLOUR) + bytes(3)


def _draw_cut(picture: Image.Image, cut: Cut, scale: int, ink: int | tuple[int, int, int]) -> None:
    """Draw a dashed line along the cut, and the caption beside its upper end."""
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(picture)
    pen.fontmode = "1"  # no anti-aliasing, as the palette may lack the half-tones
    unit = max(1, max(picture.size) // 128)
    x = cut.column * scale
    for y in range(0, picture.height, 6 * unit):
        pen.rectangle((x - unit // 2, y, x - unit // 2 + unit - 1, y + 4 * unit - 1), fill=ink)
    font = ImageFont.load_default(max(10, 6 * unit))
    right = pen.textlength(cut.caption, font) + 3 * unit + x
    anchor, side = ("la", 1) if right < picture.width else ("ra", -1)
    pen.text((x + side * 3 * unit, 2 * unit), cut.caption, fill=ink, font=font, anchor=anchor)


_LOGGER = logging.getLogger("delira_nca")
_SETTINGS = ((4, 128, 1), (8, 64, 1), (12, 48, 1), (12, 48, 2), (16, 32, 3))
"""Tolerance, number of colours and frame interval of each attempt, from the least to the most visible loss."""


def save_growth_film(
    growth: Any,
    healing: Any | None,
    path: str | os.PathLike[str],
    *,
    every: int = 2,
    fps: float = 15,
    min_size: int = 512,
    margin: int = 2,
    hold: float = 2.0,
    max_bytes: int = 400_000,
) -> None:
    """Write a film of growth from the seed, a pause, the cut, and regeneration, with a longer last frame.

    Parameters
    ----------
    growth : (T, C >= 4, H, W) array or tensor
        States from the seed on, one per step.
    healing : (S, C >= 4, H, W) array or tensor, optional
        States from the cut on. In the first one the right half, from column ``W // 2`` on, is empty. None ends the film
        with the growth.
    path : path
        See :func:`save_film`.
    every : int
        Number of steps from one frame to the next. The last state of each part is always shown.
    fps, min_size, hold
        See :func:`save_film`.
    margin : int
        Number of cells around the pattern.
    max_bytes : int
        Maximum size of the file. If necessary, small changes of colour are dropped, then the number of colours and of
        frames is reduced. If the film is still larger, it is written and a warning is logged.

    Examples
    --------
    >>> states = np.zeros((5, 4, 6, 6))
    >>> states[1:, :, 2:4, 2:4] = 1.0
    >>> cut = states.copy()
    >>> cut[0, ..., 3:] = 0.0
    >>> path = getfixture("tmp_path") / "film.gif"
    >>> save_growth_film(states, cut, path)
    >>> path.stat().st_size < 10_000
    True
    """
    require_whole("every", every, 1)
    grown = _pictures(growth)
    healed = grown[:0] if healing is None else _pictures(healing)
    if grown.shape[1:] != healed.shape[1:]:
        raise ShapeError(f"growth and healing must have one shape, got {grown.shape[1:]} and {healed.shape[1:]}")
    rows, columns = life_window(np.concatenate([grown, healed]), margin)
    for tolerance, num_colours, thinner in _SETTINGS:
        parts = [_every(part, every * thinner) for part in (grown, healed) if len(part)]
        cuts = [Cut(len(parts[0]), grown.shape[-1] // 2 - columns.start)] if len(healed) else []
        film = to_rgb(np.concatenate(parts)[..., rows, columns])
        options: dict[str, Any] = {"tolerance": tolerance, "num_colours": num_colours, "cuts": cuts, "hold": hold}
        save_film(film, path, fps=fps / thinner, min_size=min_size, **options)
        if (size := absolute(path).stat().st_size) <= max_bytes:
            return
    _LOGGER.warning("the film %s has %d bytes, more than %d", path, size, max_bytes)


def _every(states: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
    """Every n-th state and the last."""
    return states[sorted({*range(0, len(states), step), len(states) - 1})]


def _pictures(states: Any) -> npt.NDArray[np.float32]:
    """Channels of states that the picture consists of."""
    if hasattr(states, "detach"):
        states = states.detach().cpu().float()
    states = np.asarray(states, np.float32)
    if states.ndim != 4 or states.shape[1] < 4 or not len(states):
        raise ShapeError(f"states must be at least one of (T, C >= 4, H, W), got {states.shape}")
    pictures: npt.NDArray[np.float32] = states[:, :4]
    return pictures
