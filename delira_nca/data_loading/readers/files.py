"""One file to one array: pictures, numpy arrays, NIfTI volumes, by the ending of their names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.batches import located
from delira_nca.data_loading.normalize import cast
from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError, ShapeError, did_you_mean

__all__ = [
    "ENDINGS",
    "JPEG_THRESHOLD",
    "PICTURES",
    "describe_file",
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


def read_array(path: PathLike, key: str | None = None) -> npt.NDArray[Any]:
    """Array in a file, as it is there.

    Parameters
    ----------
    path : a picture (grey (H, W), palette indices (H, W), colour (H, W, 3 or 4)), ``.npy``, ``.npz`` or NIfTI.
        An EXIF orientation of a picture is followed.
    key : which array of an ``.npz`` file; ``None`` is the only one.

    Raises
    ------
    MissingFileError
        If there is no such file, or its content is not what the ending says.
    ConfigError
        If the ending is unknown, or an ``.npz`` file does not have the array.
    MissingDependencyError
        If it is a NIfTI file and nibabel is not installed.
    """
    require_readable(path)
    ending = split_ending(os.fspath(path))[1]
    try:
        if ending in PICTURES:
            return _picture(path)
        if ending in NIFTI:
            return np.asanyarray(_nibabel().load(path).dataobj)
        with open(path, "rb") as opened:  # numpy would leave a broken archive open
            loaded = np.load(opened, allow_pickle=False)
            return _member(loaded, path, key) if ending == ".npz" else np.asarray(loaded)
    except (ConfigError, MissingDependencyError):
        raise
    except Exception as error:
        raise MissingFileError(f"{os.fspath(path)!r} cannot be read as {ending}: {error}") from error


def read_image(path: PathLike, channel_axis: int | None = None, key: str | None = None) -> npt.NDArray[np.float32]:
    """Image in a file, channels first.

    Pictures come in [0, 1]: 8-bit values are divided by 255, 16-bit values by 65535; a palette is turned into
    colours. Arrays and NIfTI volumes keep their values.

    Parameters
    ----------
    path : see `read_array`.
    channel_axis : which axis of an ``.npy`` or ``.npz`` array holds channels; ``None`` for none, one is added.
        Of a NIfTI volume, what follows the three axes of space is channels.
    key : which array of an ``.npz`` file.

    Returns
    -------
    (C, *spatial) float32 array
    """
    ending = split_ending(os.fspath(path))[1]
    if ending in PICTURES:
        require_readable(path)
        try:
            array = _picture(path, as_colours=True)
        except Exception as error:
            raise MissingFileError(f"{os.fspath(path)!r} cannot be read as {ending}: {error}") from error
        channel_axis = -1 if array.ndim == 3 else None
    else:
        array = read_array(path, key)
        if ending in NIFTI:
            channel_axis = -1 if array.ndim > 3 else None
    if array.dtype.kind not in "biuf" or array.ndim > 4:
        raise ShapeError(f"{os.fspath(path)!r} holds no image, but {array.dtype} of shape {array.shape}")
    most = np.iinfo(array.dtype).max if ending in PICTURES and array.dtype in (np.uint8, np.uint16) else 1
    values: npt.NDArray[np.float32] = array.astype(np.float32) / np.float32(most)
    if channel_axis is None:
        return values[np.newaxis]
    if not -array.ndim <= channel_axis < array.ndim:
        raise ShapeError(f"{os.fspath(path)!r} has no axis {channel_axis}: its shape is {array.shape}")
    return np.ascontiguousarray(np.moveaxis(values, channel_axis, 0))


def read_label(path: PathLike, binarise: float | None = None, key: str | None = None) -> npt.NDArray[np.int64]:
    """Mask in a file: the class of each place.

    A picture must be grey, or have a palette whose indices are the classes. A JPEG file has no exact values: it is
    1 above 127, else 0.

    Parameters
    ----------
    path : see `read_array`.
    binarise : every value above it becomes 1, every other 0; for masks of 0 and 255, for example.
    key : which array of an ``.npz`` file.

    Returns
    -------
    spatial int64 array

    Raises
    ------
    ConfigError
        If a value is not a whole number, or a picture has colours.
    """
    file, ending = os.fspath(path), split_ending(os.fspath(path))[1]
    array = read_array(path, key)
    if ending in PICTURES and array.ndim == 3:
        array = _grey(array, file, is_exact=ending not in JPEG)
    if ending in JPEG and binarise is None:
        binarise = JPEG_THRESHOLD
    try:
        return cast(array if binarise is None else array > binarise, np.int64)
    except ConfigError as error:
        raise located(error, f"{file!r} is no mask of classes") from error


def describe_file(path: PathLike) -> dict[str, Any]:
    """What a NIfTI file says of its place in space: ``"affine"`` and ``"spacing"``; of other files nothing."""
    if split_ending(os.fspath(path))[1] not in NIFTI:
        return {}
    image = _nibabel().load(path)
    return {"affine": np.array(image.affine), "spacing": tuple(float(mm) for mm in image.header.get_zooms()[:3])}


def require_readable(path: PathLike) -> None:
    """Refuse a file that is not there, or whose ending nobody here reads; before its content is looked at.

    Raises
    ------
    MissingFileError, ConfigError, MissingDependencyError
        With the file.
    """
    ending = split_ending(os.fspath(path))[1]
    if ending not in ENDINGS:
        raise ConfigError(f"{os.fspath(path)!r}: no reader for the ending {ending!r}. {did_you_mean(ending, ENDINGS)}")
    if not Path(path).is_file():
        raise MissingFileError(f"there is no file {os.fspath(path)!r}")
    if ending in NIFTI:
        _nibabel()


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise MissingDependencyError(
            "NIfTI files are read with nibabel, which is not installed: pip install 'delira_nca[medical]'"
        ) from error
    return nibabel


def _picture(path: PathLike, as_colours: bool = False) -> npt.NDArray[Any]:
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if as_colours and image.mode in ("P", "PA"):
            image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
        elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            image = image.convert("RGB")
        array = np.asarray(image)
        # Pillow calls some 16-bit greys 32-bit integers
        return array.astype(np.uint16) if image.mode == "I" and opened.format == "PNG" else array


def _grey(array: npt.NDArray[Any], file: str, is_exact: bool) -> npt.NDArray[Any]:
    """One channel of a grey picture that was saved with several; a JPEG's are averaged."""
    if not is_exact:
        return np.asarray(array.mean(axis=2))
    colours, alpha = array[..., :3] if array.shape[2] > 2 else array[..., :1], array[..., 3:]
    if array.shape[2] == 2:
        alpha = array[..., 1:]
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
