"""Errors of background processes, and the transfer of exceptions to the caller."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from typing import NamedTuple

from delira_nca.data_loading.failures import WorkerError, WorkerTimeoutError
from delira_nca.errors import DeliraNCAError

__all__ = ["EmptyQueueError", "Failure", "TimeoutError", "WorkerDiedError", "WorkerTraceback"]


class TimeoutError(WorkerTimeoutError):  # noqa: A001  the name on ELEKTRONN2's API page
    """A result was not available in time. It is also a ``RuntimeError`` and a built-in ``TimeoutError``."""


class WorkerDiedError(WorkerError):
    """A worker process was killed or ended. The message gives the reason."""


class EmptyQueueError(DeliraNCAError, IndexError):
    """More results were requested than processes were started."""


class WorkerTraceback(Exception):  # noqa: N818  not an error, but the cause of one
    """Cause of an exception from another process, with its traceback."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Failure(NamedTuple):
    """Exception in a form that can be sent to another process.

    Attributes
    ----------
    pickled : bytes or None
        Pickled exception, or None if it cannot be unpickled.
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
    def of(cls, error: BaseException) -> Failure:
        """Describe the exception that is being handled."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return cls(_pickled(error), type(error).__qualname__, _text(error), trace.rstrip())

    def error(self, where: str) -> Exception:
        """Return the exception to raise, with the traceback as its cause.

        It has the same class, or is a `WorkerError` that names the class.

        Parameters
        ----------
        where : str
            Process and call, for the message.
        """
        rebuilt: Exception | None = None
        if self.pickled is not None:
            with contextlib.suppress(Exception):  # the class may be importable only in the worker
                rebuilt = pickle.loads(self.pickled)
        if rebuilt is None:
            rebuilt = WorkerError(f"{self.name}: {self.text} (raised in {where})")
        rebuilt.__cause__ = WorkerTraceback(f"in {where}:\n\n{self.trace}")
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
