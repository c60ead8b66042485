"""Interface of launchers and the outcomes of tasks. Does not import torch."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from delira_nca.errors import DeliraNCAError

__all__ = ["LaunchError", "Launcher", "Outcome", "ProcessDiedError", "shown", "values"]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


class LaunchError(DeliraNCAError, RuntimeError):
    """Raised if tasks failed, or a launcher cannot run.

    Attributes
    ----------
    failed : iterable of Outcome
        Outcomes of the failed tasks; empty if the launcher itself failed.
    """

    def __init__(self, message: str, failed: Iterable[Outcome] = ()) -> None:
        super().__init__(message)
        self.failed = tuple(failed)


class ProcessDiedError(DeliraNCAError, RuntimeError):
    """Raised if the process of a task ended without a result, for example killed or out of memory."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a task.

    Attributes
    ----------
    task : mapping
        Arguments of the task.
    value : object
        Return value of the function, or None if it failed.
    error : Exception, optional
        Exception of the function, with the traceback of its process as the cause; :class:`ProcessDiedError` if the
        process ended without a result; or None.
    attempts : int
        Number of attempts.
    seconds : float
        Wall time of the last attempt.
    """

    task: Mapping[str, Any]
    value: Any
    error: Exception | None
    attempts: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the task has finished without an error."""
        return self.error is None


@runtime_checkable
class Launcher(Protocol):
    """Interface of launchers, which run one function with many sets of arguments."""

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Mapping[str, Any]],
        *,
        retries: int = 1,
        retry_exceptions: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> list[Outcome]:
        """Call a function once per task, and wait for all of them.

        Parameters
        ----------
        function : callable
            Function that other processes can import: defined at the top level of a module or of the script. If its
            process dies, it is called again with the same arguments, and should resume from its saved state.
        tasks : iterable of mapping
            Keyword arguments of each call: plain values.
        retries : int
            Maximum number of further attempts after the process of a task has died.
        retry_exceptions : exception class or tuple of them
            Classes of exceptions after which a task is also retried. By default, exceptions are final, since they are
            expected to recur.

        Returns
        -------
        list of Outcome
            Outcomes in the order of the tasks. A failed task does not affect the others.

        Raises
        ------
        ConfigError
            Before the first task, if the function cannot be imported in other processes or does not accept the
            arguments of a task, or these cannot be pickled.
        """


def values(outcomes: Sequence[Outcome]) -> list[Any]:
    """Return values of the tasks, in their order.

    Raises
    ------
    LaunchError
        If tasks failed. The message lists their arguments and errors; the first error is the cause.

    Examples
    --------
    >>> good = Outcome({"seed": 0}, 0.25, None, attempts=1, seconds=2.0)
    >>> values([good])
    [0.25]
    >>> values([good, Outcome({"seed": 1}, None, ValueError("no room"), attempts=1, seconds=0.1)])
    Traceback (most recent call last):
    delira_nca.experiment.launchers.launcher.LaunchError: 1 of 2 tasks failed:
      seed=1: ValueError: no room
    """
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if failed:
        lines = [f"  {shown(each.task)}: {type(each.error).__name__}: {each.error}" for each in failed]
        message = "\n".join([f"{len(failed)} of {len(outcomes)} tasks failed:", *lines])
        raise LaunchError(message, failed) from failed[0].error
    return [outcome.value for outcome in outcomes]


def shown(task: Mapping[str, Any]) -> str:
    """Text of the arguments of a task; long values are shortened.

    Examples
    --------
    >>> shown({"target": "dahlia", "seed": 3})
    "target='dahlia', seed=3"
    """
    return ", ".join(f"{name}={_REPR.repr(value)}" for name, value in task.items()) or "no arguments"
