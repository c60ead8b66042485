"""A queue of one-shot processes: each makes one result, which come out in the order the processes were started."""

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
    crew: Crew | None  # None: made in this process, when it is asked for


class SharedQ:
    """First-in first-out queue of results, each made by a process of its own; every one may have another function.

    The ``k``-th process that is started sees the global random generators of Python, numpy and torch seeded by
    ``(seed, k)``.

    Parameters
    ----------
    n_proc : int
        Number of processes that should be running; a message is logged when there are fewer after a `get`. 0 is no
        wish.
    profile : bool
        Whether times are logged, at level INFO of the logger ``"delira_nca"``.
    seed : int
        What all randomness is derived from, at least 0.
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
        """Count the results that can be asked for."""
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
        """Start a process that makes one result.

        Parameters
        ----------
        dtypes, shapes : object
            Types and shapes of the arrays, as for `delira_nca.data_loading.background.BackgroundProc`; with ``None``
            for both, the result comes through a pipe, which is slower.
        target : callable
            Function that returns an array, or a tuple, list or dict of arrays.
        target_args, target_kwargs : tuple, dict or None
            Arguments of the target.
        fill : bool
            The target is called as ``target(arrays, shapes, *target_args, **target_kwargs)``, and writes into the
            arrays.

        Raises
        ------
        ConfigError
            If an argument cannot work, or the target cannot be sent to a process that is not forked.
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
                    if self._method == "fork":  # a matter of milliseconds, after which the memory has no name
                        crew.wait_until_ready()
            except BaseException:
                crew.close()
                raise
        self._items.append(_Item(self._number, job, layout, crew))
        self._number += 1

    def get(self, timeout: float | bool | None = False) -> Any:
        """Result of the process that was started first; blocks until it is there.

        Parameters
        ----------
        timeout : float, bool or None
            Seconds to wait; ``False``, ``None`` or 0 waits for ever.

        Raises
        ------
        EmptyQueueError
            If no process was started for it.
        TimeoutError
            If the result is not there in time. It can be asked for again.
        ShapeError
            If the result has other types or shapes than were given.
        WorkerDiedError
            If the process ended without a result.
        Exception
            What the target raised; its cause is the traceback of the process.
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
        """End all processes and forget their results; numbers go on."""
        while self._items:
            self._drop()

    def shutdown(self) -> None:
        """End all processes and give the shared memory back. Repeated calls do nothing."""
        self.reset()

    def __enter__(self) -> SharedQ:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
