"""NCALab's data set for the growth of one image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, ShapeError

__all__ = ["GrowingNCADataset"]


class GrowingNCADataset(Dataset[tuple[Tensor, Tensor]]):
    """Copies of one pair: a seed, and the image that grows from it.

    Parameters
    ----------
    image : ndarray
        (H, W, 4) image with values from 0 to 255, alpha not premultiplied.
    num_channels : int
        Number of channels of the state.
    batch_size : int
        Number of copies.

    Raises
    ------
    ShapeError, ConfigError
        If the image is not (H, W, 4), or contains floats from 0 to 1.

    Examples
    --------
    >>> seed, image = GrowingNCADataset(np.full((8, 8, 4), 255, np.uint8), num_channels=16)[0]
    >>> seed.shape, image.shape, image.max().item()
    (torch.Size([16, 8, 8]), torch.Size([8, 8, 4]), 1.0)
    """

    def __init__(self, image: Any, num_channels: int, batch_size: int = 8) -> None:
        picture = np.asarray(image)
        if picture.ndim != 3 or picture.shape[-1] != 4 or 0 in picture.shape:
            raise ShapeError(f"an image to grow is (H, W, 4), not {picture.shape}")
        if picture.dtype.kind == "f" and 0 < picture.max() <= 1:
            raise ConfigError(
                f"an image to grow has values from 0 to 255; its maximum is {float(picture.max()):g}: scale it by 255"
            )
        self.batch_size = require_whole("batch_size", batch_size, 1)
        self.image = picture.astype(np.float32) / 255.0
        self.seed = np.zeros((require_whole("num_channels", num_channels, 4), *picture.shape[:2]), np.float32)
        self.seed[3:, picture.shape[0] // 2, picture.shape[1] // 2] = 1.0

    def __len__(self) -> int:
        return self.batch_size

    def __getitem__(self, idx: int) -> tuple[Tensor, Tensor]:
        if not -self.batch_size <= idx < self.batch_size:
            raise IndexError(f"sample {idx} of {self.batch_size}")
        return torch.from_numpy(self.seed.copy()), torch.from_numpy(self.image.copy())
