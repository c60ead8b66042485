"""Dataset for automata that grow one image."""

from __future__ import annotations

import os

from delira_nca.checks import require_whole
from delira_nca.data_loading.dataset import AbstractDataset, repeat
from delira_nca.data_loading.sources import emoji, load_target, place

__all__ = ["growing_dataset"]


def growing_dataset(
    picture: str | os.PathLike[str] = "dahlia",
    size: int = 40,
    padding: int = 16,
    *,
    num_channels: int = 16,
    times: int = 100,
) -> AbstractDataset:
    """Return a dataset of equal samples: one living cell as ``data``, and the target image as ``label``.

    Parameters
    ----------
    picture : str or path-like
        One of :data:`~delira_nca.data_loading.sources.drawings.DRAWINGS`; the path of an image with transparency; or an
        emoji.
    size : int
        Number of cells along the longer side of the image.
    padding : int
        Number of empty cells on each side of the image.
    num_channels : int
        Number of channels of the state.
    times : int
        Number of samples per epoch.

    Returns
    -------
    dataset of ``{"data": (num_channels, grid, grid), "label": (4, grid, grid)}`` with ``grid = size + 2 * padding``

    Raises
    ------
    UnknownNameError
        If the name is neither a drawing, a file nor an emoji.
    ConfigError, MissingFileError
        If a number is out of range, or the file is missing or not an image with transparency.

    Examples
    --------
    >>> sample = growing_dataset(size=8, padding=2, times=3)[0]
    >>> sample["data"].shape, sample["label"].shape, float(sample["data"].sum())
    ((16, 12, 12), (4, 12, 12), 13.0)
    """
    require_whole("padding", padding, 0)
    from delira_nca.models.inputs import make_seed

    picture = os.fspath(picture)
    is_emoji = not picture.isascii() and "." not in picture and "/" not in picture
    target = emoji(picture, size) if is_emoji else load_target(picture, size)
    grid = int(size + 2 * padding)
    return repeat({"data": make_seed(num_channels, (grid, grid)).numpy(), "label": place(target, grid)}, times)
