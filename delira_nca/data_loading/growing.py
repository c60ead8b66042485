"""The dataset of an automaton that grows one picture."""

from __future__ import annotations

from delira_nca.data_loading.dataset import AbstractDataset, repeat
from delira_nca.data_loading.sources import dahlia, emoji, load_image, place
from delira_nca.errors import ConfigError

__all__ = ["growing_dataset"]


def growing_dataset(
    picture: str = "dahlia", size: int = 40, padding: int = 16, *, num_channels: int = 16, times: int = 100
) -> AbstractDataset:
    """One living cell as ``data``, and the picture that is to grow from it as ``label``, so many times.

    Parameters
    ----------
    picture : ``"dahlia"``, of scikit-learn; an emoji; or the path of a picture with transparency.
    size : cells along the longer side of the picture.
    padding : empty cells on each side of it.
    num_channels : of the state.
    times : samples in an epoch.

    Returns
    -------
    dataset of ``{"data": (num_channels, grid, grid), "label": (4, grid, grid)}`` with ``grid = size + 2 * padding``

    Raises
    ------
    ConfigError, MissingFileError
        For numbers that cannot work, or a picture that is not there.

    Examples
    --------
    >>> sample = growing_dataset(size=8, padding=2, times=3)[0]
    >>> sample["data"].shape, sample["label"].shape, float(sample["data"].sum())
    ((16, 12, 12), (4, 12, 12), 13.0)
    """
    if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
        raise ConfigError(f"padding is a number of cells of at least 0, not {padding!r}")
    from delira_nca.models.inputs import make_seed

    if picture == "dahlia":
        target = dahlia(size)
    elif "." in picture or "/" in picture:
        target = load_image(picture, size)
    else:
        target = emoji(picture, size)
    grid = size + 2 * padding
    return repeat({"data": make_seed(num_channels, (grid, grid)).numpy(), "label": place(target, grid)}, times)
