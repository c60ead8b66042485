"""What runs as a job of submitit: a task that is saved before it is put back into the queue."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from delira_nca.experiment.launchers.attempt import Job, attempt
from delira_nca.training.interruption import Terminated

__all__ = ["SubmittedJob"]


class SubmittedJob:
    """One task, called by submitit in a process of its own.

    Ahead of the time limit submitit gets a signal, on which it would put the job into the queue in the middle of a
    step. Here a training is asked first to save what it has, and the queue comes when it has ended.

    Parameters
    ----------
    job : Job
        What to do.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self) -> bytes:
        """Report of the attempt."""
        with _saved_before_requeue():
            return attempt(self.job)

    def checkpoint(self) -> Any:
        """What submitit calls afterwards: the same once more; the training goes on from what it has saved."""
        return importlib.import_module("submitit.helpers").DelayedSubmission(self)


@contextlib.contextmanager
def _saved_before_requeue() -> Iterator[None]:
    number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"), None)
    requeue: Any = signal.getsignal(number) if number is not None else None
    if number is None or not callable(requeue):  # submitit runs the task in the process that launched it
        yield
        return
    received: list[FrameType | None] = []

    def ask(_: int, frame: FrameType | None) -> None:
        if received:
            return
        received.append(frame)
        if number != signal.SIGUSR1 and callable(signal.getsignal(signal.SIGUSR1)):  # a training listens
            signal.raise_signal(signal.SIGUSR1)
        else:
            raise Terminated(signal.Signals(number).name)

    signal.signal(number, ask)
    try:
        yield
    except Terminated:
        if received:
            requeue(number, received[0])
        raise
    finally:
        signal.signal(number, requeue)
