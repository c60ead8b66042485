"""What an argument may be, and which arguments a function takes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

__all__ = ["accepted_keywords", "is_number", "is_whole"]


def accepted_keywords(function: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments that a function takes; all of them where it takes any.

    Examples
    --------
    >>> accepted_keywords(lambda x, fold=0: x, {"fold": 1, "seed": 2})
    {'fold': 1}
    """
    names = _keywords(function)
    return dict(keywords) if names is None else {name: value for name, value in keywords.items() if name in names}


@functools.lru_cache(maxsize=256)
def _keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))


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
