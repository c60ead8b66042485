"""Launcher that runs tasks one after another in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from delira_nca.experiment.launchers.attempt import attempt
from delira_nca.experiment.launchers.engine import EngineLauncher, Queue

__all__ = ["SerialLauncher"]


class SerialLauncher(EngineLauncher):
    """Run tasks one after another in this process, for debugging and as a reference.

    If a task is killed, the program ends. The number of threads is restored after the tasks.

    Parameters
    ----------
    threads : int
        Number of threads of torch in each task.

    Examples
    --------
    >>> [outcome.value for outcome in SerialLauncher().run(dict, [{"seed": 0}, {"seed": 1}])]
    [{'seed': 0}, {'seed': 1}]
    """

    @contextlib.contextmanager
    def _open(self, num_tasks: int) -> Iterator[_Serial]:
        yield _Serial()


class _Serial(Queue):
    def wait(self) -> tuple[int, bytes | Exception]:
        number, job = self._waiting.popleft()
        return number, attempt(job)
