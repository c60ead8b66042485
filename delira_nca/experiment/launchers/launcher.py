"""Many runs at once: what is asked of a launcher, and what it tells of each task. Free of torch."""

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
    """Tasks failed, or a launcher cannot work.

    Attributes
    ----------
    failed : iterable of Outcome
        The outcomes of the tasks that failed; empty where the launcher itself did.
    """

    def __init__(self, message: str, failed: Iterable[Outcome] = ()) -> None:
        super().__init__(message)
        self.failed = tuple(failed)


class ProcessDiedError(DeliraNCAError, RuntimeError):
    """The process that worked on a task ended without a result: killed, out of memory, or with its whole machine."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes
    ----------
    task : mapping
        Its arguments.
    value : object
        What the function returned; None if it failed.
    error : Exception, optional
        What the function raised, with the traceback of its process as the cause; :class:`ProcessDiedError` if that
        process ended without a result; None if all went well.
    attempts : int
        How often the task was begun.
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
        """Whether there is a value."""
        return self.error is None


@runtime_checkable
class Launcher(Protocol):
    """Whatever runs one function with many sets of arguments: one after another, in processes, on a cluster."""

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Mapping[str, Any]],
        *,
        retries: int = 1,
        retry_exceptions: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> list[Outcome]:
        """Call a function once for each task, and wait for all of them.

        Parameters
        ----------
        function : callable
            One that other processes can import: defined at the top of a module, or of the script itself.
            After its process died it is called again with the same arguments, and should go on from what it has saved.
        tasks : iterable of mapping
            The keyword arguments of each call: plain values.
        retries : int
            How often more a task is begun whose process died.
        retry_exceptions : type of Exception or tuple of type of Exception
            Classes of exceptions after which it is begun again as well. By default an exception is
            final: what raised it would do so again.

        Returns
        -------
        list of Outcome
            In the order of the tasks. A task that failed takes no other one with it.

        Raises
        ------
        ConfigError
            Before anything starts: the function cannot be imported elsewhere, or does not take the arguments of a
            task, or these cannot be sent.
        """


def values(outcomes: Sequence[Outcome]) -> list[Any]:
    """What the tasks returned, in their order.

    Raises
    ------
    LaunchError
        If any failed: with the arguments and the error of each that did. The first error is the cause.

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
    """Arguments of a task in words; long values are shortened.

    Examples
    --------
    >>> shown({"target": "dahlia", "seed": 3})
    "target='dahlia', seed=3"
    """
    return ", ".join(f"{name}={_REPR.repr(value)}" for name, value in task.items()) or "no arguments"
