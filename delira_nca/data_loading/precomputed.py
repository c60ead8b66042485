"""Deterministic parts of a computation, computed once and stored beside the data."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_callable, require_type
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.seeding import isolated_rng

__all__ = ["precompute"]

Array = npt.NDArray[Any]


def precompute(
    function: Callable[..., Any],
    database: Mapping[str, Any],
    key: str,
    *,
    inputs: Iterable[str] = ("data",),
    file: str | os.PathLike[str] | None = None,
    version: str = "",
) -> dict[str, Any]:
    """Compute an entry of the data from others once, and return the data with it.

    Examples are distance maps of masks, or features of a fixed perception.

    Parameters
    ----------
    function : callable
        Deterministic function of the inputs of one sample, in order, that returns an array. All results have one shape.
    database : mapping of str to array
        Arrays by name, with one sample per row, as for `DictDataset`.
    key : str
        Name of the new entry.
    inputs : iterable of str
        Names of the inputs.
    file : str or path-like, optional
        ``.npz`` file that stores the results. If it exists, they are read from it.
    version : str
        Version of the results, to be changed with settings that the function uses.

    Returns
    -------
    dict
        The data with the (S, ...) results.

    Raises
    ------
    ConfigError
        If the function is random, a result is not an array of numbers, the entry exists, or the file is stale: it was
        computed from other data, by another function or version.
    ShapeError
        If the results or the inputs differ in shape or number.
    UnknownNameError
        If an input is missing.

    Notes
    -----
    This is the general form of hippynn's ``precompute_pairs``. The file records a SHA-256 digest of the inputs, the
    source of the function (its name if it has none), the name of the entry and ``version``. Other functions and values
    that the function uses are not part of it.

    Examples
    --------
    >>> data = {"data": np.arange(6.0).reshape(2, 3)}
    >>> precompute(lambda x: x.cumsum(), data, "sums")["sums"].tolist()
    [[0.0, 1.0, 3.0], [3.0, 7.0, 12.0]]
    """
    require_callable("function", function)
    require_type("database", database, Mapping)
    if key in database:
        raise ConfigError(f"the data have an entry {key!r} already")
    names = list(inputs)
    for name in names:
        require_choice("entry of the data", name, database)
    columns = [np.asarray(database[name]) for name in names]
    if not columns or not len(columns[0]) or len({len(column) for column in columns}) > 1:
        raise ShapeError(f"the inputs must have the same number of samples, not {[c.shape for c in columns]}")
    digest = _digest(function, columns, key, version)
    path = None if file is None else absolute(file)
    if path is not None and path.exists():
        return {**database, key: _stored(path, key, digest)}
    with isolated_rng(1):
        again = _result(function, columns, 0)
    with isolated_rng(0):
        results = [_result(function, columns, number) for number in range(len(columns[0]))]
    if not np.array_equal(results[0], again, equal_nan=again.dtype.kind in "fc"):
        raise ConfigError(f"two calls of {_name(function)} with the same sample differ: it must be deterministic")
    if len(shapes := {result.shape for result in results}) > 1:
        raise ShapeError(f"the results of {_name(function)} must have one shape, not {sorted(shapes)}")
    stacked = np.stack(results)
    if path is not None:
        with replaced(path) as temporary, temporary.open("wb") as opened:
            np.savez_compressed(opened, values=stacked, digest=np.array(digest))
    return {**database, key: stacked}


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def _result(function: Callable[..., Any], columns: list[Array], number: int) -> Array:
    result = function(*(column[number].copy() for column in columns))
    result = result.detach().cpu() if hasattr(result, "detach") else result
    array: Array = np.asarray(result)
    if array.dtype.kind not in "biufc":
        raise ConfigError(f"{_name(function)} must return an array of numbers, not {result!r:.80}")
    return array


def _digest(function: Callable[..., Any], columns: list[Array], key: str, version: str) -> str:
    digest = hashlib.sha256(repr((_source(function), key, str(version))).encode())
    for column in columns:
        digest.update(repr((column.dtype.str, column.shape)).encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _source(function: Any) -> str:
    """Source of a function, also of partial functions and callable objects, with their arguments and attributes."""
    if isinstance(function, functools.partial):
        return repr((_source(function.func), function.args, sorted(function.keywords.items())))
    try:
        if inspect.isroutine(function):
            return inspect.getsource(function)
        return repr((inspect.getsource(type(function)), sorted(vars(function).items())))
    except (OSError, TypeError):
        return _name(function)


def _stored(path: Path, key: str, digest: str) -> Array:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            values, of = stored["values"], str(stored["digest"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} does not contain stored results: {error}") from error
    if of != digest:
        raise ConfigError(
            f"{path} is stale: its results of {key!r} are those of other data, another function or another version. "
            "Remove the file to compute them again"
        )
    found: Array = values
    return found
