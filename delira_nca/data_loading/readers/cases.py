"""Base class of readers of folders. A case consists of one or more image files and an optional mask."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_number, require_wholes
from delira_nca.data_loading.batches import located, normal_index
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.data_loading.readers.files import (
    count_non_finite,
    describe_file,
    read_image,
    read_label,
    require_readable,
)
from delira_nca.data_loading.readers.geometry import fit
from delira_nca.data_loading.readers.resize import resize_image, resize_label
from delira_nca.errors import ConfigError, MissingFileError, ShapeError
from delira_nca.io.json_file import parse_json
from delira_nca.io.paths import absolute

__all__ = ["Case", "CaseDataset", "read_json", "shown"]


@dataclass(frozen=True)
class Case:
    """Files of one sample: one image, or one per channel, and an optional mask."""

    name: str
    images: tuple[Path, ...]
    label: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Return all files."""
        return (*self.images, *([self.label] if self.label else []))


class CaseDataset(AbstractDataset):
    """Images with masks, which are read from files on access.

    A sample is ``{"data", "label", "name"}``: (C, *spatial) float32, (1, *spatial) int64 classes (missing without
    masks), and the name of the case, a string. In a batch the names are an array of strings, which networks ignore.
    `info` returns further data of a case.

    Parameters
    ----------
    cases : iterable of Case
        Cases to read, all with or all without masks.
    resize : int, sequence of int or None
        Length of each spatial axis, or one number for square images; None keeps the size. Images are resized by
        averaging or linear interpolation, masks by the nearest value.
    channel_axis : int or None
        Axis of the channels in ``.npy`` and ``.npz`` images; None for images without channels.
    binarise : float or None
        Threshold of masks: values above it become 1, others 0. None applies a threshold of 127 to JPEG masks only.
    channel_names : sequence of str or None
        Names of the channels; None allows any number of channels.
    classes : Collection[int] or None
        Allowed values of masks; None for any.
    check_geometry : bool
        Whether channels and mask of a case must have the same geometry, if their files define it (NIfTI). Volumes with
        swapped or flipped axes are reoriented to the first channel.

    Attributes
    ----------
    cases : tuple of Case
    channel_names : tuple of str, or None

    Raises
    ------
    ConfigError
        If there are no cases, only some have masks, or a file has an unknown suffix. Reading raises it if the files of
        a case differ in spacing, direction or origin; see :func:`~delira_nca.data_loading.readers.geometry.fit`.
    MissingFileError
        If a file does not exist.
    MissingDependencyError
        If a file is a NIfTI volume, and nibabel is not installed.
    """

    is_deterministic = True

    def __init__(
        self,
        cases: Iterable[Case],
        *,
        resize: int | Sequence[int] | None = None,
        channel_axis: int | None = None,
        binarise: float | None = None,
        channel_names: Sequence[str] | None = None,
        classes: Collection[int] | None = None,
        check_geometry: bool = True,
    ) -> None:
        self.cases = tuple(_located_case(case) for case in cases)
        if not self.cases:
            raise ConfigError("a dataset needs at least one case, there is none")
        self.resize = None if resize is None else require_wholes("resize", resize, 1, repeat=2)
        if binarise is not None:
            require_number("binarise", binarise)
        self.channel_axis, self.binarise, self.check_geometry = channel_axis, binarise, check_geometry
        self.channel_names = None if channel_names is None else tuple(channel_names)
        self.classes = None if classes is None else np.unique(np.asarray(sorted(classes), dtype=np.int64))
        self.has_labels = self.cases[0].label is not None
        bare = [case.name for case in self.cases if case.label is None]
        if self.has_labels and bare:
            raise ConfigError(f"cases without a mask: {shown(bare)}")
        for case in self.cases:
            for path in case.files:
                require_readable(path)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cases in order."""
        return tuple(case.name for case in self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = normal_index(index, len(self))
        try:
            return self._read(self.cases[number])
        except Exception as error:
            raise located(error, self.name_of(number)) from error

    def name_of(self, index: int) -> str:
        """Return index and name of the case."""
        return f"sample {index} ({self.cases[index].name!r})"

    def info(self, index: int) -> dict[str, Any]:
        """Return data of a case that are not part of a sample.

        Returns
        -------
        dict
            ``"name"``; ``"images"``, paths; ``"label"``, a path or None; for NIfTI files also ``"affine"``, (4, 4), and
            ``"spacing"``, in mm along each axis. These are the values of the file, before resizing.
        """
        case = self.cases[normal_index(index, len(self))]
        return {"name": case.name, "images": case.images, "label": case.label, **describe_file(case.images[0])}

    def checked_sample(self, index: int) -> Mapping[str, Any]:
        """Return a sample; raise an error that names the file if it cannot be read, or has NaN or infinite values."""
        sample = self[index]
        self._require_finite(index, sample["data"])
        return sample

    def column(self, key: str) -> npt.NDArray[Any]:
        """Return one entry of all samples. Names do not require reading. See `AbstractDataset.column`."""
        return np.array(self.names) if key == "name" else super().column(key)

    def described(self, index: int) -> str:
        """Return index, name and files of the case."""
        case = self.cases[index]
        return f"{self.name_of(index)}, {shown([os.fspath(path) for path in case.files])}"

    def _require_finite(self, number: int, data: npt.NDArray[np.float32]) -> None:
        if not count_non_finite(data):
            return
        for path in self.cases[number].images:
            values = read_image(path, self.channel_axis)
            if wrong := count_non_finite(values):
                raise ConfigError(
                    f"{self.name_of(number)}: {wrong} of {values.size} values are NaN or infinite: {os.fspath(path)!r}"
                )

    def _read(self, case: Case) -> dict[str, Any]:
        data = self._read_images(case)
        sample: dict[str, Any] = {"data": data if self.resize is None else resize_image(data, self.resize)}
        if case.label is not None:
            label = self._read_label(case.label, case.images[0], data.shape[1:])
            sample["label"] = (label if self.resize is None else resize_label(label, self.resize))[np.newaxis]
        sample["name"] = case.name
        return sample

    def _read_images(self, case: Case) -> npt.NDArray[np.float32]:
        """Read the channels of all image files of a case."""
        parts = [read_image(path, self.channel_axis) for path in case.images]
        if self.check_geometry:
            moved = (np.moveaxis(part, 0, -1) for part in parts[1:])
            fitted = (fit(part, path, case.images[0]) for part, path in zip(moved, case.images[1:], strict=True))
            parts[1:] = [np.moveaxis(part, -1, 0) for part in fitted]
        for path, part in zip(case.images, parts, strict=True):
            if part.shape != parts[0].shape:
                raise ShapeError(
                    f"the channels differ in size: {os.fspath(path)!r} is {_size(part.shape[1:])}, "
                    f"{os.fspath(case.images[0])!r} is {_size(parts[0].shape[1:])}"
                )
        data = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.channel_names is not None and len(data) != len(self.channel_names):
            raise ShapeError(
                f"{os.fspath(case.images[0])!r} has {len(data)} channels, but there should be "
                f"{len(self.channel_names)}: {shown(self.channel_names)}"
            )
        return data

    def _read_label(self, path: Path, image: Path, spatial: tuple[int, ...]) -> npt.NDArray[np.int64]:
        label = read_label(path, self.binarise)
        if self.check_geometry:
            label = fit(label, path, image)
        if label.shape in ((1, *spatial), (*spatial, 1)):
            label = label.reshape(spatial)
        if label.shape != spatial:
            raise ShapeError(
                f"an image and its mask must have the same size: {os.fspath(image)!r} is {_size(spatial)}, "
                f"{os.fspath(path)!r} is {_size(label.shape)}"
            )
        if self.classes is not None:
            strange = np.setdiff1d(label, self.classes)
            if strange.size:
                raise ConfigError(
                    f"{os.fspath(path)!r} has the values {shown(strange.tolist())}, "
                    f"which are none of the classes {shown(self.classes.tolist())}"
                )
        return label


def read_json(path: Path) -> dict[str, Any]:
    """Read a ``dataset.json``; raise a `MissingFileError` if it does not exist, or is not a JSON object."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        text = f"there is no file {os.fspath(path)!r}, which describes the dataset: {error.strerror}"
        raise MissingFileError(text) from error
    content = parse_json(raw, path)
    if not isinstance(content, dict):
        raise MissingFileError(f"{os.fspath(path)!r} must hold an object, not a {type(content).__name__}")
    return content


def _located_case(case: Case) -> Case:
    """Return the case with absolute paths."""
    label = None if case.label is None else absolute(case.label)
    return Case(case.name, tuple(absolute(path) for path in case.images), label)


def shown(names: Iterable[Any], most: int = 10) -> str:
    """Format the first names of a list for a message, with the number of further ones.

    Examples
    --------
    >>> shown(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    names = list(names)
    text = ", ".join(repr(name) for name in names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


def _size(spatial: tuple[int, ...]) -> str:
    return " x ".join(map(str, spatial))
