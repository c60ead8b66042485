"""Reading of image files in every bit depth that Pillow supports exactly, and of TIFF stacks."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Picture", "read_picture"]

_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _DESCRIPTION = 254, 258, 262, 270
_ORIENTATION, _SAMPLES, _SAMPLE_FORMAT = 274, 277, 339
"""TIFF tags."""
_COLOURS = ("RGB", "RGBA", "LA", "RGBX", "RGBa", "La", "PA")
_CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV")


class Picture(NamedTuple):
    """Pixels of an image file.

    Attributes
    ----------
    pixels : ndarray
        (H, W), (H, W, channels), (pages, H, W) or (pages, H, W, channels) array
    largest : number
        Value of full brightness; 1 if values are not scaled.
    has_channels : bool
        Whether the last axis is that of channels.
    """

    pixels: npt.NDArray[Any]
    largest: int
    has_channels: bool


def read_picture(path: str | os.PathLike[str], as_colours: bool = False) -> Picture:
    """Read an image, or all pages of a TIFF stack.

    Parameters
    ----------
    path : str or path-like
        Path of the file.
    as_colours : bool
        Whether to convert palettes to colours, and scale 2-bit and 4-bit grey values to 8 bits. Otherwise palette
        indices and grey values are returned as stored.

    Returns
    -------
    Picture

    Raises
    ------
    ConfigError
        If Pillow cannot read the pixels exactly, or the pages are not slices of one volume.
    """
    from PIL import Image, UnidentifiedImageError

    file = os.fspath(path)
    try:
        opening = Image.open(path)
    except UnidentifiedImageError as error:
        if not (kind := _kind_of_tiff(path)):
            raise
        raise ConfigError(f"{file!r} is {kind}, which Pillow does not read: save it as .npy, or in 32 bits") from error
    with opening as opened:
        description = str(_tag(opened, _DESCRIPTION, "")) if opened.format == "TIFF" else ""
        pages = _pages(opened, file)
        parts = [_page(opened, path, number, as_colours) for number in pages]
    for number, part in enumerate(parts):
        if (part.pixels.shape, part.largest) != (parts[0].pixels.shape, parts[0].largest):
            raise ConfigError(
                f"{file!r} is not a stack: page {number} is {part.pixels.shape} with values up to {part.largest}, "
                f"page 0 is {parts[0].pixels.shape} with values up to {parts[0].largest}"
            )
    _require_slices(description, file, len(parts))
    if len(parts) == 1:
        return parts[0]
    return parts[0]._replace(pixels=np.stack([part.pixels for part in parts]))


def _pages(opened: Image, file: str) -> list[int]:
    """Return the numbers of the pages to read, without thumbnails."""
    count = getattr(opened, "n_frames", 1)
    if count == 1 or opened.format in ("JPEG", "MPO"):  # JPEGs of cameras may contain previews
        return [0]
    if opened.format != "TIFF":
        raise ConfigError(f"{file!r} is an animation of {count} pictures; save the one that is meant, or a TIFF stack")
    pages = []
    for number in range(count):
        opened.seek(number)
        if not _tag(opened, _SUBFILE_TYPE, 0) & 1:
            pages.append(number)
    return pages or [0]


def _page(opened: Image, path: str | os.PathLike[str], number: int, as_colours: bool) -> Picture:
    from PIL import ImageOps

    opened.seek(number)
    file, mode, raw = os.fspath(path), opened.mode, _raw_mode(opened)
    bits = int(found[1]) if (found := re.search(r";(\d+)", raw)) else 8
    if opened.format == "TIFF":
        bits = _require_exact(opened, file, as_colours)
    if mode in (*_COLOURS, *_CONVERTED) and bits > 8 and opened.format in ("PNG", "TIFF"):
        return _colours_of_16_bits(opened, path, number, bits)
    is_signed = opened.format == "TIFF" and _tag(opened, _SAMPLE_FORMAT, (1,))[0] == 2
    image = ImageOps.exif_transpose(opened)
    if as_colours and mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or mode == "PA" else "RGB")
    elif mode in _CONVERTED:
        image = image.convert("RGB")
    pixels = np.asarray(image)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if image.mode in ("1", "F"):
        return Picture(pixels, 1, has_channels=False)
    if image.mode == "I" or image.mode.startswith("I;16"):
        kind = np.dtype(f"{'int' if is_signed else 'uint'}{16 if bits <= 16 else 32}")
        pixels = pixels.view(kind) if pixels.dtype.itemsize == kind.itemsize else pixels.astype(kind)
        return Picture(pixels, 2 ** (bits - is_signed) - 1, has_channels=False)
    if is_signed:
        return Picture(pixels.view(np.int8), 127, has_channels=pixels.ndim == 3)
    if image.mode == "L" and bits < 8 and not as_colours:
        pixels = pixels // (255 // (2**bits - 1))  # Pillow scales 2 and 4 bits to 8
    return Picture(pixels, 255, has_channels=pixels.ndim == 3)


def _kind_of_tiff(path: str | os.PathLike[str]) -> str:
    """Describe the values of a TIFF that Pillow does not support; empty for another file."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        with open(path, "rb") as file:
            head = file.read(8)
            tags = ImageFileDirectory_v2(head + file.read(8 if head[2:3] == b"+" or head[3:4] == b"+" else 0))
            file.seek(tags.next)
            tags.load(file)
    except Exception:  # not a TIFF, or damaged
        return ""
    kinds = {
        1: "unsigned integers",
        2: "signed integers",
        3: "floating-point numbers",
        5: "pairs",
        6: "complex numbers",
    }
    kind, bits = tags.get(_SAMPLE_FORMAT, (1,))[0], tags.get(_BITS, (1,))[0]
    order = "big-endian " if head.startswith(b"MM") else ""
    return f"a {order}TIFF of {kinds.get(kind, 'values')} of {bits} bits, {tags.get(_SAMPLES, 1)} in a pixel"


