"""Random patches of images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_number, require_whole, require_wholes
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.errors import ConfigError

__all__ = ["PatchDataset"]

_MOST_PLACES = 20_000
"""Number of cells of a class that are remembered for each case."""


class PatchDataset(AbstractDataset):
    """Random patches of one size from images of any size, some of them around cells of the foreground.

    An access draws a patch from the global generator of NumPy, which a data manager seeds for each batch. An image
    smaller than the patch is padded by its border, and its mask by 0.

    Parameters
    ----------
    dataset : AbstractDataset
        Images ``"data"``, (C, *spatial), and masks ``"label"``, (1, *spatial).
    size : int or sequence of int
        Number of cells along each axis of a patch.
    num_patches : int
        Number of patches: the length of this dataset. Patch ``n`` is drawn from image ``n % len(dataset)``.
    foreground : float
        Fraction of the patches that contain a cell of the foreground. Its class is drawn first, so that small
        structures are not rare.

    Raises
    ------
    ConfigError
        For a number out of range.

    Examples
    --------
    >>> from delira_nca.data_loading import DictDataset
    >>> images = DictDataset({"data": np.zeros((2, 1, 20, 30), np.float32), "label": np.ones((2, 1, 20, 30), int)})
    >>> patches = PatchDataset(images, 8, num_patches=6)
    >>> len(patches), patches[5]["data"].shape
    (6, (1, 8, 8))
    """

    def __init__(
        self, dataset: AbstractDataset, size: int | Sequence[int], num_patches: int, foreground: float = 0.5
    ) -> None:
        if not len(dataset):
            raise ConfigError("patches need at least one image, there is none")
        self.dataset, self.num_patches = dataset, require_whole("num_patches", num_patches, 1)
        self.foreground = float(require_number("foreground", foreground, 0, 1))
        self.size = size if isinstance(size, int) else tuple(require_wholes("size", size, 1))
        if isinstance(size, int):
            require_whole("size", size, 1)
        self._places: dict[int, list[npt.NDArray[np.intp]]] = {}

    def __len__(self) -> int:
        return self.num_patches

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = index % len(self.dataset)
        sample = self.dataset[number]
        image, label = np.asarray(sample["data"]), np.asarray(sample["label"])
        size = (self.size,) * (image.ndim - 1) if isinstance(self.size, int) else self.size
        if len(size) != image.ndim - 1:
            raise ConfigError(f"patches of {size} cells cannot be cut from images of shape {image.shape}")
        first = [np.random.randint(max(1, n - cells + 1)) for n, cells in zip(image.shape[1:], size, strict=True)]
        if np.random.random() < self.foreground and (places := self._foreground(number, label[0])):
            cells = places[np.random.randint(len(places))]
            cell = np.unravel_index(cells[np.random.randint(len(cells))], label.shape[1:])
            first = [
                int(np.clip(at - np.random.randint(cells), 0, max(0, n - cells)))
                for at, cells, n in zip(cell, size, label.shape[1:], strict=True)
            ]
        region = (slice(None), *(slice(at, at + cells) for at, cells in zip(first, size, strict=True)))
        cut, mask = image[region], label[region]
        missing = [(0, 0), *((0, cells - n) for cells, n in zip(size, cut.shape[1:], strict=True))]
        if any(after for _, after in missing):
            cut, mask = np.pad(cut, missing, mode="edge"), np.pad(mask, missing)
        return {"data": cut, "label": mask}

    def _foreground(self, number: int, label: npt.NDArray[Any]) -> list[npt.NDArray[np.intp]]:
        """Return the flat indices of cells of each class of the foreground."""
        if number not in self._places:
            flat, found = label.ravel(), []
            for value in np.unique(flat[flat > 0]):
                cells = np.flatnonzero(flat == value)
                found.append(cells[:: -(-len(cells) // _MOST_PLACES)])
            self._places[number] = found
        return self._places[number]
