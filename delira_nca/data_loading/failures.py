"""Errors of batches, with the original message, the batch and its samples."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from delira_nca.data_loading.dataset import Indices
from delira_nca.errors import DeliraNCAError

__all__ = ["BatchError", "BatchFailure", "failure_of", "place_of"]

_SHOWN = 16  # number of indices in a message


class BatchError(DeliraNCAError):
    """A batch could not be built.

    The raised error has a dynamic class that is derived from this class and that of the original error, so that
    ``except ValueError`` catches an original ``ValueError``. The message is that of the original error followed by the
    batch. The original error is the ``__cause__`` if it could be sent to this process; its attributes are copied.

    Attributes
    ----------
    epoch, index : int
        Epoch and index of the batch.
    samples : tuple of int
        Indices of the batch's samples in the dataset of the data manager.
    worker_traceback : str
        Traceback in the worker process; empty if the error was raised in this process.
    """

    epoch: int
    index: int
    samples: tuple[int, ...]
    worker_traceback: str


class BatchFailure(NamedTuple):
    """Error with its batch in a form that can be sent to other processes; `error` restores the exception."""

    kind: type[Exception]
    text: str
    place: tuple[int, int, tuple[int, ...]]
    where: str = ""
    trace: str = ""
    original: bytes | Exception | None = None

    def error(self) -> BatchError:
        """Return the exception to raise, with its cause."""
        cause = self.original
        if isinstance(cause, bytes):
            try:
                cause = pickle.loads(cause)
            except Exception:  # the constructor of the exception takes other arguments than those in args
                cause = None
        error = _rebuild(self._replace(original=None), vars(cause) if isinstance(cause, Exception) else {})
        error.__cause__ = cause if isinstance(cause, Exception) else None
        return error


def failure_of(error: Exception, place: tuple[int, int, Sequence[int] | Indices], *, where: str = "") -> BatchFailure:
    """Describe the error that is being handled.

    Parameters
    ----------
    error : Exception
        Original error.
    place : tuple
        Epoch, index and samples of the batch.
    where : str
        Name of the process in which it was raised, if another process will raise it; the error is then pickled.
    """
    kind = type(error)
    if isinstance(error, BatchError):  # from a data manager within this one
        kind = next(base for base in kind.__bases__ if base is not BatchError)
    if issubclass(kind, (StopIteration, StopAsyncIteration)):
        kind = RuntimeError  # StopIteration would silently end a loop
    if where:
        kind = _travelling(kind)
    text = _text_of(error) if type(error).__name__ == kind.__name__ else f"{type(error).__name__}: {error}"
    epoch, index, samples = place
    failure = BatchFailure(kind, text, (epoch, index, tuple(map(int, samples))), where, original=error)
    if not where:
        return failure
    trace = "".join(traceback.format_exception(type(error), error, _without_worker(error))).rstrip()
    return failure._replace(trace=trace, original=_pickled(error))


def place_of(epoch: int, index: int, samples: Sequence[int] | Indices) -> str:
    """Describe a batch for messages.

    Examples
    --------
    >>> place_of(2, 0, [5, 3])
    'batch 0 of epoch 2 (samples 5, 3)'
    """
    place = f"batch {index} of epoch {epoch}"
    if not len(samples):
        return place
    shown = ", ".join(str(sample) for sample in samples[:_SHOWN])
    more = f", ... {len(samples)} in all" if len(samples) > _SHOWN else ""
    return f"{place} ({'sample' if len(samples) == 1 else 'samples'} {shown}{more})"


def _rebuild(failure: BatchFailure, attributes: dict[str, Any]) -> BatchError:
    error = _make(failure)
    for name, value in attributes.items():
        with contextlib.suppress(AttributeError):
            setattr(error, name, value)
    error.epoch, error.index, error.samples = failure.place
    error.worker_traceback = failure.trace
    return error


def _make(failure: BatchFailure) -> BatchError:
    """Make an exception of a class derived from the original one, or from a base if the constructor differs."""
    for base in failure.kind.__mro__:
        text = failure.text if base is failure.kind else f"{failure.kind.__name__}: {failure.text}"
        message = _message(failure._replace(text=text))
        travelling = failure._replace(kind=_travelling(base), text=text)
        names = {
            "__str__": lambda self, message=message: message,
            "__reduce__": lambda self, travelling=travelling: (_rebuild, (travelling, {})),
            "__init__": lambda self, *_: None,
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            "__doc__": base.__doc__,
        }
        with contextlib.suppress(Exception):
            error: BatchError = type(base.__name__, (BatchError, base), names)(message)
            error.args = (message,)
            return error
    raise AssertionError(f"no exception can be made of {failure.kind!r}")  # unreachable: it works for Exception


def _message(failure: BatchFailure) -> str:
    message = f"{failure.text}\n  in {place_of(*failure.place)}"
    if failure.where:
        message += f", built by {failure.where}"
    if failure.trace:
        message += ":\n\n" + "\n".join(f"  {line}" for line in failure.trace.splitlines())
    return message


def _text_of(error: Exception) -> str:
    if type(error) is KeyError and len(error.args) == 1:
        return f"no key {error.args[0]!r}"  # the message of a KeyError is only the key
    return str(error) or type(error).__name__


def _without_worker(error: Exception) -> TracebackType | None:
    """Return the traceback without the first frames, which belong to the worker."""
    trace = error.__traceback__
    return trace.tb_next if trace is not None and trace.tb_next is not None else trace


def _pickled(error: Exception) -> bytes | None:
    try:
        return pickle.dumps(error)
    except Exception:
        return None


def _travelling(kind: type[Exception]) -> type[Exception]:
    """Return the class, or its nearest base that other processes can import."""
    for base in kind.__mro__:
        try:
            pickle.dumps(base)
        except Exception:
            continue
        return base if issubclass(base, Exception) else Exception
    return Exception
