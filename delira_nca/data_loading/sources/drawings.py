"""Target images drawn by code, with flat colours and dark outlines.

A drawing is a sequence of layers on a canvas of 100 x 100 units with y pointing down. The shapes of a layer share a
colour and an outline around their union.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.data_loading.sources.dahlia import dahlia
from delira_nca.data_loading.sources.rgba import Target, load_image
from delira_nca.errors import UnknownNameError, did_you_mean, require_choice
from delira_nca.io.paths import absolute

__all__ = ["DRAWINGS", "drawing", "load_target"]

_MIN_SIZE = 8
_UNITS = 100
_MIN_PIXELS = 768  # along a side, before averaging
_SPACING = 0.5  # units between the discs of a stroke, small enough for a smooth edge

_Points = npt.NDArray[np.float64]
_Point = tuple[float, float]
_Colour = tuple[int, int, int]

_INK: _Colour = (34, 28, 48)
_WHITE: _Colour = (255, 255, 255)


def drawing(name: str, size: int) -> Target:
    """Draw a target with strong outlines and few flat colours, cropped to its content.

    Parameters
    ----------
    name : str
        One of :data:`DRAWINGS`.
    size : int
        Side of the target in cells, at least 8 (1 for the dahlia); 28 to 40 is usual.

    Returns
    -------
    (4, size, size) float32 array in [0, 1], premultiplied; the longer side of the drawing fills the array

    Raises
    ------
    UnknownNameError
        If the name is unknown. The message contains the most similar name.
    ConfigError
        If ``size`` is not an integer, or too small.
    MissingDependencyError
        For ``"dahlia"`` without scikit-learn; see
        :func:`~delira_nca.data_loading.sources.dahlia.dahlia`.

    Examples
    --------
    >>> target = drawing("lizard", 32)
    >>> target.shape, float(target[3].max())
    ((4, 32, 32), 1.0)
    >>> drawing("buterfly", 32)
    Traceback (most recent call last):
    delira_nca.errors.UnknownNameError: unknown drawing 'buterfly'. Known: ... Did you mean 'butterfly'?
    """
    require_choice("drawing", name, DRAWINGS)
    if name == "dahlia":
        return dahlia(size)
    return _render(_LAYERS[name](), require_whole("size", size, _MIN_SIZE))


def load_target(target: str | os.PathLike[str], size: int) -> Target:
    """Load a target by the name of a drawing, or from an image file.

    Parameters
    ----------
    target : str or path-like
        One of :data:`DRAWINGS`; otherwise a file with transparency, as
        :func:`~delira_nca.data_loading.sources.rgba.load_image` reads it. Give a path with a folder, as in
        ``"./lizard"``, for a file with the name of a drawing.
    size : int
        Side of the target in cells; at least 8 for a drawing, at least 1 for a file.

    Returns
    -------
    (4, size, size) float32 array in [0, 1], premultiplied

    Raises
    ------
    UnknownNameError
        If it is neither a drawing nor a file. The message contains the most similar name.
    MissingFileError
        If a file does not exist, or is not an image.
    ConfigError
        If ``size`` is not an integer, or too small, or the image has no transparency.

    Examples
    --------
    >>> bool((load_target("fish", 24) == drawing("fish", 24)).all())
    True
    >>> load_target("mushrom", 24)
    Traceback (most recent call last):
    delira_nca.errors.UnknownNameError: 'mushrom' is neither a drawing nor a file. ... Did you mean 'mushroom'?
    """
    if target in DRAWINGS:
        return drawing(os.fspath(target), size)
    path = absolute(target)
    if path.is_file() or path.suffix:
        return load_image(path, size)
    raise UnknownNameError(f"{os.fspath(target)!r} is neither a drawing nor a file. {did_you_mean(target, DRAWINGS)}")


# -- shapes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """Discs along a curve, (N, 3): x, y, radius; with ``is_filled``, also the enclosed area."""

    discs: _Points
    is_filled: bool

    def grown(self, growth: float) -> _Points:
        return np.asarray(self.discs + np.array([0.0, 0.0, growth]))


@dataclass(frozen=True)
class _Layer:
    colour: _Colour
    shapes: tuple[_Shape, ...]
    outline: float


def _outlined(colour: _Colour, *shapes: _Shape, outline: float = 3.2) -> _Layer:
    return _Layer(colour, shapes, outline)


def _flat(colour: _Colour, *shapes: _Shape) -> _Layer:
    return _Layer(colour, shapes, 0.0)


def _stroke(*points: tuple[float, float, float]) -> _Shape:
    """Return a smooth line through points (x, y, radius)."""
    return _Shape(_spline(points, closed=False), is_filled=False)


def _disc(x: float, y: float, radius: float) -> _Shape:
    return _Shape(np.array([[x, y, radius]]), is_filled=False)


def _area(*points: _Point) -> _Shape:
    """Return the area inside a smooth closed curve through points (x, y)."""
    return _Shape(_spline([(x, y, 0.0) for x, y in points], closed=True), is_filled=True)


def _polygon(*corners: _Point, rounding: float = 0.0) -> _Shape:
    """Return a polygon, enlarged by ``rounding`` with round corners."""
    points = np.array([(x, y, rounding) for x, y in (*corners, corners[0])])
    sides = [np.linspace(a, b, _num_steps(a, b)) for a, b in itertools.pairwise(points)]
    return _Shape(np.concatenate(sides), is_filled=True)


def _ellipse(x: float, y: float, width: float, height: float, degrees: float = 0.0) -> _Shape:
    """Return an ellipse with two half axes, rotated clockwise about its centre."""
    angles = np.linspace(0, 2 * np.pi, math.ceil(2 * np.pi * max(width, height) / _SPACING), endpoint=False)
    curve = np.stack([x + width * np.cos(angles), y + height * np.sin(angles), 0 * angles], axis=1)
    return _turned(_Shape(curve, is_filled=True), degrees, (x, y))


def _turned(shape: _Shape, degrees: float, centre: _Point = (50, 50)) -> _Shape:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = np.array([*centre, 0.0])
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])  # for row vectors, with y pointing down
    return _Shape((shape.discs - middle) @ turn + middle, shape.is_filled)


def _both(*shapes: _Shape) -> tuple[_Shape, ...]:
    """Return the shapes and their mirror images in the other half of the canvas."""
    return (*shapes, *(_Shape(shape.discs * (-1, 1, 1) + (_UNITS, 0, 0), shape.is_filled) for shape in shapes))


def _at(centre: _Point, radius: float, degrees: float) -> _Point:
    """Return the point at a distance and an angle from another; 0 degrees is right, 90 is down."""
    return centre[0] + radius * math.cos(math.radians(degrees)), centre[1] + radius * math.sin(math.radians(degrees))


def _num_steps(a: _Points, b: _Points) -> int:
    return max(2, math.ceil(math.dist(a[:2], b[:2]) / _SPACING))


def _spline(points: Iterable[tuple[float, ...]], *, closed: bool) -> _Points:
    """Return a Catmull-Rom spline through the points."""
    knots = np.array([*points], dtype=np.float64)
    before, after = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    knots = np.concatenate([before, knots, after])
    pieces = []
    for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        t = np.linspace(0, 1, _num_steps(b, c))[:, None]
        pieces.append(b + t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a))) / 2)
    return np.concatenate(pieces)


def _render(layers: tuple[_Layer, ...], size: int) -> Target:
    """Draw the layers in a high resolution without anti-aliasing, and average premultiplied colours over each cell."""
    from PIL import Image, ImageDraw

    reach = np.concatenate([shape.grown(layer.outline) for layer in layers for shape in layer.shapes])
    low, high = (reach[:, :2] - reach[:, 2:]).min(axis=0), (reach[:, :2] + reach[:, 2:]).max(axis=0)
    fine = max(_MIN_PIXELS // size, 4)  # pixels along the side of a cell
    scale = size * fine / (high - low).max()
    shift = np.append(size * fine / 2 - scale * (low + high) / 2, 0.0)  # centre the drawing on the grid
    canvas = Image.new("L", (size * fine, size * fine))  # indices of colours
    draw = ImageDraw.Draw(canvas)
    colours = [(0, 0, 0, 0), (*_INK, 255), *((*layer.colour, 255) for layer in layers)]
    for number, layer in enumerate(layers, start=2):
        for growth, fill in ((layer.outline, 1), (0.0, number)):
            for shape in layer.shapes:
                discs = shift + scale * shape.grown(growth)
                if shape.is_filled:
                    draw.polygon(discs[:, :2].ravel().tolist(), fill=fill)
                for x, y, radius in discs[discs[:, 2] > 0].tolist():
                    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    line = np.arange(size * fine) // fine
    cells = size * line[:, None] + line
    pixels = len(colours) * cells + np.asarray(canvas)
    counts = np.bincount(pixels.ravel(), minlength=size * size * len(colours)).reshape(size, size, len(colours))
    means = counts @ np.array(colours) / (255 * fine**2)  # exact: sums of integers
    return np.ascontiguousarray(np.moveaxis(means, -1, 0), dtype=np.float32)


# -- pictures --------------------------------------------------------------------------------------------------------


def _lizard() -> tuple[_Layer, ...]:
    limbs = []
    for hip, knee, foot, first_toe in (
        ((52, 40), (34, 43), (24, 31), -165),
        ((53, 38), (71, 44), (84, 37), -110),
        ((50, 64), (33, 61), (21, 68), 85),
        ((54, 66), (72, 65), (82, 75), -15),
    ):
        limbs.append(_stroke((*hip, 6), (*knee, 5), (*foot, 5)))
        limbs += [_stroke((*foot, 3), (*_at(foot, 6.5, first_toe + turn), 2.4)) for turn in (0, 60, 120)]
    trunk = _stroke((61, 12, 10), (61, 17, 12.5), (58, 29, 9.5), (51, 42, 11.5), (48, 54, 12.5), (51, 66, 10.5))
    tail = _stroke((51, 66, 10.5), (58, 77, 7.5), (60, 88, 6), (52, 97, 5), (40, 99, 4.2), (29, 97, 3.4), (19, 91, 2.4))
    spots = ((54, 36, 4.6), (49, 51, 5.4), (51, 66, 4.6))
    return (
        _outlined((98, 190, 66), *limbs, trunk, tail, _disc(48.5, 12, 6.6), _disc(73.5, 17, 6.6)),
        _flat((250, 214, 70), *(_disc(*spot) for spot in spots)),
        _flat(_WHITE, _disc(49, 12, 5.8), _disc(73, 17, 5.8)),
        _flat(_INK, _disc(50, 10.5, 3.4), _disc(73.5, 15, 3.4)),
    )


def _butterfly() -> tuple[_Layer, ...]:
    upper = _area((50, 46), (42, 28), (26, 12), (9, 12), (5, 26), (12, 44), (28, 54), (46, 54))
    lower = _area((48, 52), (32, 54), (17, 62), (16, 77), (26, 88), (38, 82), (47, 66))
    return (
        _outlined(_INK, *_both(_stroke((49, 28, 1), (44, 15, 1), (35, 8, 1)), _disc(35, 8, 2.5)), outline=0.8),
        _outlined((255, 136, 38), *_both(upper)),
        _outlined((252, 192, 52), *_both(lower)),
        _flat((255, 236, 156), *_both(_ellipse(22, 28, 9.5, 7, 40))),
        _flat((52, 128, 226), *_both(_disc(29, 71, 7))),
        _flat(_INK, _disc(50, 29, 6.5), _stroke((50, 30, 4.5), (50, 44, 5.2), (50, 60, 5), (50, 80, 3))),
    )


def _fish() -> tuple[_Layer, ...]:
    tail = _area((66, 50), (78, 40), (94, 26), (97, 36), (91, 50), (97, 64), (94, 74), (78, 60))
    fins = _area((28, 32), (40, 14), (56, 12), (66, 20), (66, 36)), _area((40, 72), (50, 86), (61, 86), (62, 70))
    body = ((3, 50), (12, 35), (32, 24), (54, 27), (72, 42), (78, 50), (72, 58), (54, 73), (32, 76), (12, 65))
    return (
        _outlined((255, 168, 60), tail, *fins),
        _outlined((255, 112, 36), _area(*body)),
        _outlined(_WHITE, _area((37, 24.5), (45, 25), (42.5, 50), (45, 75), (37, 75.5), (33.5, 50)), outline=2.2),
        _outlined(_WHITE, _area((61, 33), (67, 37.5), (66, 50), (67, 62.5), (61, 67), (59, 50)), outline=2.2),
        _flat(_WHITE, _disc(19.5, 43, 6.8)),
        _flat(_INK, _disc(18, 43, 4.2), _stroke((6, 57, 1.5), (12, 60.5, 1.5), (18, 59, 1.5))),
    )


def _heart() -> tuple[_Layer, ...]:
    tip = _polygon((50, 88), (12.65, 50.2), (50, 30), (87.35, 50.2))  # its sides touch the discs
    return (
        _outlined((226, 38, 62), tip, *_both(_disc(29, 34, 23)), outline=3.6),
        _flat((255, 164, 174), _stroke((18, 37, 3.8), (20, 26, 4.4), (30, 20, 3.8))),
    )


def _mushroom() -> tuple[_Layer, ...]:
    cap = (
        (4, 50),
        (8, 32),
        (24, 13),
        (50, 6),
        (76, 13),
        (92, 32),
        (96, 50),
        (88, 59),
        (70, 58),
        (50, 56),
        (30, 58),
        (12, 59),
    )
    spots = ((48, 25, 9), (23, 40, 7.5), (74, 39, 8.5), (49, 48, 4.5), (72, 19, 3.8), (27, 20, 3.6))
    return (
        _outlined(
            (250, 232, 200), _area((35, 50), (65, 50), (66, 72), (71, 88), (61, 94), (39, 94), (29, 88), (34, 72))
        ),
        _outlined((222, 48, 44), _area(*cap)),
        _flat(_WHITE, *(_disc(*spot) for spot in spots)),
        _flat(_INK, *_both(_ellipse(43, 73, 2.8, 4.4)), _stroke((45.5, 82.5, 1.5), (50, 85, 1.5), (54.5, 82.5, 1.5))),
    )


def _flower() -> tuple[_Layer, ...]:
    turns = range(0, 360, 60)
    return (
        *(_outlined((240, 106, 168), _turned(_ellipse(50, 22, 13, 19), turn)) for turn in turns),
        _flat((255, 182, 212), *(_turned(_ellipse(50, 19, 6, 9), turn) for turn in turns)),
        _outlined((255, 206, 62), _disc(50, 50, 16)),
        _flat(_INK, *_both(_ellipse(44, 46, 2.6, 3.6)), _stroke((43, 54.5, 1.5), (50, 58.5, 1.5), (57, 54.5, 1.5))),
    )


def _star() -> tuple[_Layer, ...]:
    corners = [_at((50, 52), radius, turn) for k in range(5) for radius, turn in ((42, 72 * k - 90), (23, 72 * k - 54))]
    return (
        _outlined((255, 206, 54), _polygon(*corners, rounding=5)),
        _flat(_INK, *_both(_ellipse(40.5, 50, 3.6, 5)), _stroke((41, 62, 1.8), (50, 67, 1.8), (59, 62, 1.8))),
        _flat((255, 138, 92), *_both(_disc(31.5, 58.5, 4))),
    )


def _turtle() -> tuple[_Layer, ...]:
    centre, turns = (50, 56), range(0, 360, 60)
    seams = [_stroke((*_at(centre, 13, turn), 1.5), (*_at(centre, 32, turn), 1.5)) for turn in turns]
    legs = _both(_ellipse(20, 33, 15, 9, 40), _ellipse(23, 82, 12, 8, -45))
    return (
        _outlined((160, 208, 84), *legs, _stroke((50, 86, 4), (50, 97, 1.8)), _ellipse(50, 16, 14, 14.5)),
        _outlined((48, 136, 84), _ellipse(*centre, 31, 32)),
        _flat(_INK, *seams),
        _outlined((244, 200, 84), _polygon(*(_at(centre, 13, turn) for turn in turns)), outline=1.5),
        _flat(_INK, *_both(_ellipse(42.5, 11, 2.8, 3.6))),
    )


def _ladybird() -> tuple[_Layer, ...]:
    legs = (((38, 50), (15, 43), (8, 33)), ((38, 61), (11, 61), (3, 64)), ((38, 72), (17, 81), (10, 92)))
    feelers = _stroke((46, 20, 2), (40, 9, 2), (31, 5, 3.4))
    return (
        _flat(_INK, *_both(*(_stroke(*((*point, 2.5) for point in leg)) for leg in legs), feelers)),
        _flat(_INK, _ellipse(50, 26, 22, 18)),
        _outlined((228, 42, 40), _ellipse(50, 60, 37, 35)),
        _flat(
            _INK,
            _stroke((50, 27, 2.4), (50, 94, 2.4)),
            *_both(_disc(32, 45, 6.4), _disc(26, 66, 6.4), _disc(38, 82, 5.4)),
        ),
        _flat(_WHITE, *_both(_disc(39.5, 20, 4.6))),
    )


def _snail() -> tuple[_Layer, ...]:
    spiral = [(*_at((58, 44), 22 - 0.042 * turn, 100 + turn), 1.9) for turn in range(0, 501, 20)]
    body = _stroke((94, 84, 3), (78, 83, 7), (50, 83, 9), (28, 79, 9), (17, 64, 9), (16, 49, 10))
    stalks = _stroke((12, 46, 2.2), (7, 26, 2.2)), _stroke((20, 46, 2.2), (27, 26, 2.2))
    return (
        _outlined((248, 208, 112), body, *stalks, _disc(6, 22, 4.4), _disc(28, 22, 4.4)),
        _outlined((216, 104, 68), _disc(58, 47, 32)),
        _flat((116, 40, 46), _stroke(*spiral)),
        _flat(_INK, _disc(13, 48, 3), _stroke((8, 57, 1.5), (12, 60, 1.5), (16, 59, 1.5))),
    )


_LAYERS: Mapping[str, Callable[[], tuple[_Layer, ...]]] = MappingProxyType(
    {
        "lizard": _lizard,
        "butterfly": _butterfly,
        "fish": _fish,
        "heart": _heart,
        "mushroom": _mushroom,
        "flower": _flower,
        "star": _star,
        "turtle": _turtle,
        "ladybird": _ladybird,
        "snail": _snail,
    }
)

DRAWINGS = (*_LAYERS, "dahlia")
"""Names of all drawings. ``"dahlia"`` is from a photograph."""
