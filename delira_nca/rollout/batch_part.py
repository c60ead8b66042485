"""Which samples of a batch a process works on, where several processes share it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

__all__ = ["BatchPart", "at_part", "current_part", "first_sample"]


@dataclass(frozen=True)
class BatchPart:
    """So many samples of a whole batch, beginning with one of them.

    Attributes
    ----------
    first : number of the first sample, counted in the whole batch.
    size : number of samples; 0 where a batch has fewer samples than there are processes.
    total : samples of the whole batch.

    Examples
    --------
    >>> [BatchPart.of(rank, 3, 8).rows for rank in range(3)]
    [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None)]
    >>> BatchPart.of(2, 3, 2).rows
    slice(0, 1, None)
    """

    first: int
    size: int
    total: int

    @classmethod
    def of(cls, rank: int, num_ranks: int, total: int) -> BatchPart:
        """Part of one of several processes: parts follow one another, and differ by one sample at most."""
        size, rest = divmod(total, num_ranks)
        size, first = size + (rank < rest), rank * size + min(rank, rest)
        return cls(first if size else 0, size, total)

    @property
    def rows(self) -> slice:
        """Samples that are computed: without any of its own, the first one, whose results count for nothing."""
        return slice(self.first, self.first + max(self.size, 1))

    @property
    def own(self) -> slice:
        """Samples that count."""
        return slice(self.first, self.first + self.size)

    @property
    def share(self) -> float:
        """Of the whole batch, from 0 to 1."""
        return self.size / self.total


_CURRENT: ContextVar[BatchPart | None] = ContextVar("batch_part", default=None)


@contextlib.contextmanager
def at_part(part: BatchPart | None) -> Iterator[None]:
    """Let what is computed inside the block be a part of a batch: what is random knows its place in the whole."""
    token = _CURRENT.set(part)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_part() -> BatchPart | None:
    """Part that is worked on; None for a batch that is whole."""
    return _CURRENT.get()


def first_sample(states: Tensor) -> int:
    """Number of the first of some states in the whole batch.

    Parameters
    ----------
    states : (B, ...); where each sample of the part has become several, so have those before it.

    Examples
    --------
    >>> import torch
    >>> with at_part(BatchPart(first=4, size=2, total=6)):
    ...     first_sample(torch.zeros(2, 8)), first_sample(torch.zeros(6, 8))
    (4, 12)
    >>> first_sample(torch.zeros(2, 8))
    0
    """
    part = _CURRENT.get()
    if part is None or states.dim() == 0:
        return 0
    times, rest = divmod(len(states), max(part.size, 1))
    return part.first * times if times and not rest else part.first
