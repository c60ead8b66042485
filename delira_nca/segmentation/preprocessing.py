"""Preprocessing of images for a network, and its inverse for predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.readers import resize_image, resize_label
from delira_nca.errors import ConfigError, ShapeError, require_choice

__all__ = ["NORMALISATIONS", "Frame", "Preprocessing", "content_of"]

NORMALISATIONS = ("zscore", "content_zscore", "clip_zscore", "none")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """Place of a preprocessed image in its original grid.

    Attributes
    ----------
    shape : tuple of int
        Spatial shape of the original image.
    region : tuple of slice
        Region of the original image that was kept.
    size : tuple of int
        Shape of the preprocessed image without padding.
    """

    shape: tuple[int, ...]
    region: tuple[slice, ...]
    size: tuple[int, ...]

    @property
    def cut(self) -> tuple[int, ...]:
        """Shape of the region."""
        return tuple(part.stop - part.start for part in self.region)

    def restore(self, probabilities: Floats) -> Floats:
        """Resample (K, *spatial) probabilities to the original grid; classes outside of the region are background.

        The first channel is the background if there are several; of a single one, the complement is.
        """
        kept = (slice(None), *(slice(0, n) for n in self.size))
        inside = resize_image(probabilities[kept], self.cut)
        whole = np.zeros((len(inside), *self.shape), np.float32)
        if len(inside) > 1:
            whole[0] = 1.0
        region = (slice(None), *self.region)
        whole[region] = inside
        return whole


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation, resampling and cropping of images, and numbering of classes, as plain values.

    Parameters
    ----------
    values : sequence of int
        Values of masks in the order of the classes; the first is the background.
    instances : bool
        Whether masks number objects, so that every value above 0 is class 1.
    normalisation : sequence of str
        For each channel: ``"zscore"`` by mean and standard deviation of the image, ``"content_zscore"`` by those of
        the cells that differ from its smallest value, ``"clip_zscore"`` by those of the foreground of the training set
        after clipping, or ``"none"``.
    statistics : sequence of mapping
        For each channel: ``low``, ``high``, ``mean`` and ``std`` for ``"clip_zscore"``.
    spacing : sequence of float, optional
        Size of a voxel in mm along each axis to which volumes are resampled; None keeps the grid.
    crop : bool
        Whether to crop to the region that is not zero.
    factor : float
        Factor by which the number of cells along each axis is reduced.
    dims : int
        Number of spatial axes.
    least : int or sequence of int
        Smallest number of cells along each axis; smaller images are padded by their border.
    """

    values: Sequence[int]
    instances: bool = False
    normalisation: Sequence[str] = ("zscore",)
    statistics: Sequence[Mapping[str, float]] = ()
    spacing: Sequence[float] | None = None
    crop: bool = False
    factor: float = 1.0
    dims: int = 2
    least: int | Sequence[int] = 1

    def __post_init__(self) -> None:
        for name in self.normalisation:
            require_choice("normalisation", name, NORMALISATIONS)
        if "clip_zscore" in self.normalisation and len(self.statistics) != len(self.normalisation):
            raise ConfigError("clip_zscore needs the statistics of each channel: low, high, mean and std")

    @property
    def num_classes(self) -> int:
        """Number of classes, with the background."""
        return 2 if self.instances else len(self.values)

    def image(self, data: Floats, spacing: Sequence[float] | None = None) -> tuple[Floats, Frame]:
        """Preprocess a (C, *spatial) image.

        Raises
        ------
        ShapeError, ConfigError
            If it has another number of axes or channels, or no spacing although the images of the training had one.
        """
        if data.ndim - 1 != self.dims:
            raise ShapeError(f"the image has {data.ndim - 1} spatial axes, the model was trained with {self.dims}")
        if len(data) != len(self.normalisation):
            raise ShapeError(
                f"the image has {len(data)} channels, the model was trained with {len(self.normalisation)}"
            )
        if self.spacing is not None and spacing is None:
            raise ConfigError("the image has no voxel size, those of the training had")
        region = content_of(data) if self.crop else tuple(slice(0, n) for n in data.shape[1:])
        kept = (slice(None), *region)
        cut = data[kept]
        size = self._size(cut.shape[1:], spacing)
        parts = [self._normalised(channel, number) for number, channel in enumerate(cut)]
        missing = [(0, 0), *self._missing(size)]
        return np.pad(resize_image(np.stack(parts), size), missing, mode="edge"), Frame(data.shape[1:], region, size)

    def label(self, label: npt.NDArray[np.int64], frame: Frame) -> npt.NDArray[np.int64]:
        """Convert a mask to classes from 0 on the grid of the preprocessed image.

        Raises
        ------
        ConfigError
            If the mask contains a value that is not one of ``values``.
        """
        cut = label[frame.region]
        if self.instances:
            return self._padded(resize_label((cut > 0).astype(np.int64), frame.size))
        known = np.array(self.values)
        order = np.argsort(known)
        places = np.clip(np.searchsorted(known[order], cut), 0, len(known) - 1)
        if (wrong := known[order][places] != cut).any():
            raise ConfigError(
                f"the mask contains {np.unique(cut[wrong])[:5].tolist()}; the classes are {known.tolist()}"
            )
        return self._padded(resize_label(order[places].astype(np.int64), frame.size))

    def _padded(self, label: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.pad(label, self._missing(label.shape), mode="edge")

    def _missing(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        least = [self.least] * len(shape) if isinstance(self.least, int) else self.least
        return [(0, max(0, few - n)) for few, n in zip(least, shape, strict=True)]

    def mask(self, classes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Convert classes from 0 to the values of masks."""
        return (classes > 0).astype(np.int64) if self.instances else np.array(self.values)[classes]

    def _normalised(self, channel: Floats, number: int) -> Floats:
        kind = self.normalisation[number]
        if kind == "none":
            return channel
        if kind == "clip_zscore":
            found = self.statistics[number]
            channel, mean, std = np.clip(channel, found["low"], found["high"]), found["mean"], found["std"]
        else:
            counted = channel[channel > channel.min()] if kind == "content_zscore" else channel
            counted = counted if counted.size else channel
            mean, std = float(counted.mean(dtype=np.float64)), float(counted.std(dtype=np.float64))
        if std <= 1e-6 * max(1.0, abs(mean)):  # a constant image
            return np.zeros_like(channel)
        return np.asarray((channel - mean) / std, np.float32)

    def _size(self, shape: Sequence[int], spacing: Sequence[float] | None) -> tuple[int, ...]:
        scales = [self.factor] * len(shape)
        if self.spacing is not None and spacing is not None:
            scales = [scale * to / mm for scale, to, mm in zip(scales, self.spacing, spacing, strict=True)]
        return tuple(max(1, round(n / scale)) for n, scale in zip(shape, scales, strict=True))


def content_of(data: Floats, foreground: npt.NDArray[np.bool_] | None = None) -> tuple[slice, ...]:
    """Return the region outside of which a (C, *spatial) image has the value of its first corner and no foreground."""
    corner = data.reshape(len(data), -1)[:, :1]
    filled = (data.reshape(len(data), -1) != corner).any(0).reshape(data.shape[1:])
    if foreground is not None:
        filled = filled | foreground
    if not filled.any():
        return tuple(slice(0, n) for n in filled.shape)
    region = []
    for axis in range(filled.ndim):
        places = np.flatnonzero(filled.any(tuple(other for other in range(filled.ndim) if other != axis)))
        region.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(region)
