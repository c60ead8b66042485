"""One file to one array: pictures, numpy arrays, NIfTI volumes, by the ending of their names."""

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
"""Endings of the files that can be read."""

JPEG_THRESHOLD = 127
"""A JPEG mask has no exact values; what is above this is foreground."""


def split_ending(name: str) -> tuple[str, str]:
    """Name of a file without its ending, and the ending in small letters; both parts of ``.nii.gz``.

    Examples
    --------
    >>> split_ending("brain.1.nii.gz"), split_ending("a.PNG"), split_ending("notes")
    (('brain.1', '.nii.gz'), ('a', '.png'), ('notes', ''))
    """
    ending = ".nii.gz" if name.lower().endswith(".nii.gz") else os.path.splitext(name)[1]
    return name[: len(name) - len(ending)], ending.lower()


def normal_name(name: str) -> str:
    """Name in composed Unicode (NFC); some file systems and archives decompose accents.

    Examples
    --------
    >>> len("gro\u0308\u00dfe"), len(normal_name("gro\u0308\u00dfe"))
    (6, 5)
    """
    return unicodedata.normalize("NFC", name)


def find_file(path: Path) -> Path:
    """File at a path, or the one in its folder whose name differs in composed or decomposed accents only."""
    if path.exists() or path.name.isascii() or not path.parent.is_dir():
        return path
    same = (other for other in path.parent.iterdir() if normal_name(other.name) == normal_name(path.name))
    return next(same, path)


def read_array(path: PathLike, key: str | None = None) -> npt.NDArray[Any]:
    """Array in a file, as it is there.

    Parameters
    ----------
    path : str or path-like
        A picture (grey (H, W), palette indices (H, W), colour (H, W, 3 or 4)), a TIFF stack, which has its pages as a
        first axis more, ``.npy``, ``.npz`` or NIfTI. An EXIF orientation of a picture is followed.
    key : str or None
        Which array of an ``.npz`` file; ``None`` is the only one.

    Raises
    ------
    MissingFileError
        If there is no such file, or its content is not what the ending says.
    ConfigError
        If the ending is unknown, a picture cannot be read exactly (see `pictures.read_picture`), or an ``.npz`` file
        does not have the array.
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
    """Image in a file, channels first.

    Pictures are scaled by their type: unsigned integers to [0, 1], signed integers of a TIFF to [-1, 1], by the largest
    value of their bit depth (255 of 8 bits, 4095 of 12, 65535 of 16); values of 12 bits in a file that declares 16 are
    divided by 65535. A palette is turned into colours. TIFFs of floating-point numbers, arrays and NIfTI volumes keep
    their values.

    Parameters
    ----------
    path : str or path-like
        See `read_array`.
    channel_axis : int or None
        Which axis of an ``.npy`` or ``.npz`` array holds channels; ``None`` for none, one is added. Of a NIfTI volume,
        what follows the three axes of space is channels.
    key : str or None
        Which array of an ``.npz`` file.

    Returns
    -------
    (C, *spatial) float32 array
        A TIFF stack is (C, pages, H, W).
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
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which `CaseDataset.check` names
        values: npt.NDArray[np.float32] = array.astype(np.float32)
    if largest > 1:
        values = np.maximum(values / np.float32(largest), -1)  # the lowest signed value has no positive counterpart
    if channel_axis is None:
        return values[np.newaxis]
    if not -array.ndim <= channel_axis < array.ndim:
        raise ShapeError(f"{os.fspath(path)!r} has no axis {channel_axis}: its shape is {array.shape}")
    return np.ascontiguousarray(np.moveaxis(values, channel_axis, 0))


def read_label(path: PathLike, binarise: float | None = None, key: str | None = None) -> npt.NDArray[np.int64]:
    """Mask in a file: the class of each place.

    A picture must be grey, or have a palette whose indices are the classes. Values are not scaled, whatever their bit
    depth. A JPEG file has no exact values: it is 1 above 127, else 0.

    Parameters
    ----------
    path : str or path-like
        See `read_array`.
    binarise : float or None
        Every value above it becomes 1, every other 0; for masks of 0 and 255, for example.
    key : str or None
        Which array of an ``.npz`` file.

    Returns
    -------
    spatial int64 array

    Raises
    ------
    ConfigError
        If a value is not a whole number (with ``binarise``, not finite), or a picture has colours.
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
        raise ConfigError(f"{file!r} is no mask of classes, but {array.dtype} of shape {array.shape}")
    if wrong := count_non_finite(array):
        raise ConfigError(f"{file!r} is no mask of classes: {wrong} of {array.size} values are NaN or infinite")
    if ending in JPEG and binarise is None:
        binarise = JPEG_THRESHOLD
    try:
        return cast(array if binarise is None else array > binarise, np.int64)
    except ConfigError as error:
        raise located(error, f"{file!r} is no mask of classes") from error


def describe_file(path: PathLike) -> dict[str, Any]:
    """What a NIfTI file says of its place in space: ``"affine"`` and ``"spacing"``; of other files nothing."""
    path = absolute(path)
    if _ending(path) not in NIFTI:
        return {}
    with _reading(path):
        image = _nibabel().load(path)
    return {"affine": np.array(image.affine), "spacing": tuple(float(mm) for mm in image.header.get_zooms()[:3])}


def require_readable(path: PathLike) -> None:
    """Refuse a file that is not there, or whose ending nobody here reads; before its content is looked at.

    Raises
    ------
    MissingFileError, ConfigError, MissingDependencyError
        With the file.
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
    """Number of values that are NaN or infinite."""
    return int(np.count_nonzero(~np.isfinite(array))) if array.dtype.kind in "fc" else 0


def _ending(path: Path) -> str:
    return split_ending(path.name)[1]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Context in which whatever goes wrong is an error that names the file."""
    try:
        yield
    except (ConfigError, MissingDependencyError):
        raise
    except Exception as error:  # decoders raise almost anything
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
    """One channel of a grey picture that was saved with several; a JPEG's are averaged."""
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
