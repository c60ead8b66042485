"""What can go wrong in a background process, and how an exception travels from there to the caller."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from typing import NamedTuple

from delira_nca.data_loading.failures import WorkerError, WorkerTimeoutError
from delira_nca.errors import DeliraNCAError

__all__ = ["EmptyQueueError", "Failure", "TimeoutError", "WorkerDiedError", "WorkerTraceback"]


class TimeoutError(WorkerTimeoutError):  # noqa: A001  the name on ELEKTRONN2's API page
    """A result was not there in time. It is also a ``RuntimeError`` and the built-in ``TimeoutError``."""


class WorkerDiedError(WorkerError):
    """A worker process was killed, or ended by itself; the message says how."""


class EmptyQueueError(DeliraNCAError, IndexError):
    """More results were asked for than processes were started."""


class WorkerTraceback(Exception):  # noqa: N818  it is no error of its own, but where another one comes from
    """The cause of an exception that was raised in another process: the lines it was raised at."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Failure(NamedTuple):
    """An exception in a form that can travel to another process.

    Attributes
    ----------
    pickled : bytes or None
        The exception, if it can be rebuilt from that, else ``None``.
    name, text : str
        Of its class, and what it says.
    trace : str
        Its formatted traceback.
    """

    pickled: bytes | None
    name: str
    text: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an exception that is being handled."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return cls(_pickled(error), type(error).__qualname__, _text(error), trace.rstrip())

    def error(self, where: str) -> Exception:
        """Exception to raise: of the same class, or a `WorkerError` that names the class; its cause is the traceback.

        Parameters
        ----------
        where : str
            The process and the call, for the message.
        """
        rebuilt: Exception | None = None
        if self.pickled is not None:
            with contextlib.suppress(Exception):  # a class that only the worker can import
                rebuilt = pickle.loads(self.pickled)
        if rebuilt is None:
            rebuilt = WorkerError(f"{self.name}: {self.text} (raised in {where})")
        rebuilt.__cause__ = WorkerTraceback(f"in {where}:\n\n{self.trace}")
        return rebuilt


def _pickled(error: BaseException) -> bytes | None:
    """Pickled exception, if the same comes out again, and if it ends no loop or program where it is raised."""
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
