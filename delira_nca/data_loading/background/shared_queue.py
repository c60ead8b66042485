"""Queue of processes that compute one result each, returned in the order of their start."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from delira_nca.data_loading.background.crew import Crew
from delira_nca.data_loading.background.faults import EmptyQueueError, TimeoutError  # noqa: A004
from delira_nca.data_loading.background.layout import Layout
from delira_nca.data_loading.background.proc import as_seconds, make_job, method_of
from delira_nca.data_loading.background.worker import Job
from delira_nca.data_loading.batches import require_integer
from delira_nca.data_loading.show import is_debug

__all__ = ["SharedQ"]

_LOGGER = logging.getLogger("delira_nca")


@dataclass
class _Item:
    number: int
    job: Job
    layout: Layout | None
    crew: Crew | None  # None: computed in this process when requested


class SharedQ:
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
    >>> with SharedQ() as queue:
    ...     for value in (3.0, 4.0):
    ...         queue.startproc(np.float64, (2,), np.full, (2, value))
    ...     queue.get(), queue.get()
    (array([3., 3.]), array([4., 4.]))
    """

    def __init__(
        self, n_proc: int = 0, profile: bool = False, *, seed: int = 0, start_method: str | None = None
    ) -> None:
        require_integer("n_proc", n_proc, 0)
        require_integer("seed", seed, 0)
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
            Dtypes and shapes of the arrays, as for `delira_nca.data_loading.background.BackgroundProc`. If both are
            None, the result is sent through a pipe, which is slower.
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
        job = make_job(target, target_args, target_kwargs, self._seed, fill, has_layout=layout is not None)
        crew = None
        if not is_debug():
            crew = Crew(job, self._method, 1, self._number, self._number + 1)
            try:
                if layout is None:
                    crew.scout()
                else:
                    crew.furnish(layout, 1)
                    if self._method == "fork":  # takes milliseconds; then the memory needs no name
                        crew.wait_until_ready()
            except BaseException:
                crew.close()
                raise
        self._items.append(_Item(self._number, job, layout, crew))
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
        seconds = 0.0 if timeout is None or timeout is False else as_seconds(timeout)
        if not self._items:
            raise EmptyQueueError("no result is on its way: call startproc() before get()")
        item = self._items[0]
        start = time.perf_counter()
        try:
            if item.crew is not None:
                item.crew.wait_for(item.number, seconds)
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
        if item.crew is not None:
            return item.crew.look(item.number).join()
        flat = item.job.make(item.number, item.layout)
        return flat._replace(arrays=[np.array(array, order="C") for array in flat.arrays]).join()

    def _drop(self) -> None:
        crew = self._items.popleft().crew
        if crew is not None:
            crew.close()

    def reset(self) -> None:
        """Stop all processes and discard their results. The numbers of later processes continue."""
        while self._items:
            self._drop()

    def shutdown(self) -> None:
        """Stop all processes and free the shared memory. Repeated calls have no effect."""
        self.reset()

    def __enter__(self) -> SharedQ:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
