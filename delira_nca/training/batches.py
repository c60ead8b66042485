"""The batches of an epoch, from a data manager or from any iterable. Free of torch."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Batch", "batch_length", "batches_of", "each"]

Batch = Mapping[str, Any]


def batch_length(batch: Batch) -> int:
    """Number of samples: the length of ``"data"``, or else of the first entry that has one."""
    for value in (batch.get("data"), *batch.values()):
        if hasattr(value, "__len__"):
            return len(value)
    return 1


def batches_of(source: Any, epoch: int, start: int = 0) -> Iterable[Batch]:
    """Batches of one epoch from number ``start`` on, of a data manager or of any iterable.

    A manager that knows epochs is asked for this one; where it cannot leave out batches, they are built and dropped.
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
    """Yield batches; closing it lets go of whatever makes them."""
    iterator = iter(batches)
    try:
        yield from iterator
    finally:
        getattr(iterator, "close", lambda: None)()
