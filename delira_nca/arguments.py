"""Arguments as plain Python numbers. Free of torch."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

__all__ = ["as_plain", "plain_numbers"]

C = TypeVar("C", bound=Callable[..., Any])


def as_plain(value: Any) -> Any:
    """Numpy scalars as Python numbers, within lists, tuples and dicts too; anything else as it is.

    Examples
    --------
    >>> as_plain((np.int64(2), {"lr": np.float64(0.5)}))
    (2, {'lr': 0.5})
    """
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        parts = [as_plain(part) for part in value]
        return value if all(map(operator.is_, parts, value)) else type(value)(parts)
    if type(value) is dict:
        entries = {key: as_plain(part) for key, part in value.items()}
        return value if all(entries[key] is value[key] for key in value) else entries
    return value


def plain_numbers(function: C) -> C:
    """Decorator of a function or a class that is called with :func:`as_plain` arguments.

    Sweeps over ``np.linspace`` and columns of tables give numpy scalars, which no description or checkpoint holds.

    Examples
    --------
    >>> @plain_numbers
    ... def describe(size):
    ...     return {"size": size}
    >>> describe(np.int64(3))
    {'size': 3}
    """
    if isinstance(function, type):
        function.__init__ = plain_numbers(function.__init__)  # type: ignore[misc]
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*(as_plain(arg) for arg in args), **{name: as_plain(arg) for name, arg in kwargs.items()})

    return call  # type: ignore[return-value]
