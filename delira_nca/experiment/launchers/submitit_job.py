"""Job of submitit, which saves its state before it is requeued."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from delira_nca.experiment.launchers.attempt import PackedTask, attempt
from delira_nca.training.interruption import Terminated

__all__ = ["SubmittedJob"]


class SubmittedJob:
    """One task, which submitit calls in a separate process.

    Before the time limit, submitit receives a signal and would requeue the job in the middle of a step. Here, a
    training first saves its state and ends, and the job is requeued afterwards.

    Parameters
    ----------
    job : PackedTask
        Task to run.
    """

    def __init__(self, job: PackedTask) -> None:
        self.job = job

    def __call__(self) -> bytes:
        """Run the job and return its report."""
        with _saved_before_requeue():
            return attempt(self.job)

    def checkpoint(self) -> Any:
        """Return the same job for submitit to requeue; the training resumes from its saved state."""
        return importlib.import_module("submitit.helpers").DelayedSubmission(self)


@contextlib.contextmanager
def _saved_before_requeue() -> Iterator[None]:
    number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"), None)
    requeue: Any = signal.getsignal(number) if number is not None else None
    if number is None or not callable(requeue):  # submitit runs the task in the launching process
        yield
        return
    received: list[FrameType | None] = []

    def ask(_: int, frame: FrameType | None) -> None:
        if received:
            return
        received.append(frame)
        if number != signal.SIGUSR1 and callable(signal.getsignal(signal.SIGUSR1)):  # a training handles the signal
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
