"""Decoding of file contents to arrays: idx, gzipped tables, PNG, TIFF, NIfTI."""

from __future__ import annotations

import gzip
import importlib
import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, MissingDependencyError

__all__ = ["read_idx", "read_nifti", "read_picture", "read_table", "read_tiff"]


def read_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """Decode an idx file, the format of MNIST.

    Parameters
    ----------
    content : bytes
        Content of the file: two zero bytes, the type (8: unsigned bytes), the number of axes, the length of each axis
        as four big-endian bytes, and the values.

    Returns
    -------
    uint8 array of the shape in the file, writeable

    Raises
    ------
    ConfigError
        If it is not an idx file of unsigned bytes, or its length does not match its shape.

    Notes
    -----
    LeCun, Cortes, Burges: "The MNIST database of handwritten digits", section "file formats".

    Examples
    --------
    >>> read_idx(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [[7, 8, 9]]
    """
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    if content[:3] != b"\x00\x00\x08" or not axes or len(content) < start:
        raise ConfigError(
            f"this is not an idx file of unsigned bytes; it begins with {content[:4].hex(' ') or 'nothing'}"
        )
    shape = tuple(int(length) for length in np.frombuffer(content, dtype=">u4", count=axes, offset=4))
    if len(content) - start != math.prod(shape):
        raise ConfigError(f"an idx file of shape {shape} with {len(content) - start} values")
    return np.array(np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape))


def read_table(content: bytes) -> npt.NDArray[np.int64]:
    r"""Decode a gzipped table of comma-separated integers to a (rows, columns) array.

    Examples
    --------
    >>> read_table(gzip.compress(b"1,2\n3,4\n")).tolist()
    [[1, 2], [3, 4]]
    """
    table = np.loadtxt(io.BytesIO(gzip.decompress(content)), delimiter=",", ndmin=2)
    return table.astype(np.int64)


def read_picture(content: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image by Pillow: (H, W) if it is grey, else (H, W, channels)."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.array(image, dtype=np.uint8)


def read_tiff(content: bytes) -> npt.NDArray[Any]:
    """Decode a TIFF file, pages first. Unsigned 16-bit values are converted to int32, which torch supports.

    Raises
    ------
    MissingDependencyError
        If tifffile, a dependency of scikit-image, is missing.
    """
    array = np.asarray(_library("tifffile", "pip install tifffile").imread(io.BytesIO(content)))
    return array.astype(np.int32) if array.dtype == np.uint16 else array


def read_nifti(content: bytes) -> npt.NDArray[Any]:
    """Decode a NIfTI-1 file, gzipped or not, with its order of axes and the scaling of its header.

    Raises
    ------
    MissingDependencyError
        If nibabel is missing.
    """
    nibabel = _library("nibabel", "pip install 'delira_nca[medical]'")
    raw = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    return np.array(np.asanyarray(nibabel.Nifti1Image.from_bytes(raw).dataobj), order="C")


def _library(name: str, command: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{name} is needed to read this file: {command}") from error
