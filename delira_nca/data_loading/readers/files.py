"""Reading of files to arrays: images, NumPy arrays and NIfTI volumes, by their suffix."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.batches import located
from delira_nca.data_loading.normalize import cast
from delira_nca.data_loading.readers.pictures import read_picture
from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError, ShapeError, did_you_mean
from delira_nca.io.paths import absolute

__all__ = [
    "ENDINGS",
    "JPEG_THRESHOLD",
    "PICTURES",
    "count_non_finite",
    "describe_file",
    "find_file",
    "normal_name",
    "read_array",
    "read_image",
    "read_label",
    "require_readable",
    "split_ending",
]

PathLike = str | os.PathLike[str]

JPEG = (".jpg", ".jpeg")
PICTURES = (".png", *JPEG, ".bmp", ".tif", ".tiff")
NIFTI = (".nii", ".nii.gz")
ENDINGS = (*PICTURES, ".npy", ".npz", *NIFTI)
"""Supported suffixes."""

JPEG_THRESHOLD = 127
"""Threshold of the foreground in JPEG masks, which have no exact values."""


def split_ending(name: str) -> tuple[str, str]:
    """Split a file name into stem and lower-case suffix; ``.nii.gz`` is one suffix.

    Examples
    --------
    >>> split_ending("brain.1.nii.gz"), split_ending("a.PNG"), split_ending("notes")
    (('brain.1', '.nii.gz'), ('a', '.png'), ('notes', ''))
    """
    ending = ".nii.gz" if name.lower().endswith(".nii.gz") else os.path.splitext(name)[1]
    return name[: len(name) - len(ending)], ending.lower()


def normal_name(name: str) -> str:
    """Normalise a name to composed Unicode (NFC), as some file systems and archives decompose accents.

    Examples
    --------
    >>> len("gro\u0308\u00dfe"), len(normal_name("gro\u0308\u00dfe"))
    (6, 5)
    """
    return unicodedata.normalize("NFC", name)


def find_file(path: Path) -> Path:
    """Return the file at a path, or one in the folder with a name that differs only in the composition of accents."""
    if path.exists() or path.name.isascii() or not path.parent.is_dir():
        return path
    same = (other for other in path.parent.iterdir() if normal_name(other.name) == normal_name(path.name))
    return next(same, path)


def read_array(path: PathLike, key: str | None = None) -> npt.NDArray[Any]:
    """Read an array from a file without conversion.

    Parameters
    ----------
    path : str or path-like
        Image (grey (H, W), palette indices (H, W), colour (H, W, 3 or 4)), TIFF stack with an additional first axis of
        pages, ``.npy``, ``.npz`` or NIfTI. The EXIF orientation of images is applied.
    key : str or None
        Name of the array in an ``.npz`` file; by default the only one.

    Raises
    ------
    MissingFileError
        If the file does not exist, or its content does not match the suffix.
    ConfigError
        If the suffix is unknown, an image cannot be read exactly (see `pictures.read_picture`), or an ``.npz`` file
        lacks the array.
    MissingDependencyError
        If it is a NIfTI file and nibabel is not installed.
    """
    path = absolute(path)
    require_readable(path)
    with _reading(path):
        if _ending(path) in PICTURES:
            return read_picture(path).pixels
        if _ending(path) in NIFTI:
            return np.asanyarray(_nibabel().load(path).dataobj)
        with open(path, "rb") as opened:  # numpy would leave a broken archive open
            loaded = np.load(opened, allow_pickle=False)
            return _member(loaded, path, key) if _ending(path) == ".npz" else np.asarray(loaded)


def read_image(path: PathLike, channel_axis: int | None = None, key: str | None = None) -> npt.NDArray[np.float32]:
    """Read an image, channels first.

    Images are scaled by their dtype: unsigned integers to [0, 1], signed integers of a TIFF to [-1, 1], by the largest
    value of their bit depth (255 of 8 bits, 4095 of 12, 65535 of 16); 12-bit values in a file that declares 16 bits are
    divided by 65535. Palettes are converted to colours. Floating-point TIFFs, arrays and NIfTI volumes keep their
    values.

    Parameters
    ----------
    path : str or path-like
        See `read_array`.
    channel_axis : int or None
        Axis of the channels in an ``.npy`` or ``.npz`` array; None adds one. In a NIfTI volume, the axes after the
        three spatial ones are channels.
    key : str or None
        Name of the array in an ``.npz`` file.

    Returns
    -------
    (C, *spatial) float32 array
        (C, pages, H, W) for a TIFF stack.
    """
    path, largest = absolute(path), 1
    if _ending(path) in PICTURES:
        require_readable(path)
        with _reading(path):
            array, largest, has_channels = read_picture(path, as_colours=True)
        channel_axis = -1 if has_channels else None
    else:
        array = read_array(path, key)
        if _ending(path) in NIFTI:
            channel_axis = -1 if array.ndim > 3 else None
    if array.dtype.kind not in "biuf" or not 0 < array.ndim < 5 or not array.size:
        raise ShapeError(f"{os.fspath(path)!r} holds no image, but {array.dtype} of shape {array.shape}")
    with np.errstate(over="ignore"):  # overflow becomes infinity, which `CaseDataset.check` reports
        values: npt.NDArray[np.float32] = array.astype(np.float32)
    if largest > 1:
        values = np.maximum(values / np.float32(largest), -1)  # the lowest signed value has no positive counterpart
    if channel_axis is None:
        return values[np.newaxis]
    if not -array.ndim <= channel_axis < array.ndim:
        raise ShapeError(f"{os.fspath(path)!r} has no axis {channel_axis}: its shape is {array.shape}")
    return np.ascontiguousarray(np.moveaxis(values, channel_axis, 0))


def read_label(path: PathLike, binarise: float | None = None, key: str | None = None) -> npt.NDArray[np.int64]:
    """Read a mask with the class of each cell.

    Images must be grey, or have a palette with the classes as indices. Values of any bit depth are not scaled. JPEG
    files have no exact values: the mask is 1 above 127, else 0.

    Parameters
    ----------
    path : str or path-like
        See `read_array`.
    binarise : float or None
        Threshold: values above it become 1, others 0, for example in masks with 0 and 255.
    key : str or None
        Name of the array in an ``.npz`` file.

    Returns
    -------
    spatial int64 array

    Raises
    ------
    ConfigError
        If a value is not an integer (with ``binarise``, not finite), or an image has colours.
    """
    path = absolute(path)
    file, ending = os.fspath(path), _ending(path)
    if ending in PICTURES:
        require_readable(path)
        with _reading(path):
            array, _, has_channels = read_picture(path)
        if has_channels:
            array = _grey(array, file, is_exact=ending not in JPEG)
    else:
        array = read_array(path, key)
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"{file!r} is not a mask of classes, but {array.dtype} of shape {array.shape}")
    if wrong := count_non_finite(array):
        raise ConfigError(f"{file!r} is not a mask of classes: {wrong} of {array.size} values are NaN or infinite")
    if ending in JPEG and binarise is None:
        binarise = JPEG_THRESHOLD
    try:
        return cast(array if binarise is None else array > binarise, np.int64)
    except ConfigError as error:
        raise located(error, f"{file!r} is not a mask of classes") from error


def describe_file(path: PathLike) -> dict[str, Any]:
    """Return the geometry of a NIfTI file, ``"affine"`` and ``"spacing"``; an empty dict for other files."""
    path = absolute(path)
    if _ending(path) not in NIFTI:
        return {}
    with _reading(path):
        image = _nibabel().load(path)
    return {"affine": np.array(image.affine), "spacing": tuple(float(mm) for mm in image.header.get_zooms()[:3])}


def require_readable(path: PathLike) -> None:
    """Check that a file exists and has a supported suffix, without reading it.

    Raises
    ------
    MissingFileError, ConfigError, MissingDependencyError
        If not. The message names the file.
    """
    path = absolute(path)
    ending = _ending(path)
    if ending not in ENDINGS:
        raise ConfigError(f"{os.fspath(path)!r}: no reader for the ending {ending!r}. {did_you_mean(ending, ENDINGS)}")
    if not path.is_file():
        raise MissingFileError(f"there is no file {os.fspath(path)!r}")
    if ending in NIFTI:
        _nibabel()


def count_non_finite(array: npt.NDArray[Any]) -> int:
    """Return the number of values that are NaN or infinite."""
    return int(np.count_nonzero(~np.isfinite(array))) if array.dtype.kind in "fc" else 0


def _ending(path: Path) -> str:
    return split_ending(path.name)[1]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert all errors inside the block to errors that name the file."""
    try:
        yield
    except (ConfigError, MissingDependencyError):
        raise
    except Exception as error:  # decoders raise many types of errors
        raise MissingFileError(f"{os.fspath(path)!r} cannot be read as {_ending(path)}: {error}") from error


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise MissingDependencyError(
            "NIfTI files are read with nibabel, which is not installed: pip install 'delira_nca[medical]'"
        ) from error
    return nibabel


def _grey(array: npt.NDArray[Any], file: str, is_exact: bool) -> npt.NDArray[Any]:
    """Return one channel of a grey image that was saved with several; those of a JPEG are averaged."""
    if not is_exact:
        return np.asarray(array.mean(axis=-1))
    count = 3 if array.shape[-1] > 2 else 1
    colours, alpha = array[..., :count], array[..., count:]
    if (colours != colours[..., :1]).any() or (alpha != np.iinfo(array.dtype).max).any():
        raise ConfigError(
            f"{file!r} is a mask in colours or with transparency; save the class of each pixel as a grey value"
        )
    return np.asarray(colours[..., 0])


def _member(loaded: Any, path: PathLike, key: str | None) -> npt.NDArray[Any]:
    with loaded:
        names = list(loaded.files)
        if key is None and len(names) == 1:
            key = names[0]
        if key not in names:
            asked = "more than one array" if key is None else f"no array {key!r}"
            raise ConfigError(f"{os.fspath(path)!r} has {asked}. {did_you_mean(key, names)}")
        return np.asarray(loaded[key])
