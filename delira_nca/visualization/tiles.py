"""Images made of rows of small images with captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Tile", "lay_out"]

Tile = tuple[str, npt.NDArray[np.uint8]]
"""Caption, and (H, W, 3) pixels."""

_TILE = 160  # minimum number of pixels along the longer side of a tile
_GAP = 8  # pixels
_PAPER, _INK, _SOFT, _LINE = (255, 255, 255), (40, 42, 48), (110, 113, 120), (208, 208, 208)


def lay_out(title: str, rows: Sequence[Sequence[Tile]], note: str = "") -> Image.Image:
    """Arrange tiles of one size in rows, enlarged without smoothing.

    Parameters
    ----------
    title : str
        Text at the top left.
    rows : sequence of sequence of Tile
        Tiles, with their captions below.
    note : str
        Text at the top right.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = rows[0][0][1].shape[:2]
    scale = math.ceil(_TILE / max(height, width))
    height, width = height * scale, width * scale
    captions, heading = ImageFont.load_default(14), ImageFont.load_default(18)
    row_height, top = height + 20 + _GAP, 24 + _GAP
    size = _GAP + max(map(len, rows)) * (width + _GAP), top + len(rows) * row_height
    picture = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((_GAP, _GAP // 2), title, _INK, heading)
    pen.text((size[0] - _GAP, _GAP), note, _SOFT, captions, anchor="ra")
    for number, row in enumerate(rows):
        for column, (caption, pixels) in enumerate(row):
            x, y = _GAP + column * (width + _GAP), top + number * row_height
            picture.paste(Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1)), (x, y))
            pen.rectangle((x - 1, y - 1, x + width, y + height), outline=_LINE)
            pen.text((x, y + height + 3), caption, _INK, captions)
    return picture
