"""Checks and integer codes of one class or group per sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError

__all__ = ["as_labels", "encode"]


def as_labels(labels: npt.ArrayLike, what: str = "label", num_samples: int | None = None) -> npt.NDArray[Any]:
    """Check labels, one value per sample, and remove axes of length 1.

    Parameters
    ----------
    labels : array_like
        (N,) or (N, 1) integers, strings, or other comparable values.
    what : str
        Name of a label in messages.
    num_samples : int or None
        Required number of labels.

    Returns
    -------
    (N,) array

    Raises
    ------
    ShapeError
        If there is not one value per sample.
    ConfigError
        If there are no labels, or one is NaN.

    Examples
    --------
    >>> as_labels([["b"], ["a"]]).tolist()
    ['b', 'a']
    """
    array = np.asarray(labels)
    if array.ndim == 0:
        raise ShapeError(f"a {what} for each sample is needed, not a single {array.dtype}")
    if array.ndim > 1:
        if array.size != len(array):
            raise ShapeError(
                f"one {what} for each sample is needed, not an array of shape {array.shape}; "
                "of rows with a 1 at the class, take .argmax(axis=1)"
            )
        array = array.reshape(-1)
    if num_samples is not None and len(array) != num_samples:
        raise ShapeError(f"there are {len(array)} {what}s for {num_samples} samples")
    if not array.size:
        raise ConfigError(f"there are no {what}s")
    is_nan = array != array
    if np.any(is_nan):
        raise ConfigError(f"the {what} of sample {int(np.flatnonzero(is_nan)[0])} is NaN")
    return array


def encode(labels: npt.NDArray[Any]) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Return the classes, sorted if possible, and the index of the class of each sample.

    Examples
    --------
    >>> classes, codes = encode(np.array(["cat", "ant", "cat"]))
    >>> classes, codes.tolist()
    (['ant', 'cat'], [1, 0, 1])
    """
    try:
        classes, codes = np.unique(labels, return_inverse=True)
    except TypeError:  # mixed types cannot be sorted
        numbers: dict[Any, int] = {}
        mixed = [numbers.setdefault(label, len(numbers)) for label in labels.tolist()]
        return list(numbers), np.array(mixed, dtype=np.int64)
    return classes.tolist(), codes.reshape(-1).astype(np.int64)
