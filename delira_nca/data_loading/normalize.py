"""Normalisation of images to a range, or to mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, require_choice

__all__ = ["cast", "norm_range", "norm_zero_mean_unit_std"]

_RANGES = {"0,1": (0.0, 1.0), "-1,1": (-1.0, 1.0)}


def norm_range(mode: str) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """Return a function that scales an image linearly to a range, from its minimum to its maximum.

    A constant image is mapped to the lower end. The function can be pickled.

    Parameters
    ----------
    mode : {"0,1", "-1,1"}
        Range.

    Returns
    -------
    function of an array to a floating-point array (float64 for float64, else float32)

    Raises
    ------
    UnknownNameError
        If the range is unknown. The function raises `ConfigError` if a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> norm_range("-1,1")(np.array([10, 15, 20])).tolist(), norm_range("0,1")(np.full(2, 7)).tolist()
    ([-1.0, 0.0, 1.0], [0.0, 0.0])
    """
    require_choice("range", mode, _RANGES)
    low, high = _RANGES[mode]
    return partial(_to_range, low=low, high=high)


def norm_zero_mean_unit_std(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Shift and scale an image to mean 0 and standard deviation 1. A constant image becomes 0.

    Returns
    -------
    floating-point array of the same shape (float64 for float64, else float32)

    Raises
    ------
    ConfigError
        If a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> norm_zero_mean_unit_std(np.array([1.0, 3.0])).tolist(), norm_zero_mean_unit_std(np.full(2, 0.1)).tolist()
    ([-1.0, 1.0], [0.0, 0.0])
    """
    values = _finite(data)
    if values.min() == values.max():  # rounding may make the computed deviation nonzero
        return np.zeros(values.shape, _kind(data))
    return np.asarray((values - values.mean()) / values.std(), dtype=_kind(data))


def cast(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Convert the dtype of an array, to integers or bools only if no value changes.

    Raises
    ------
    ConfigError
        If a value does not fit the dtype. The message contains the first one.

    Examples
    --------
    >>> import numpy as np
    >>> cast(np.array([0.0, 2.0]), "uint8").tolist()
    [0, 2]
    >>> cast(np.array([0.0, 300.0]), "uint8")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: the value 300.0 does not fit uint8
    """
    target = np.dtype(dtype)
    with np.errstate(invalid="ignore"):
        result: npt.NDArray[Any] = array.astype(target)
    if target.kind in "iub":
        changed = np.flatnonzero(result != array)
        if changed.size:
            raise ConfigError(f"the value {array.reshape(-1)[changed[0]]} does not fit {target}")
    return result


def _to_range(data: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
    values = _finite(data)
    least, width = values.min(), values.max() - values.min()
    share = (values - least) / width if width > 0 else np.zeros_like(values)
    return np.asarray(low + share * (high - low), dtype=_kind(data))


def _finite(data: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    values = np.asarray(data, dtype=np.float64)
    if not values.size:
        raise ConfigError(f"an image of shape {values.shape} has no values to normalise")
    if not np.isfinite(values).all():
        raise ConfigError("an image to normalise has a value that is NaN or infinite")
    return values


def _kind(data: npt.NDArray[Any]) -> type[np.floating[Any]]:
    return np.float64 if np.asarray(data).dtype == np.float64 else np.float32
