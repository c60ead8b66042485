"""Kinds of numbers that an argument may be."""

from __future__ import annotations

from numbers import Integral, Real

__all__ = ["is_number", "is_whole"]


def is_whole(value: object) -> bool:
    """Whether a value is a whole number: an ``int`` or an integer of NumPy, but no boolean.

    Examples
    --------
    >>> import numpy as np
    >>> is_whole(3), is_whole(np.int64(3)), is_whole(True), is_whole(3.0)
    (True, True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a real number, of Python or NumPy, but no boolean.

    Examples
    --------
    >>> import numpy as np
    >>> is_number(0.5), is_number(np.float32(0.5)), is_number(np.True_), is_number("0.5")
    (True, True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)
