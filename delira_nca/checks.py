"""Checks of arguments and of signatures. Does not import torch."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard, TypeVar

import numpy as np

from delira_nca.errors import ConfigError

__all__ = [
    "accepted_keywords",
    "as_plain",
    "is_number",
    "is_whole",
    "plain_numbers",
    "require_callable",
    "require_number",
    "require_type",
    "require_whole",
    "require_wholes",
]

C = TypeVar("C", bound=Callable[..., Any])


def accepted_keywords(function: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that a function accepts; all of them if it has ``**kwargs``.

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


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy; booleans are excluded.

    Examples
    --------
    >>> import numpy as np
    >>> is_whole(3), is_whole(np.int64(3)), is_whole(True), is_whole(3.0)
    (True, True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number of Python or NumPy; booleans are excluded.

    Examples
    --------
    >>> import numpy as np
    >>> is_number(0.5), is_number(np.float32(0.5)), is_number(np.True_), is_number("0.5")
    (True, True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def require_whole(
    name: str, value: Any, least: int | None = None, most: int | None = None, *, error: type[Exception] = ConfigError
) -> int:
    """Raise an error unless a value is an integer within bounds; NumPy integers are accepted, booleans are not.

    Parameters
    ----------
    name : str
        Name of the argument, with which the message begins.
    value : Any
        Value of the argument.
    least : int, optional
        Lower bound, inclusive.
    most : int, optional
        Upper bound, inclusive.
    error : type of Exception
        Class of the error.

    Returns
    -------
    int
        The value.

    Raises
    ------
    ConfigError
        Or ``error``. The message has the name, the expected values and the value.

    Examples
    --------
    >>> require_whole("patience", 2.5, 0)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: patience must be a whole number of at least 0, not 2.5
    """
    if not (is_whole(value) and (least is None or value >= least) and (most is None or value <= most)):
        raise error(f"{name} must be a whole number{_bounds(least=least, most=most)}, not {value!r}")
    return int(value)


def require_wholes(
    name: str,
    values: Any,
    least: int | None = None,
    *,
    count: int | None = None,
    repeat: int | None = None,
    error: type[Exception] = ConfigError,
) -> tuple[int, ...]:
    """Raise an error unless a value is a sequence of one or more integers.

    Parameters
    ----------
    name : str
        Name of the argument, with which the message begins.
    values : Any
        Value of the argument.
    least : int, optional
        Lower bound of each number, inclusive.
    count : int, optional
        Length of the sequence; any length by default.
    repeat : int, optional
        Length of the result for a single number. By default, a single number is an error.
    error : type of Exception
        Class of the error.

    Returns
    -------
    tuple of int
        The numbers.

    Raises
    ------
    ConfigError
        Or ``error``. The message has the name, the expected values and the value.

    Examples
    --------
    >>> require_wholes("tile", 8, 1, count=2, repeat=2)
    (8, 8)
    >>> require_wholes("tile", (8, 0), 1, count=2, repeat=2)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: tile must be a whole number of at least 1, or 2 of them, not (8, 0)
    """
    is_sequence = isinstance(values, Sequence) or (isinstance(values, np.ndarray) and values.ndim > 0)
    found: tuple[Any, ...] = tuple(values) if is_sequence else (values if repeat else None,) * (repeat or 1)
    fit = all(is_whole(number) and (least is None or number >= least) for number in found)
    if not fit or len(found) != (max(len(found), 1) if count is None else count):
        bounds = _bounds(least=least)
        several = "several" if count is None else f"{count} of them"
        expected = f"{'one or more' if count is None else count} whole numbers{bounds}"
        raise error(f"{name} must be {f'a whole number{bounds}, or {several}' if repeat else expected}, not {values!r}")
    return tuple(map(int, found))


def require_number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    error: type[Exception] = ConfigError,
) -> float:
    """Raise an error unless a value is a finite real number within bounds; booleans are an error.

    Parameters
    ----------
    name : str
        Name of the argument, with which the message begins.
    value : Any
        Value of the argument.
    least, most : float, optional
        Bounds, inclusive.
    above, below : float, optional
        Bounds, exclusive.
    error : type of Exception
        Class of the error.

    Returns
    -------
    float
        The value as a Python number.

    Raises
    ------
    ConfigError
        Or ``error``. The message has the name, the expected values and the value.

    Examples
    --------
    >>> require_number("decay", 1.0, 0, below=1)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: decay must be a number of at least 0 and below 1, not 1.0
    """
    within = is_number(value) and math.isfinite(value)
    within = within and (least is None or value >= least) and (most is None or value <= most)
    if not (within and (above is None or value > above) and (below is None or value < below)):
        bounds = _bounds(least=least, above=above, most=most, below=below)
        raise error(f"{name} must be a {'' if bounds else 'finite '}number{bounds}, not {value!r}")
    number: float = value.item() if isinstance(value, np.generic) else value
    return number


def _bounds(**bounds: float | None) -> str:
    if bounds.get("least") is not None and bounds.get("most") is not None:
        return f" from {bounds['least']} to {bounds['most']}"
    words = {"least": "of at least", "above": "above", "below": "below", "most": "of at most"}
    given = [f"{words[name]} {bound}" for name, bound in bounds.items() if bound is not None]
    return " " * bool(given) + " and ".join(given).replace("and of", "and")


def require_callable(name: str, value: Any, *, error: type[Exception] = ConfigError) -> None:
    """Raise an error unless a value is callable.

    Raises
    ------
    ConfigError
        Or ``error``. The message has the name and the value.

    Examples
    --------
    >>> require_callable("load_fn", "sample.npy")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: load_fn must be callable, not 'sample.npy'
    """
    if not callable(value):
        raise error(f"{name} must be callable, not {value!r}")


def require_type(name: str, value: Any, *types: type, error: type[Exception] = ConfigError) -> None:
    """Raise an error unless a value is an instance of one of the types.

    Raises
    ------
    ConfigError
        Or ``error``. The message has the name, the expected types and the type of the value.

    Examples
    --------
    >>> require_type("pool", {}, list, tuple)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: pool must be of type list or tuple, not dict
    """
    if not isinstance(value, types):
        expected = " or ".join(dict.fromkeys(kind.__name__ for kind in types))
        raise error(f"{name} must be of type {expected}, not {type(value).__name__}")


def as_plain(value: Any) -> Any:
    """Convert NumPy scalars to Python numbers, also inside lists, tuples and dicts; other values are kept.

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
    """Decorate a function or a class so that its arguments pass through :func:`as_plain`.

    Sweeps over ``np.linspace`` and columns of tables yield NumPy scalars, which descriptions and checkpoints cannot
    store.

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
