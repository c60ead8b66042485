"""What a caller hands in for an iteration or a score, as a plain number. Free of torch."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError

__all__ = ["as_iteration", "as_number", "require_text"]

_LAST = 2**63 - 1  # that arrays of iterations hold


def as_iteration(given: Any, what: str = "an iteration") -> int:
    """Whole number of at least 0 out of one of Python, numpy or torch.

    Raises
    ------
    ConfigError
        If it is something else: negative, a float (``3.0`` too), a truth value.

    Examples
    --------
    >>> as_iteration(2.5)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: an iteration must be a whole number from 0 to 9223372036854775807, not 2.5
    """
    try:
        value = given if isinstance(given, bool) else operator.index(given)
    except TypeError:
        value = given
    return require_whole(what, value, 0, _LAST)


def as_number(what: str, given: Any) -> float:
    """One number out of a number, an array or a tensor of one element. NaN and infinity are numbers.

    A NaN is always the object ``math.nan``, so that records that hold one can be equal.

    Raises
    ------
    ConfigError
        If it is no number, or more than one.

    Examples
    --------
    >>> import numpy as np
    >>> as_number("a loss", np.float32(0.5))
    0.5
    >>> as_number("a loss", np.ones(3))
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: a loss is one number, not a ndarray of shape (3,)
    """
    value = given
    if hasattr(value, "item") and hasattr(value, "shape"):
        if math.prod(value.shape) != 1:
            raise ConfigError(f"{what} is one number, not a {type(given).__name__} of shape {tuple(given.shape)}")
        value = value.item()
    if not isinstance(value, numbers.Real):
        raise ConfigError(f"{what} is one number, not {given!r}")
    try:
        number = float(value)
    except OverflowError:
        raise ConfigError(f"{what} is a number that a float can hold, not {given!r}") from None
    return math.nan if math.isnan(number) else number


def require_text(what: str, given: Any) -> str:
    """Name that is a text with at least one character.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if not isinstance(given, str) or not given:
        raise ConfigError(f"{what} is a text of at least one character, not {given!r}")
    return str(given)
