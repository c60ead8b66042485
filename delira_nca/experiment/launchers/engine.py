"""What all launchers have in common: tasks go to an engine, reports come back, and what died is begun again."""

from __future__ import annotations

import abc
import functools
import logging
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError
from delira_nca.experiment.launchers.attempt import Dumps, Job, Report, pack
from delira_nca.experiment.launchers.launcher import Outcome, ProcessDiedError, shown

__all__ = ["Engine", "EngineLauncher", "require_count"]

require_count = functools.partial(require_whole, least=1)

_LOGGER = logging.getLogger("delira_nca")


class Engine(Protocol):
    """Something that does jobs, in whatever order."""

    def start(self, jobs: Mapping[int, Job]) -> None:
        """Take jobs, each with a number; return at once."""

    def wait(self) -> tuple[int, bytes | Exception]:
        """Wait until a job has ended.

        Returns
        -------
        int, bytes or Exception
            Its number, with what :func:`~delira_nca.experiment.launchers.attempt.attempt` returned, or with why there
            is no such thing: :class:`ProcessDiedError` if another attempt may help.
        """


class EngineLauncher(abc.ABC):
    """A launcher by an engine: a subclass opens it.

    Parameters
    ----------
    threads : int
        That torch uses in each task. Results do not depend on the launcher where this is the same.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = require_whole("threads", threads, 1)

    @abc.abstractmethod
    def _open(self, num_tasks: int) -> AbstractContextManager[Engine]:
        """Start an engine; whatever it started has ended when the block is left."""

    def _dumps(self) -> Dumps:
        """What pickles functions and arguments."""
        return pickle.dumps

    def _check(self, function: Callable[..., Any], tasks: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027, a hook
        """Refuse, before anything starts, what the processes of the engine cannot import."""

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Mapping[str, Any]],
        *,
        retries: int = 1,
        retry_exceptions: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> list[Outcome]:
        """Call a function once for each task, and wait for all of them.

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
                        "a task is begun again: %s: %s: %s",
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