def _raw_mode(opened: Image) -> str:
    """Return Pillow's raw mode of the stored pixels, for example ``"RGB;16B"``."""
    tiles = getattr(opened, "tile", None)
    arguments = tiles[0][3] if tiles else opened.mode
    return str(arguments[0] if isinstance(arguments, (tuple, list)) and arguments else arguments)


def _tag(opened: Any, number: int, default: Any) -> Any:
    return opened.tag_v2.get(number, default)


def _require_exact(opened: Image, file: str, as_colours: bool) -> int:
    """Check that Pillow reads a TIFF page completely and in order; return its bits per sample."""
    bits = _tag(opened, _BITS, (1,))[0]
    samples, known = _tag(opened, _SAMPLES, 1), len(opened.getbands())
    if samples != known:
        raise ConfigError(f"{file!r} has {samples} values in a pixel, of which Pillow reads {known}: save it as .npy")
    if _tag(opened, _ORIENTATION, 1) > 4:  # Pillow swaps rows and columns of uncompressed files
        raise ConfigError(f"{file!r} is stored on its side (orientation tag): save it upright")
    is_inverted = _tag(opened, _PHOTOMETRIC, 1) == 0
    if is_inverted and bits > (8 if as_colours else 1):
        raise ConfigError(f"{file!r} is a TIFF in which 0 is white: save it with 0 as black")
    return int(bits)


def _colours_of_16_bits(opened: Image, path: str | os.PathLike[str], number: int, bits: int) -> Picture:
    """Read 16-bit colours in two passes with different byte orders, as Pillow keeps only the upper 8 bits."""
    from PIL import Image, ImageOps

    raw = _raw_mode(opened)
    if bits != 16 or opened.mode not in ("RGB", "RGBA") or not raw.startswith(f"{opened.mode};16"):
        raise ConfigError(
            f"{os.fspath(path)!r} has colours of {bits} bits in a layout ({raw}) that Pillow does not read exactly: "
            "save them in 8 bits, or as .npy"
        )
    is_big = raw.endswith("B") or (raw.endswith("N") and sys.byteorder == "big")
    halves = []
    for order in "BL" if is_big else "LB":
        with Image.open(path) as again:
            again.seek(number)
            again.tile = [_reordered(tile, f"{opened.mode};16{order}") for tile in again.tile]
            again.load()
            halves.append(np.asarray(ImageOps.exif_transpose(again)).astype(np.uint16))
    return Picture(halves[0] * 256 + halves[1], 65535, has_channels=True)


def _reordered(tile: Any, raw: str) -> Any:
    """Return the tile with another raw mode. Tiles of Pillow are tuples, or named tuples in newer versions."""
    changed = (*tile[:3], raw if isinstance(tile[3], str) else (raw, *tile[3][1:]))
    return type(tile)(*changed) if hasattr(tile, "_fields") else changed


def _require_slices(description: str, file: str, pages: int) -> None:
    """Check that pages are slices, not channels, time points or a mixture, if the file describes them."""
    text, counts = description.strip(), dict[str, Any]()
    if text.startswith("ImageJ="):
        told = dict(re.findall(r"^(\w+)=(\d+)\s*$", text, flags=re.MULTILINE))
        counts |= {name: int(told.get(name, 1)) for name in ("channels", "slices", "frames")}
        is_volume = max(counts["channels"], counts["frames"]) == 1 and int(told.get("images", pages)) == pages
    elif "<OME" in text:
        counts |= {name: int(found[1]) for name in "CZT" if (found := re.search(rf'\bSize{name}="(\d+)"', text))}
        is_volume = counts.get("Z") == pages
    elif text.startswith('{"shape"'):
        counts["shape"], leading = json.loads(text)["shape"], list[int]()
        for length in counts["shape"][:-2]:
            if math.prod(leading) < pages:
                leading.append(length)
        is_volume = sum(length > 1 for length in leading) < 2
    else:
        return
    if not is_volume:
        raise ConfigError(
            f"{file!r} has {pages} pages that are not the slices of one volume, but "
            f"{', '.join(f'{name} {count}' for name, count in counts.items())}: save one volume in each file, "
            "channels as an axis of an .npy"
        )
