"""Dataset for automata that generate one texture."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.data_loading import sources
from delira_nca.data_loading.dataset import AbstractDataset, repeat
from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError, did_you_mean
from delira_nca.io.paths import absolute

__all__ = ["texture_dataset"]

_TEXTURES = ("brick", "grass", "gravel")


def texture_dataset(
    picture: str | os.PathLike[str] = "brick",
    size: int = 64,
    shrink: int = 2,
    *,
    num_channels: int = 12,
    times: int = 200,
) -> AbstractDataset:
    """Return a dataset of equal samples: a state of zeros as ``data``, and the texture as ``label``.

    Parameters
    ----------
    picture : str or path-like
        ``"brick"``, ``"grass"`` or ``"gravel"``, photographs of scikit-image, whose grey levels are scaled to the
        interval from 0 to 1; or the path of an image file.
    size : int
        Number of cells along each side of the texture, which is cut from the upper left corner of the picture.
    shrink : int
        Factor by which the picture is reduced before.
    num_channels : int
        Number of channels of the state.
    times : int
        Number of samples per epoch.

    Returns
    -------
    dataset of ``{"data": (num_channels, size, size), "label": (3, size, size)}``

    Raises
    ------
    UnknownNameError
        If the picture is neither a texture nor a file.
    MissingDependencyError
        If scikit-image is not installed.
    ConfigError, MissingFileError
        If a number is out of range, or the file is missing, not an image or too small.

    Examples
    --------
    >>> from PIL import Image
    >>> file = getfixture("tmp_path") / "red.png"
    >>> Image.new("RGB", (40, 40), (255, 0, 0)).save(file)
    >>> sample = texture_dataset(file, 16, times=3)[0]
    >>> sample["data"].shape, sample["label"].mean((1, 2)).tolist()
    ((12, 16, 16), [1.0, 0.0, 0.0])
    """
    size, shrink = require_whole("size", size, 1), require_whole("shrink", shrink, 1)
    num_channels = require_whole("num_channels", num_channels, 3)
    pixels = _pixels(picture)
    height, width = (n // shrink for n in pixels.shape[1:])
    if min(height, width) < size:
        raise ConfigError(
            f"{os.fspath(picture)!r} has {height} x {width} pixels after the reduction by shrink={shrink}, fewer than "
            f"size={size}"
        )
    cut = pixels[:, : size * shrink, : size * shrink].reshape(3, size, shrink, size, shrink).mean((2, 4))
    return repeat({"data": np.zeros((num_channels, size, size), np.float32), "label": cut}, times)


def _pixels(picture: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Return a (3, H, W) picture with values in [0, 1]."""
    if picture in _TEXTURES:
        grey = np.asarray(sources.open(str(picture))["data"], np.float32)
        return np.repeat((grey - grey.min()) / (grey.max() - grey.min()), 3, 0)
    from PIL import Image, ImageOps

    path = absolute(picture)
    if not path.is_file() and not path.suffix:
        raise UnknownNameError(
            f"{os.fspath(picture)!r} is neither a texture nor a file. {did_you_mean(os.fspath(picture), _TEXTURES)}"
        )
    try:
        with Image.open(path) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.float32)
    except OSError as error:
        reason = error.strerror or "it is not a picture that Pillow can read"
        raise MissingFileError(f"cannot open the picture {os.fspath(path)!r}: {reason}") from error
    return np.asarray(pixels.transpose(2, 0, 1) / 255, np.float32)
