"""Images as targets: ``(4, H, W)`` float32 with red, green, blue and alpha in [0, 1], premultiplied.

With premultiplied alpha a transparent pixel is zero in all four channels, like a dead cell. Averaging of pixels, as in
resizing, needs premultiplied colours; otherwise the hidden colours of transparent pixels affect the edges.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.data_loading.readers.resize import area_weights
from delira_nca.errors import ConfigError, MissingFileError, ShapeError
from delira_nca.io.paths import absolute

__all__ = ["Target", "area_resize", "fit_square", "load_image", "place", "premultiply"]

Target = npt.NDArray[np.float32]


def premultiply(pixels: npt.NDArray[np.uint8]) -> Target:
    """Convert 8-bit pixels with alpha to a target.

    Parameters
    ----------
    pixels : ndarray
        (H, W, 4) uint8 array of red, green, blue and alpha as in image files, not premultiplied.

    Returns
    -------
    (4, H, W) float32 array in [0, 1]

    Examples
    --------
    >>> premultiply(np.array([[[255, 0, 51, 51]]], dtype=np.uint8)).ravel().round(2).tolist()
    [0.2..., 0.0, 0.03..., 0.2...]
    """
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise ShapeError(f"pixels must be (H, W, 4) uint8, not {pixels.shape} {pixels.dtype}")
    channels = pixels.transpose(2, 0, 1).astype(np.float64) / 255
    channels[:3] *= channels[3]
    return np.ascontiguousarray(channels, dtype=np.float32)


def area_resize(image: Target, height: int, width: int) -> Target:
    """Resize by area averaging: a new pixel is the mean of exactly the area that it covers.

    The weights are not negative, so there is no ringing and colours remain at most alpha. For an integer factor this is
    the mean over blocks; enlarging keeps pixels as sharp squares.

    Parameters
    ----------
    image : ndarray of float32
        (C, H, W) array.
    height, width : int
        New size, at least 1 each.

    Returns
    -------
    (C, height, width) float32 array

    Examples
    --------
    >>> area_resize(np.array([[[0.0, 0.3, 0.6]]], dtype=np.float32), 1, 2).ravel().round(4).tolist()
    [0.1..., 0.5...]
    """
    if image.ndim != 3 or 0 in image.shape:
        raise ShapeError(f"an image to resize is (C, H, W) with no empty axis, not {image.shape}")
    rows = area_weights(image.shape[1], require_whole("height", height, 1))
    columns = area_weights(image.shape[2], require_whole("width", width, 1))
    return np.asarray(rows @ image.astype(np.float64) @ columns.T, dtype=np.float32)


def fit_square(image: Target, size: int) -> Target:
    """Resize the longer side to ``size``, keeping the aspect ratio, and centre the image in a transparent square.

    Parameters
    ----------
    image : ndarray of float32
        (4, H, W) target
    size : int
        Side of the square, at least 1.

    Returns
    -------
    (4, size, size) target

    Examples
    --------
    >>> fit_square(np.ones((4, 2, 8), dtype=np.float32), 4)[3].tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    _require_target(image)
    require_whole("size", size, 1)
    height, width = image.shape[1:]
    scale = size / max(height, width)
    fitted = area_resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
    np.minimum(fitted[:3], fitted[3], out=fitted[:3])  # rounding to float32 may make a colour exceed its alpha
    return place(fitted, size)


def place(target: Target, grid: int) -> Target:
    """Centre a target on an empty grid; if the margin is odd, it is one cell closer to the upper left.

    Parameters
    ----------
    target : ndarray of float32
        (4, H, W) array
    grid : int
        Side of the square grid, at least ``max(H, W)``.

    Returns
    -------
    (4, grid, grid) float32 array, zero around the target

    Raises
    ------
    ShapeError
        If the target is not (4, H, W), or larger than the grid.

    Examples
    --------
    >>> place(np.ones((4, 1, 1), dtype=np.float32), 3)[0].tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    _require_target(target)
    require_whole("grid", grid, 1)
    height, width = target.shape[1:]
    if max(height, width) > grid:
        raise ShapeError(
            f"a target of {height} x {width} does not fit on a grid of {grid} x {grid}; "
            f"give a grid of at least {max(height, width)}, or a smaller target"
        )
    top, left = (grid - height) // 2, (grid - width) // 2
    placed = np.zeros((4, grid, grid), dtype=np.float32)
    placed[:, top : top + height, left : left + width] = target
    return placed


def load_image(path: str | os.PathLike[str], size: int) -> Target:
    """Read an image with an alpha channel as a target.

    The colours are premultiplied, then the image is resized (area averaging, longer side to ``size``, constant aspect
    ratio) and centred in a square. The EXIF orientation is applied. The first frame of an animation is used.

    Parameters
    ----------
    path : str or path-like
        Image file that Pillow supports: PNG, WebP, GIF, TIFF, ...
    size : int
        Side of the target, at least 1.

    Returns
    -------
    (4, size, size) float32 array in [0, 1], premultiplied

    Raises
    ------
    ConfigError
        If the image has no alpha channel, or is completely transparent.
    MissingFileError
        If the file does not exist or is not an image (also a ``FileNotFoundError``).

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "red.png"
    ...     Image.new("RGBA", (20, 10), (255, 0, 0, 255)).save(file)
    ...     target = load_image(file, 4)
    >>> target.shape, target[0, :, 0].tolist()
    ((4, 4, 4), [0.0, 1.0, 1.0, 0.0])
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    require_whole("size", size, 1)
    path = absolute(path)
    try:
        opened = Image.open(path)
    except UnidentifiedImageError as error:
        raise MissingFileError(f"{os.fspath(path)!r} is not a picture that Pillow can read") from error
    except OSError as error:
        raise MissingFileError(f"cannot open the picture {os.fspath(path)!r}: {error.strerror}") from error
    with opened as image:
        if "A" not in image.getbands() and "transparency" not in image.info:
            raise ConfigError(
                f"{os.fspath(path)!r} has no alpha channel (its mode is {image.mode!r}), so nothing says which "
                "pixels are the target and which the background. Erase the background in an image editor and "
                "save a PNG with transparency; or, if the whole rectangle is the target, add an opaque channel: "
                "Image.open(path).convert('RGBA').save('target.png')"
            )
        pixels = np.asarray(ImageOps.exif_transpose(image.convert("RGBA")))
    if not pixels[..., 3].any():
        raise ConfigError(f"{os.fspath(path)!r} is transparent everywhere: there is nothing to grow")
    return fit_square(premultiply(pixels), size)


def _require_target(image: Target) -> None:
    if image.ndim != 3 or image.shape[0] != 4 or 0 in image.shape:
        raise ShapeError(f"a target is (4, H, W): red, green, blue, alpha; not {image.shape}")
