"""One attempt at a task: serialised arguments and report."""

from __future__ import annotations

import contextlib
import inspect
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from delira_nca.checks import require_callable
from delira_nca.errors import ConfigError, refuse_unknown_keywords
from delira_nca.experiment.launchers.launcher import shown
from delira_nca.training.interruption import Terminated
from delira_nca.workers import Failure

__all__ = ["PackedTask", "Report", "attempt", "pack"]

Dumps = Callable[[Any], bytes]


class PackedTask(NamedTuple):
    """Pickled function and arguments, with the import paths and the number of threads."""

    content: bytes
    paths: tuple[str, ...]
    threads: int


class Report(NamedTuple):
    """Result of an attempt, which can be unpickled in any process."""

    value: bytes = b""
    failure: Failure | None = None
    seconds: float = 0.0

    def open(self) -> tuple[Any, Exception | None]:
        """Return the value and None, or None and the error."""
        if self.failure is not None:
            return None, self.failure.error()
        try:
            return pickle.loads(self.value), None
        except Exception as error:
            return None, error


def pack(
    function: Callable[..., Any], tasks: Sequence[Mapping[str, Any]], threads: int, dumps: Dumps = pickle.dumps
) -> list[PackedTask]:
    """Serialise tasks.

    Parameters
    ----------
    function : callable
        Function to call.
    tasks : sequence of mapping
        Keyword arguments of each call.
    threads : int
        Number of threads of each task.
    dumps : callable
        Function that pickles; that of cloudpickle includes functions of a script.
    """
    require_callable("the function of a launcher", function)
    name = getattr(function, "__qualname__", repr(function))
    try:
        pickle.dumps(function)
    except Exception as error:
        raise ConfigError(
            f"{name} cannot be sent to other processes ({error}). Define it at the top of a module, "
            "not as a lambda or in a function"
        ) from error
    paths = tuple(path for path in sys.path if path)
    jobs = []
    for task in tasks:
        _require_fit(function, name, task)
        try:
            jobs.append(PackedTask(dumps((function, dict(task))), paths, threads))
        except Exception as error:
            raise ConfigError(f"the task {shown(task)} cannot be sent to other processes: {error}") from error
    return jobs


def _require_fit(function: Callable[..., Any], name: str, task: object) -> None:
    if not isinstance(task, Mapping) or not all(isinstance(key, str) for key in task):
        raise ConfigError(f"a task is a mapping of keyword arguments, not {task!r}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        unknown = [key for key in task if key not in signature.parameters]
        refuse_unknown_keywords(name, unknown, signature.parameters)
    try:
        signature.bind(**task)
    except TypeError as error:
        raise ConfigError(f"{name} cannot be called with {shown(task)}: {error}") from None


def attempt(task: PackedTask) -> bytes:
    """Run a task.

    Returns
    -------
    bytes
        Pickled :class:`Report`, also after an exception. Only exceptions that end the process are raised:
        KeyboardInterrupt and :class:`~delira_nca.training.interruption.Terminated`.
    """
    begun = time.perf_counter()
    sys.path.extend(path for path in task.paths if path not in sys.path)
    try:
        with _threads(task.threads):
            function, arguments = pickle.loads(task.content)
            report = Report(value=_dump(function(**arguments)))
    except Terminated:
        raise
    except (Exception, SystemExit) as error:
        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None  # without this frame
        report = Report(failure=Failure.of(error, frames))
    return pickle.dumps(report._replace(seconds=time.perf_counter() - begun))


def _dump(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise ConfigError(
            f"the result, of type {type(value).__name__}, cannot be sent back ({error}): return plain values"
        ) from error


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """Context manager that sets the number of threads of torch and the linear algebra libraries."""
    import torch
    from threadpoolctl import threadpool_limits

    former = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(former)
