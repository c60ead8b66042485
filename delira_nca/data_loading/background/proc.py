"""Repeated calls of a function in background processes, with ordered results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from delira_nca.checks import require_number, require_whole
from delira_nca.data_loading.background.faults import TimeoutError  # noqa: A004
from delira_nca.data_loading.background.job import BackgroundJob, method_of
from delira_nca.data_loading.background.layout import Flat, Layout
from delira_nca.data_loading.background.shared_mem import SharedMem
from delira_nca.data_loading.show import is_debug
from delira_nca.errors import DeliraNCAError
from delira_nca.workers import WorkerGroup

__all__ = ["BackgroundProc"]

_LOGGER = logging.getLogger("delira_nca")


class BackgroundProc(SharedMem):
    """Call a function in background processes ahead of time, and return the results in order.

    The results do not depend on the number of processes: the global random generators of Python, NumPy and torch are
    seeded by ``(seed, k)`` for call ``k``, and its result is the ``k``-th of `get`. This does not hold for targets with
    a state, as each process has its own.

    Parameters
    ----------
    target : callable
        Function to call, for example a method of a data set. It returns an array, or a tuple, list or dict of arrays,
        with the same dtypes and shapes in every call.
    dtypes, shapes : object
        Dtypes and shapes of the arrays: one of each for a single array, else lists or dicts of them. By default they
        are those of the first result, for which the constructor waits.
    n_proc : int
        Number of processes; 0 calls the target in this process when a result is requested.
    target_args, target_kwargs : tuple, dict or None
        Constant arguments of the target.
    profile : bool
        Whether to log times at level INFO of the logger ``"delira_nca"``.
    read_ahead : int
        Number of results that each process computes ahead, at least 1.
    seed : int
        Seed of all random numbers, at least 0.
    start_method : str or None
        ``"fork"``, ``"spawn"`` or ``"forkserver"``; None uses the default of the platform. With the latter two, target
        and arguments must be picklable.
    timeout : float
        Timeout of `get` and the constructor in seconds; 0 waits forever.
    first_call : int
        Number of the first call, to resume after another run.
    copy : bool
        Whether to copy the arrays. If False, they are views of the shared memory and change in the next `get`.
    fill : bool
        Whether to call ``target(arrays, shapes, *target_args, **target_kwargs)``, which writes into the arrays. Its
        return value is ignored; this saves a copy. Arrays and shapes have the form of ``shapes``: one, a list or a
        dict. The arrays hold arbitrary values.

    Raises
    ------
    ConfigError
        If an argument is invalid, or the target cannot be pickled for a process that is not forked.
    Exception
        Any exception of the first call, if the constructor waits for it.

    Notes
    -----
    In `delira_nca.data_loading.show.debug_mode` no process is started; the results are equal.

    Examples
    --------
    >>> import numpy as np
    >>> with BackgroundProc(np.full, n_proc=2, target_args=((2, 2), 7.0)) as background:
    ...     background.get()
    array([[7., 7.],
           [7., 7.]])
    """

    def __init__(
        self,
        target: Callable[..., Any],
        dtypes: Any = None,
        shapes: Any = None,
        n_proc: int = 1,
        target_args: tuple[Any, ...] = (),
        target_kwargs: Mapping[str, Any] | None = None,
        profile: bool = False,
        *,
        read_ahead: int = 2,
        seed: int = 0,
        start_method: str | None = None,
        timeout: float = 0.0,
        first_call: int = 0,
        copy: bool = True,
        fill: bool = False,
    ) -> None:
        require_whole("n_proc", n_proc, 0)
        require_whole("read_ahead", read_ahead, 1)
        require_whole("first_call", first_call, 0)
        layout = Layout.from_spec(dtypes, shapes)
        self._job = BackgroundJob(
            target, target_args, {} if target_kwargs is None else target_kwargs, seed, bool(fill), layout
        )
        self._method = method_of(start_method)
        self._num_workers, self._num_slots = int(n_proc), int(read_ahead) + (not copy)
        self._num_ahead = self._num_workers * int(read_ahead)
        self._seconds, self._profile, self._copy = require_number("timeout", timeout, 0), bool(profile), bool(copy)
        self._call = int(first_call)
        self._group: WorkerGroup | None = None
        self._first: Flat | None = None  # computed in this process to find the layout
        self._lent: int | None = None  # call with a slot that the caller still views
        self._has_timed_out = False
        self._trouble = ""
        self._begin()

    @property
    def call(self) -> int:
        """Number of the call with the next result."""
        return self._call

    def get(self, timeout: float | bool | None = False) -> Any:
        """Return the next result; block until it is available.

        Parameters
        ----------
        timeout : float, bool or None
            Timeout in seconds; 0 waits forever; False or None uses that of the constructor.

        Returns
        -------
        C-contiguous arrays in the container that the target returned; copies, unless ``copy`` is False.

        Raises
        ------
        TimeoutError
            If the result is not available in time. It can be requested again.
        ShapeError
            If dtypes or shapes differ from those of the first result.
        WorkerDiedError
            If a process ended; `reset` starts new ones.
        Exception
            Any exception of the target, with the traceback of the process as its cause. The next `get` continues with
            the next call.
        """
        seconds = self._seconds if timeout is None or timeout is False else require_number("timeout", timeout, 0)
        if self._trouble:
            raise DeliraNCAError(self._trouble)
        if self._group is None:
            return self._get_here()
        return self._get_from(self._group, seconds)

    def _get_from(self, group: WorkerGroup, seconds: float) -> Any:
        self._trouble = "an earlier get() was interrupted; call reset() to continue"
        start = time.perf_counter()
        if self._lent is not None:
            self._release(group, self._lent)
            self._lent = None
        try:
            self._job.wait_for(group, self._call, seconds)
        except TimeoutError:
            self._trouble, self._has_timed_out = "", True
            raise
        except DeliraNCAError:
            self._end("a background process failed; call reset() to continue")
            self._call += 1
            raise
        arrived = time.perf_counter()
        try:
            result = self._fit(self._job.read(group, self._call, view=not self._copy)).join()
        except Exception:
            self._advance(group, self._copy)
            raise
        if self._profile:
            _, worker, made = group.result(self._call)
            _log_times(self._call, worker, made, arrived - start, time.perf_counter() - arrived)
        self._advance(group, self._copy)
        return result

    def _fit(self, flat: Flat) -> Flat:
        """Check the result of the current call against the layout, which the first result sets."""
        if self._job.layout is None:
            self._job = replace(self._job, layout=Layout.of(flat))
        assert self._job.layout is not None
        return self._job.layout.fit(flat, self._call)

    def _advance(self, group: WorkerGroup, is_done_with: bool) -> None:
        """Advance to the next call, and release the slot if the caller does not view it."""
        call, self._call, self._has_timed_out = self._call, self._call + 1, False
        if is_done_with:
            self._release(group, call)
        else:
            self._lent = call
        self._trouble = ""

    def _release(self, group: WorkerGroup, call: int) -> None:
        group.release(call)
        group.submit(call + self._num_ahead, call + self._num_ahead)

    def _get_here(self) -> Any:
        start = time.perf_counter()
        first, self._first = self._first, None
        try:
            flat = self._fit(self._job.make_here(self._call) if first is None else first)
        finally:
            call, self._call = self._call, self._call + 1
        if self._profile:
            _log_times(call, "this process", time.perf_counter() - start, 0.0, 0.0)
        return flat.join()

    def reset(self, call: int | None = None) -> None:
        """Stop the processes and start new ones, after an exception or to continue at another call.

        Parameters
        ----------
        call : int or None
            Number of the next call. By default it is the one after the last for which `get` returned or raised. Calls
            that failed, timed out or lost their process are not repeated; interrupted calls (Ctrl+C) are.
        """
        if call is not None:
            require_whole("call", call, 0)
        self._end("the background processes could not be started again; call reset() to try it once more")
        self._call = self._call + self._has_timed_out if call is None else int(call)
        self._has_timed_out = False
        self._begin()

    def shutdown(self) -> None:
        """Stop the processes and free the shared memory. Repeated calls have no effect; `reset` starts new processes.

        It is called at the end of a ``with`` block, when the object is garbage-collected, and at exit.
        """
        self._end("the background processes were shut down; call reset() to start them again")

    def __enter__(self) -> BackgroundProc:
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()

    def _end(self, trouble: str) -> None:
        self._trouble = trouble
        group, self._group, self._first, self._lent = self._group, None, None, None
        if group is not None:
            group.close()

    def _begin(self) -> None:
        if self._num_workers == 0 or is_debug():
            if self._job.layout is None:
                self._first = self._fit(self._job.make_here(self._call))
            self._trouble = ""
            return
        group = self._job.start(self._method, self._num_workers, self._num_slots)
        try:
            for call in range(self._call, self._call + self._num_ahead):
                group.submit(call, call)
            if self._job.layout is None:
                self._job.wait_for(group, self._call, self._seconds)
                self._fit(self._job.read(group, self._call, view=True))
        except BaseException:
            group.close()
            raise
        self._group, self._trouble = group, ""


def _log_times(call: int, maker: str, made: float, waited: float, copied: float) -> None:
    times = (1e3 * made, 1e3 * waited, 1e3 * copied)
    _LOGGER.info(
        "background call %d: %s made it in %.2f ms, waited %.2f ms, handed out in %.2f ms", call, maker, *times
    )
