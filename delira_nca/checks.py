"""What an argument may be, and which arguments a function takes. Free of torch."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

__all__ = ["accepted_keywords", "as_plain", "is_number", "is_whole", "plain_numbers"]

C = TypeVar("C", bound=Callable[..., Any])


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
