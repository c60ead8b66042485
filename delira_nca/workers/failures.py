"""Errors of worker processes, and the transfer of exceptions to the process that waits for the result."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from types import TracebackType
from typing import NamedTuple

from delira_nca.errors import DeliraNCAError

__all__ = ["Failure", "WorkerDiedError", "WorkerError", "WorkerTimeoutError", "WorkerTraceback"]


class WorkerError(DeliraNCAError, RuntimeError):
    """A worker process ended, cannot be started, or raised an exception that cannot be sent to this process."""


class WorkerDiedError(WorkerError):
    """A worker process was killed or exited without a result. The message gives the reason."""


class WorkerTimeoutError(WorkerError, TimeoutError):
    """A worker process exceeded the timeout."""

    __str__ = Exception.__str__  # that of OSError expects an errno


class WorkerTraceback(Exception):  # noqa: N818  not an error, but the cause of one
    """Cause of an exception from another process, with its traceback as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Failure(NamedTuple):
    """Exception in a form that can be sent to another process.

    Attributes
    ----------
    pickled : bytes or None
        Pickled exception, or None if it cannot be restored.
    name, text : str
        Name of the class, and message.
    trace : str
        Formatted traceback.
    """

    pickled: bytes | None
    name: str
    text: str
    trace: str

    @classmethod
    def of(cls, error: BaseException, trace: TracebackType | None = None) -> Failure:
        """Describe an exception that is being handled.

        Parameters
        ----------
        error : BaseException
            Exception.
        trace : traceback, optional
            First frame of the traceback to keep; by default all frames.
        """
        lines = traceback.format_exception(type(error), error, trace or error.__traceback__)
        return cls(_pickled(error), type(error).__qualname__, _text(error), "".join(lines).rstrip())

    def error(self, where: str = "") -> Exception:
        """Return the exception to raise, with the traceback as its cause.

        It has the same class, or is a `WorkerError` that names the class.

        Parameters
        ----------
        where : str
            Process and task, for the message.
        """
        rebuilt: Exception | None = None
        if self.pickled is not None:
            with contextlib.suppress(Exception):  # the class may be importable only in the worker
                rebuilt = pickle.loads(self.pickled)
        if rebuilt is None:
            rebuilt = WorkerError(f"{self.name}: {self.text}" + (f" (raised in {where})" if where else ""))
        rebuilt.__cause__ = WorkerTraceback(f"in {where}:\n\n{self.trace}" if where else self.trace)
        return rebuilt


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an exception; None if it does not round-trip, or if raising it would end a loop or the program."""
    if not isinstance(error, Exception) or isinstance(error, (StopIteration, StopAsyncIteration)):
        return None
    with contextlib.suppress(Exception):
        pickled = pickle.dumps(error)
        again = pickle.loads(pickled)
        if type(again) is type(error) and str(again) == str(error):
            return pickled
    return None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "its text cannot be shown"
