"""Base class of launchers, which send tasks to an engine, collect reports, and restart tasks of dead processes."""

from __future__ import annotations

import abc
import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError
from delira_nca.experiment.launchers.attempt import Dumps, PackedTask, Report, pack
from delira_nca.experiment.launchers.launcher import Outcome, ProcessDiedError, shown

__all__ = ["Engine", "EngineLauncher", "Queue"]

_LOGGER = logging.getLogger("delira_nca")


class Engine(Protocol):
    """Interface of engines, which run jobs in any order."""

    def start(self, jobs: Mapping[int, PackedTask]) -> None:
        """Start numbered jobs without waiting."""

    def wait(self) -> tuple[int, bytes | Exception]:
        """Wait until a job has ended.

        Returns
        -------
        int, bytes or Exception
            Number of the job, and the result of :func:`~delira_nca.experiment.launchers.attempt.attempt`, or an
            exception if there is no result: :class:`ProcessDiedError` if another attempt may succeed.
        """


class Queue:
    """Base class of engines, with the jobs that wait."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, PackedTask]] = deque()

    def start(self, jobs: Mapping[int, PackedTask]) -> None:
        """Start numbered jobs without waiting."""
        self._waiting.extend(jobs.items())


class EngineLauncher(abc.ABC):
    """Base class of launchers. A subclass opens the engine.

    Parameters
    ----------
    threads : int
        Number of threads of torch in each task. With the same number, results do not depend on the launcher.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = require_whole("threads", threads, 1)

    @abc.abstractmethod
    def _open(self, num_tasks: int) -> AbstractContextManager[Engine]:
        """Context manager of an engine; at its end, all processes that it started have ended."""

    def _dumps(self) -> Dumps:
        """Function that pickles functions and arguments."""
        return pickle.dumps

    def _check(self, function: Callable[..., Any], tasks: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027, a hook
        """Check that the processes of the engine can import the function and the arguments."""

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Mapping[str, Any]],
        *,
        retries: int = 1,
        retry_exceptions: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> list[Outcome]:
        """Call a function once per task, and wait for all of them.

        See :meth:`~delira_nca.experiment.launchers.launcher.Launcher.run`.
        """
        require_whole("retries", retries, 0)
        retry_on = _classes(retry_exceptions)
        tasks = list(tasks)
        jobs = dict(enumerate(pack(function, tasks, self.threads, self._dumps())))
        self._check(function, tasks)
        if not jobs:
            return []
        outcomes: dict[int, Outcome] = {}
        attempts = dict.fromkeys(jobs, 1)
        with self._open(len(jobs)) as engine:
            engine.start(jobs)
            began = dict.fromkeys(jobs, time.perf_counter())
            while len(outcomes) < len(jobs):
                number, answer = engine.wait()
                outcome = _outcome(tasks[number], answer, attempts[number], time.perf_counter() - began[number])
                if isinstance(outcome.error, retry_on) and attempts[number] <= retries:
                    _LOGGER.warning(
                        "retrying a task: %s: %s: %s",
                        shown(outcome.task),
                        type(outcome.error).__name__,
                        outcome.error,
                    )
                    attempts[number] += 1
                    began[number] = time.perf_counter()
                    engine.start({number: jobs[number]})
                else:
                    outcomes[number] = outcome
                    _log(outcome, len(outcomes), len(jobs))
        return [outcomes[number] for number in jobs]


def _classes(given: object) -> tuple[type[Exception], ...]:
    classes = given if isinstance(given, tuple) else (given,)
    for each in classes:
        if not isinstance(each, type) or not issubclass(each, Exception):
            raise ConfigError(f"retry_exceptions is a class of exceptions, or a tuple of them, not {given!r}")
    return (ProcessDiedError, *classes)


def _outcome(task: Mapping[str, Any], answer: bytes | Exception, attempts: int, elapsed: float) -> Outcome:
    if isinstance(answer, Exception):
        return Outcome(task, None, answer, attempts, elapsed)
    report: Report = pickle.loads(answer)
    value, error = report.open()
    return Outcome(task, value, error, attempts, report.seconds)


def _log(outcome: Outcome, done: int, of: int) -> None:
    if outcome.ok:
        _LOGGER.info("%d of %d tasks done: %s, in %.1f s", done, of, shown(outcome.task), outcome.seconds)
    else:
        name = type(outcome.error).__name__
        _LOGGER.error(
            "%d of %d tasks done, this one failed: %s: %s: %s", done, of, shown(outcome.task), name, outcome.error
        )
