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

NORMALISATIONS = ("zscore", "clip_zscore", "none")
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
    """

    shape: tuple[int, ...]
    region: tuple[slice, ...]

    @property
    def cut(self) -> tuple[int, ...]:
        """Shape of the region."""
        return tuple(part.stop - part.start for part in self.region)

    def restore(self, probabilities: Floats) -> Floats:
        """Resample (K, *spatial) probabilities to the original grid; classes outside of the region are background.

        The first channel is the background if there are several; of a single one, the complement is.
        """
        inside = resize_image(probabilities, self.cut)
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
        For each channel: ``"zscore"`` by mean and standard deviation of the image, ``"clip_zscore"`` by those of the
        foreground of the training set after clipping, or ``"none"``.
    statistics : sequence of mapping
        For each channel: ``low``, ``high``, ``mean`` and ``std`` for ``"clip_zscore"``.
    spacing : sequence of float, optional
        Size of a voxel in mm along each axis to which volumes are resampled; None keeps the grid.
    crop : bool
        Whether to crop to the region that is not zero.
    factor : float
        Factor by which the number of cells along each axis is reduced.
    """

    values: Sequence[int]
    instances: bool = False
    normalisation: Sequence[str] = ("zscore",)
    statistics: Sequence[Mapping[str, float]] = ()
    spacing: Sequence[float] | None = None
    crop: bool = False
    factor: float = 1.0

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
        ShapeError
            If it has another number of channels.
        """
        if len(data) != len(self.normalisation):
            raise ShapeError(
                f"the image has {len(data)} channels, the model was trained with {len(self.normalisation)}"
            )
        region = content_of(data) if self.crop else tuple(slice(0, n) for n in data.shape[1:])
        frame = Frame(data.shape[1:], region)
        kept = (slice(None), *region)
        cut = data[kept]
        parts = [self._normalised(channel, number) for number, channel in enumerate(cut)]
        return resize_image(np.stack(parts), self._size(frame.cut, spacing)), frame

    def label(self, label: npt.NDArray[np.int64], frame: Frame, size: Sequence[int]) -> npt.NDArray[np.int64]:
        """Convert a mask to classes from 0 on the grid of the preprocessed image.

        Raises
        ------
        ConfigError
            If the mask contains a value that is not one of ``values``.
        """
        cut = label[frame.region]
        if self.instances:
            return resize_label((cut > 0).astype(np.int64), size)
        known = np.array(self.values)
        order = np.argsort(known)
        places = np.clip(np.searchsorted(known[order], cut), 0, len(known) - 1)
        if (wrong := known[order][places] != cut).any():
            raise ConfigError(
                f"the mask contains {np.unique(cut[wrong])[:5].tolist()}; the classes are {known.tolist()}"
            )
        return resize_label(order[places].astype(np.int64), size)

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
            mean, std = float(channel.mean()), float(channel.std())
        return np.asarray((channel - mean) / max(std, 1e-6), np.float32)

    def _size(self, shape: Sequence[int], spacing: Sequence[float] | None) -> tuple[int, ...]:
        scales = [self.factor] * len(shape)
        if self.spacing is not None and spacing is not None:
            scales = [scale * to / mm for scale, to, mm in zip(scales, self.spacing, spacing, strict=True)]
        return tuple(max(1, round(n / scale)) for n, scale in zip(shape, scales, strict=True))


def content_of(data: Floats) -> tuple[slice, ...]:
    """Return the region of a (C, *spatial) image outside of which every channel has the value of the first corner."""
    corner = data.reshape(len(data), -1)[:, :1]
    filled = (data.reshape(len(data), -1) != corner).any(0).reshape(data.shape[1:])
    if not filled.any():
        return tuple(slice(0, n) for n in filled.shape)
    region = []
    for axis in range(filled.ndim):
        places = np.flatnonzero(filled.any(tuple(other for other in range(filled.ndim) if other != axis)))
        region.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(region)
