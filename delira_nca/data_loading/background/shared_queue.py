"""Queue of processes that compute one result each, returned in the order of their start."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from delira_nca.checks import require_number, require_whole
from delira_nca.data_loading.background.faults import EmptyQueueError, TimeoutError  # noqa: A004
from delira_nca.data_loading.background.job import BackgroundJob, method_of
from delira_nca.data_loading.background.layout import Layout
from delira_nca.data_loading.background.shared_mem import SharedMem
from delira_nca.data_loading.show import is_debug
from delira_nca.workers import WorkerGroup

__all__ = ["SharedQ"]

_LOGGER = logging.getLogger("delira_nca")


@dataclass
class _Item:
    number: int
    job: BackgroundJob
    group: WorkerGroup | None  # None: computed in this process when requested


class SharedQ(SharedMem):
    """First-in first-out queue of results, each computed by a separate process with its own function.

    The global random generators of Python, NumPy and torch are seeded by ``(seed, k)`` in the ``k``-th process.

    Parameters
    ----------
    n_proc : int
        Intended number of running processes; a message is logged if there are fewer after a `get`. 0 disables it.
    profile : bool
        Whether to log times at level INFO of the logger ``"delira_nca"``.
    seed : int
        Seed of all random numbers, at least 0.
    start_method : str or None
        See `delira_nca.data_loading.background.BackgroundProc`.

    Examples
    --------
    >>> import numpy as np
    >>> with SharedQ() as queue:
    ...     for value in (3.0, 4.0):
    ...         queue.startproc(np.float64, (2,), np.full, (2, value))
    ...     queue.get(), queue.get()
    (array([3., 3.]), array([4., 4.]))
    """

    def __init__(
        self, n_proc: int = 0, profile: bool = False, *, seed: int = 0, start_method: str | None = None
    ) -> None:
        require_whole("n_proc", n_proc, 0)
        require_whole("seed", seed, 0)
        self._wish, self._profile, self._seed, self._method = n_proc, profile, seed, method_of(start_method)
        self._items: deque[_Item] = deque()
        self._number = 0

    def __len__(self) -> int:
        """Number of results that can be requested."""
        return len(self._items)

    def startproc(
        self,
        dtypes: Any,
        shapes: Any,
        target: Callable[..., Any],
        target_args: tuple[Any, ...] = (),
        target_kwargs: Mapping[str, Any] | None = None,
        *,
        fill: bool = False,
    ) -> None:
        """Start a process that computes one result.

        Parameters
        ----------
        dtypes, shapes : object
            Dtypes and shapes of the arrays, as for `delira_nca.data_loading.background.BackgroundProc`; None accepts
            any result.
        target : callable
            Function that returns an array, or a tuple, list or dict of arrays.
        target_args, target_kwargs : tuple, dict or None
            Arguments of the target.
        fill : bool
            Whether to call ``target(arrays, shapes, *target_args, **target_kwargs)``, which writes into the arrays.

        Raises
        ------
        ConfigError
            If an argument is invalid, or the target cannot be pickled for a process that is not forked.
        """
        layout = Layout.from_spec(dtypes, shapes)
        job = BackgroundJob(
            target, target_args, {} if target_kwargs is None else target_kwargs, self._seed, bool(fill), layout
        )
        group = None
        if not is_debug():
            group = job.start(self._method, 1, 1)
            group.submit(self._number, self._number)
        self._items.append(_Item(self._number, job, group))
        self._number += 1

    def get(self, timeout: float | bool | None = False) -> Any:
        """Return the result of the process that was started first; block until it is available.

        Parameters
        ----------
        timeout : float, bool or None
            Timeout in seconds; False, None or 0 waits forever.

        Raises
        ------
        EmptyQueueError
            If no process is pending.
        TimeoutError
            If the result is not available in time. It can be requested again.
        ShapeError
            If dtypes or shapes differ from the given ones.
        WorkerDiedError
            If the process ended without a result.
        Exception
            Any exception of the target, with the traceback of the process as its cause.
        """
        seconds = 0.0 if timeout is None or timeout is False else require_number("timeout", timeout, 0)
        if not self._items:
            raise EmptyQueueError("no result is on its way: call startproc() before get()")
        item = self._items[0]
        start = time.perf_counter()
        try:
            if item.group is not None:
                item.job.wait_for(item.group, item.number, seconds)
        except TimeoutError:
            raise
        except Exception:
            self._drop()
            raise
        try:
            result = self._result(item)
        except Exception:
            self._drop()
            raise
        self._drop()
        if self._profile:
            _LOGGER.info("shared queue: waited %.2f ms for result %d", 1e3 * (time.perf_counter() - start), item.number)
        if len(self) < self._wish:
            _LOGGER.warning(
                "shared queue: %d processes are running, fewer than n_proc=%d; call startproc() before get()",
                *(len(self), self._wish),
            )
        return result

    @staticmethod
    def _result(item: _Item) -> Any:
        flat = item.job.make_here(item.number) if item.group is None else item.job.read(item.group, item.number)
        return flat.join()

    def _drop(self) -> None:
        group = self._items.popleft().group
        if group is not None:
            group.close()

    def reset(self) -> None:
        """Stop all processes and discard their results. The numbers of later processes continue."""
        while self._items:
            self._drop()

    def shutdown(self) -> None:
        """Stop all processes and free the shared memory. Repeated calls have no effect."""
        self.reset()

    def __enter__(self) -> SharedQ:
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
