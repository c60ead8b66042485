"""Reader of MedMNIST: small images or volumes with classes in one ``.npz`` file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.batches import Batch, IndicesLike, as_indices
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.errors import ConfigError, MissingFileError, ShapeError, UnknownNameError, did_you_mean, require_choice
from delira_nca.io.paths import absolute

__all__ = ["MedMNISTDataset"]

_SPLITS = ("train", "val", "test")


class MedMNISTDataset(AbstractDataset):
    """Training, validation or test part of a MedMNIST file.

    A sample is ``{"data", "label"}``: (1 or 3, *spatial) float32 in [0, 1], and an int64 class; for several labels
    (ChestMNIST), (K,) int64. The 8-bit values are kept in memory and converted on access.

    Parameters
    ----------
    path : str or path-like
        Path of the ``.npz`` file.
    split : str
        ``"train"``, ``"val"`` or ``"test"``.

    Raises
    ------
    MissingFileError
        If the file does not exist or is not an ``.npz`` file.
    ConfigError
        If the arrays of the split are missing or do not fit together.

    Notes
    -----
    Yang et al. (2023), MedMNIST v2. Scientific Data 10.

    Examples
    --------
    >>> import numpy as np
    >>> file = getfixture("tmp_path") / "mnist.npz"
    >>> np.savez(file, val_images=np.full((2, 28, 28), 255, np.uint8), val_labels=[[3], [1]])
    >>> batch = MedMNISTDataset(file, "val").take([1, 0])
    >>> batch["data"].shape, batch["data"].max().item(), batch["label"].tolist()
    ((2, 1, 28, 28), 1.0, [1, 3])
    """

    is_deterministic = True

    def __init__(self, path: str | os.PathLike[str], split: str = "train") -> None:
        require_choice("split", split, _SPLITS)
        path = absolute(path)
        self.images, labels = _arrays(path, split)
        file = os.fspath(path)
        if self.images.dtype != np.uint8 or self.images.ndim not in (3, 4):
            raise ShapeError(
                f"{file!r}: {split}_images must be (N, H, W), (N, H, W, 3) or (N, D, H, W) uint8, "
                f"not {self.images.shape} {self.images.dtype}"
            )
        if labels.dtype.kind not in "iub" or labels.ndim not in (1, 2) or len(labels) != len(self.images):
            raise ShapeError(
                f"{file!r}: {split}_labels must be an integer, or a row of them, for each of the "
                f"{len(self.images)} images, not {labels.shape} {labels.dtype}"
            )
        if not len(labels):
            raise ConfigError(f"{file!r}: a dataset needs at least one sample, {split}_images has none")
        self.has_colours = self.images.ndim == 4 and self.images.shape[3] == 3
        self.labels = labels.reshape(len(labels), -1).astype(np.int64)
        if self.labels.shape[1] == 1:
            self.labels = self.labels[:, 0]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return {"data": self._convert(self.images[[index]])[0], "label": np.asarray(self.labels[index])}

    def take(self, indices: IndicesLike) -> Batch:
        """Return several samples; see `AbstractDataset.take`."""
        rows = as_indices(indices, len(self))
        return {"data": self._convert(self.images[rows]), "label": self.labels[rows]}

    def column(self, key: str) -> npt.NDArray[Any]:
        """Return one entry of all samples. Labels do not require reading. See `AbstractDataset.column`."""
        if key not in ("data", "label"):
            raise UnknownNameError(f"the dataset has no entry {key!r}. {did_you_mean(key, ('data', 'label'))}")
        return self.labels if key == "label" else self._convert(self.images)

    def _convert(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        values = images.astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(np.moveaxis(values, -1, 1)) if self.has_colours else values[:, np.newaxis]


def _arrays(path: str | os.PathLike[str], split: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    file = os.fspath(path)
    if not os.path.isfile(file):
        raise MissingFileError(f"there is no file {file!r}")
    try:
        with open(file, "rb") as opened:  # numpy would leave a broken archive open
            loaded = np.load(opened, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            images, labels = (_member(loaded, f"{split}_{part}", file) for part in ("images", "labels"))
    except UnknownNameError:
        raise
    except Exception as error:  # damaged archives raise many types of errors
        raise MissingFileError(f"{file!r} cannot be read as .npz: {error}") from error
    return images, labels


def _member(loaded: Any, name: str, file: str) -> npt.NDArray[Any]:
    if name not in loaded.files:
        raise UnknownNameError(f"{file!r} has no array {name!r}. {did_you_mean(name, loaded.files)}")
    return np.asarray(loaded[name])
