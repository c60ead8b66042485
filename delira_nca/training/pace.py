"""How often a side job runs, so that it takes a small share of the time. Free of torch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from delira_nca.checks import require_number

__all__ = ["Pace"]


class Pace:
    """Limit how often a job runs, by the wall clock.

    Parameters
    ----------
    every : float
        Seconds between two beginnings, at least.
    share : float
        Largest share of the time that the job may take; a slow job runs less often.
    clock : callable
        Seconds since any fixed moment.

    Raises
    ------
    ConfigError
        For a negative interval, or a share outside of (0, 1].

    Examples
    --------
    >>> seconds = iter([0.0, 0.0, 1.0, 30.0, 60.0])
    >>> pace = Pace(5.0, share=0.02, clock=lambda: next(seconds))
    >>> pace.is_due()
    True
    >>> with pace.job():  # takes one second, so the next one is due 50 s after it began
    ...     pass
    >>> pace.is_due(), pace.is_due()
    (False, True)
    """

    def __init__(self, every: float, *, share: float = 0.02, clock: Callable[[], float] = time.monotonic) -> None:
        require_number("every", every, 0)
        require_number("share", share, most=1, above=0)
        self.every, self.share, self._clock = every, share, clock
        self._next = -math.inf

    def is_due(self) -> bool:
        """Whether the job may run now."""
        return self._clock() >= self._next

    @contextmanager
    def job(self) -> Iterator[None]:
        """Measure the job inside the block."""
        begin = self._clock()
        try:
            yield
        finally:
            self._next = begin + max(self.every, (self._clock() - begin) / self.share)
