"""Batches of an epoch, from a data manager or any iterable. Does not import torch."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from delira_nca.errors import ConfigError

__all__ = ["Batch", "batch_length", "batches_of", "check_batch", "check_source", "each"]

Batch = Mapping[str, Any]


def batch_length(batch: Batch) -> int:
    """Number of samples: the length of ``"data"``, or of the first entry with a length."""
    for value in (batch.get("data"), *batch.values()):
        if hasattr(value, "__len__"):
            return len(value)
    return 1


def check_batch(batch: Any, where: str) -> None:
    """Check that a batch is a dict of arrays with at least one sample. ``where`` names it in error messages.

    Examples
    --------
    >>> check_batch(([1.0], [0.0]), "batch 0 of epoch 1")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: batch 0 of epoch 1 is a tuple, but a batch is a dict of arrays such as ...
    """
    if not isinstance(batch, Mapping):
        raise ConfigError(
            f"{where} is a {type(batch).__name__}, but a batch is a dict of arrays such as {{'data': ..., 'label': "
            "...}. Let the dataset give dicts, or give a torch DataLoader a collate_fn that returns one"
        )
    for name in ("data", *batch):
        value: Any = batch.get(name)
        if hasattr(value, "shape"):
            if len(value.shape) and not len(value):
                raise ConfigError(f"{where} holds no sample: {name!r} has the shape {tuple(value.shape)}")
            return


def check_source(name: str, source: Any, num_passes: int = 1) -> None:
    """Check that a source is a data manager or an iterable of batches, which can be iterated ``num_passes`` times."""
    if isinstance(source, (str, bytes, os.PathLike)):
        raise ConfigError(f"{name} is a data manager or an iterable of batches, not a path: {source!r}")
    if isinstance(source, Mapping):
        raise ConfigError(
            f"{name} is a data manager or an iterable of batches, not a dict of {sorted(map(str, source))}: "
            "DataManager(data, batch_size) makes batches of it"
        )
    if not hasattr(source, "get_batchgen") and not isinstance(source, Iterable):
        raise ConfigError(f"{name} is a data manager or an iterable of batches, not {source!r}")
    ends = isinstance(source, Generator) or type(source).__module__ in ("builtins", "itertools")
    if num_passes > 1 and ends and isinstance(source, Iterator):  # those of other classes may restart
        raise ConfigError(f"{name} is an iterator, which ends after one epoch: give a list or a data manager")


def batches_of(source: Any, epoch: int, start: int = 0) -> Iterable[Batch]:
    """Batches of one epoch from number ``start`` on, from a data manager or any iterable.

    The epoch and the start are passed to the manager if it supports them. Otherwise, the first batches are loaded and
    dropped.
    """
    get = getattr(source, "get_batchgen", None)
    if get is None:
        batches = source
    else:
        known = inspect.signature(get).parameters
        wanted = {"epoch": epoch, **({"start": start} if start else {})}
        batches = get(**{name: value for name, value in wanted.items() if name in known})
        if "start" in known:
            start = 0
    if not start:
        return batches  # type: ignore[no-any-return]
    return batches[start:] if isinstance(batches, Sequence) else itertools.islice(batches, start, None)


def each(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """Yield batches. Closing this generator closes the iterator of the batches."""
    iterator = iter(batches)
    try:
        yield from iterator
    finally:
        getattr(iterator, "close", lambda: None)()
