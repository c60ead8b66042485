"""A function that is called again and again by background processes, its results in order."""

from __future__ import annotations

import logging
import numbers
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from delira_nca.data_loading.background.crew import Crew
from delira_nca.data_loading.background.faults import TimeoutError  # noqa: A004
from delira_nca.data_loading.background.layout import Flat, Layout
from delira_nca.data_loading.background.worker import Job
from delira_nca.data_loading.batches import require_integer
from delira_nca.data_loading.show import is_debug
from delira_nca.data_loading.workers import start_method_of
from delira_nca.errors import ConfigError, DeliraNCAError, require_choice

__all__ = ["BackgroundProc", "as_seconds", "make_job"]

_LOGGER = logging.getLogger("delira_nca")


class BackgroundProc:
    """Calls a function in background processes, ahead of time, and hands out the results in order.

    The results of 1, 2 or 4 processes are the same: call ``k`` sees the global random generators of Python, numpy and
    torch seeded by ``(seed, k)``, whoever makes it, and comes ``k``-th out of `get`. What the target remembers from
    one call to the next, it remembers in one process only; a target that does so loses this guarantee.

    Parameters
    ----------
    target : callable
        Function to call, for example a method of a data set. It returns an array, or a tuple, list or dict of arrays,
        of the same types and shapes in every call.
    dtypes, shapes : object
        Types and shapes of the arrays: one of each for a single array, else lists or dicts of them. ``None`` takes them
        from the first result, for which the constructor then waits.
    n_proc : int
        Number of processes; 0 calls the target in this one, when a result is asked for.
    target_args, target_kwargs : tuple, dict or None
        Constant arguments of the target.
    profile : bool
        Whether times are logged, at level INFO of the logger ``"delira_nca"``.
    read_ahead : int
        Results that are made ahead for each process, at least 1.
    seed : int
        What all randomness is derived from, at least 0.
    start_method : str or None
        ``"fork"``, ``"spawn"`` or ``"forkserver"``; ``None`` is what the platform does. With the latter two, target and
        arguments must be picklable.
    timeout : float
        Seconds that `get` and the constructor wait; 0 waits for ever.
    first_call : int
        Number of the first call, to go on where another run ended.
    copy : bool
        ``False`` hands out arrays that lie in the shared memory, and change at the next `get`.
    fill : bool
        The target is called as ``target(arrays, shapes, *target_args, **target_kwargs)``, and writes into the arrays;
        its return value is ignored. That saves a copy. Arrays and shapes come as one, a list or a dict, as ``shapes``
        was given, and hold what is left of a former result.

    Raises
    ------
    ConfigError
        If an argument cannot work, or the target cannot be sent to a process that is not forked.
    Exception
        What the first call raises, if the constructor waits for it.

    Notes
    -----
    In `delira_nca.data_loading.show.debug_mode` no process is started, and the results are the same.

    Examples
    --------
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
        require_integer("n_proc", n_proc, 0)
        require_integer("read_ahead", read_ahead, 1)
        require_integer("first_call", first_call, 0)
        self._layout = Layout.from_spec(dtypes, shapes)
        self._job = make_job(target, target_args, target_kwargs, seed, fill, has_layout=self._layout is not None)
        self._method = method_of(start_method)
        self._num_workers, self._num_slots = int(n_proc), int(n_proc) * int(read_ahead) + (not copy)
        self._seconds, self._profile, self._copy = as_seconds(timeout), bool(profile), bool(copy)
        self._call = int(first_call)
        self._crew: Crew | None = None
        self._first: Flat | None = None  # made in this process, to know the layout
        self._lent: int | None = None  # call whose slot the caller still looks at
        self._has_timed_out = False
        self._trouble = ""
        self._begin()

    @property
    def call(self) -> int:
        """Number of the call whose result comes next."""
        return self._call

    def get(self, timeout: float | bool | None = False) -> Any:
        """Next result; blocks until it is there.

        Parameters
        ----------
        timeout : float, bool or None
            Seconds to wait, 0 for ever; ``False`` or ``None`` is that of the constructor.

        Returns
        -------
        Arrays in the form that the target returned them: C-contiguous, and the caller's own (but see ``copy``).

        Raises
        ------
        TimeoutError
            If the result is not there in time. It can be asked for again.
        ShapeError
            If the result has other types or shapes than the first.
        WorkerDiedError
            If a process ended; `reset` starts new ones.
        Exception
            What the target raised; its cause is the traceback of the process. The next `get` goes on with the next
            call.
        """
        seconds = self._seconds if timeout is None or timeout is False else as_seconds(timeout)
        if self._trouble:
            raise DeliraNCAError(self._trouble)
        if self._crew is None:
            return self._get_here()
        return self._get_from(self._crew, seconds)

    def _get_from(self, crew: Crew, seconds: float) -> Any:
        self._trouble = "an earlier get() was interrupted; call reset() to go on"
        start = time.perf_counter()
        if self._lent is not None:
            crew.release(self._lent)
            self._lent = None
        try:
            crew.wait_for(self._call, seconds)
        except TimeoutError:
            self._trouble, self._has_timed_out = "", True
            raise
        except DeliraNCAError:
            self._end("a background process failed; call reset() to go on")
            self._call += 1
            raise
        arrived = time.perf_counter()
        try:
            result = crew.look(self._call, view=not self._copy).join()
        except Exception:
            self._go_on(crew, self._copy)
            raise
        if self._profile:
            made, worker = crew.seconds(self._call)
            _log_times(self._call, worker, made, arrived - start, time.perf_counter() - arrived)
        self._go_on(crew, self._copy)
        return result

    def _go_on(self, crew: Crew, is_done_with: bool) -> None:
        """Count the call, and give its slot back if nobody looks at it."""
        call, self._call, self._has_timed_out = self._call, self._call + 1, False
        if is_done_with:
            crew.release(call)
        else:
            self._lent = call
        self._trouble = ""

    def _get_here(self) -> Any:
        start = time.perf_counter()
        first, self._first = self._first, None
        call, self._call = self._call, self._call + 1
        flat = self._job.make(call, self._layout) if first is None else first
        self._layout = self._layout or Layout.of(flat)
        result = flat._replace(arrays=[np.array(array, order="C") for array in flat.arrays]).join()
        if self._profile:
            _log_times(call, None, time.perf_counter() - start, 0.0, 0.0)
        return result

    def reset(self, call: int | None = None) -> None:
        """End the processes, whatever they are at, and start new ones: after an exception, or to go somewhere else.

        Parameters
        ----------
        call : int or None
            Number of the call to go on with. ``None`` is the one after the last that `get` returned or raised an error
            for: a call that failed, that timed out or during which a process died is not made again, one that was
            interrupted (Ctrl+C) is.

        Raises
        ------
        ConfigError
            If ``call`` is not an integer of at least 0.
        """
        if call is not None:
            require_integer("call", call, 0)
        self._end("the background processes could not be started again; call reset() to try it once more")
        self._call = self._call + self._has_timed_out if call is None else int(call)
        self._has_timed_out = False
        self._begin()

    def shutdown(self) -> None:
        """End the processes and give the shared memory back. Repeated calls do nothing; `reset` starts anew.

        It also happens at the end of a ``with`` block, when the object is forgotten, and when the program ends.
        """
        self._end("the background processes were shut down; call reset() to start them again")

    def __enter__(self) -> BackgroundProc:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def _end(self, trouble: str) -> None:
        self._trouble = trouble
        crew, self._crew, self._first, self._lent = self._crew, None, None, None
        if crew is not None:
            crew.close()

    def _begin(self) -> None:
        if self._num_workers == 0 or is_debug():
            if self._layout is None:
                self._first = self._job.make(self._call, None)
                self._layout = Layout.of(self._first)
            self._trouble = ""
            return
        crew = Crew(self._job, self._method, self._num_workers, self._call)
        try:
            crew.wait_until_ready(self._seconds)
            if self._layout is None:
                call = crew.scout()
                crew.wait_for(call, self._seconds)
                self._layout = Layout.of(crew.look(call))
            crew.furnish(self._layout, self._num_slots)
            crew.wait_until_ready(self._seconds)
        except BaseException:
            crew.close()
            raise
        self._crew, self._trouble = crew, ""


def make_job(target: Any, args: Any, kwargs: Any, seed: Any, fill: bool, *, has_layout: bool) -> Job:
    """Job of a caller's arguments.

    Raises
    ------
    ConfigError
        If one cannot work.
    """
    if not callable(target):
        raise ConfigError(f"target must be a function, not a {type(target).__name__}: it is the first argument")
    if not isinstance(args, (tuple, list)):
        raise ConfigError(f"target_args must be a tuple, not {args!r}; for one argument, write ({args!r},)")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise ConfigError(f"target_kwargs must be a dict, not {kwargs!r}")
    if fill and not has_layout:
        raise ConfigError("fill=True needs dtypes and shapes: they are the arrays that the target writes into")
    require_integer("seed", seed, 0)
    return Job(target, tuple(args), dict(kwargs or {}), int(seed), bool(fill))


def method_of(start_method: str | None) -> str:
    """How processes are started."""
    method = start_method_of(start_method)
    require_choice("start_method", method, ("fork", "spawn", "forkserver"))
    return method


def as_seconds(timeout: Any) -> float:
    """Seconds to wait, 0 for ever.

    Raises
    ------
    ConfigError
        If it is not a number of at least 0.
    """
    if not isinstance(timeout, numbers.Real) or isinstance(timeout, bool) or not 0 <= float(timeout) < float("inf"):
        raise ConfigError(f"timeout must be a number of seconds, 0 for none, not {timeout!r}")
    return float(timeout)


def _log_times(call: int, worker: int | None, made: float, waited: float, copied: float) -> None:
    maker = "this process" if worker is None else f"worker {worker}"
    times = (1e3 * made, 1e3 * waited, 1e3 * copied)
    _LOGGER.info(
        "background call %d: %s made it in %.2f ms, waited %.2f ms, handed out in %.2f ms", call, maker, *times
    )
