"""Signals that end a training after the current batch, with its state saved. Does not import torch."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from delira_nca.errors import require_choice

__all__ = ["POLICIES", "Interruption", "Terminated", "requeue_on_slurm"]

_LOGGER = logging.getLogger("delira_nca")
POLICIES = ("raise", "return")
_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


class Terminated(SystemExit):
    """Raised after SIGTERM or SIGUSR1 has ended a training and its state is saved. If unhandled, the exit code is 143.

    Like ``KeyboardInterrupt`` it is not an ``Exception``: ``finally`` runs, ``except Exception`` does not.
    """

    def __init__(self, name: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.name = name

    def __str__(self) -> str:
        return f"the training was ended by {self.name}"


class Interruption:
    """Context manager in which SIGINT, SIGTERM and SIGUSR1 end a training after the current batch.

    A second Ctrl+C ends it immediately. Signals with a handler of the program are not handled, and neither is any
    signal outside of the main thread, where Python does not allow handlers. The former handlers are restored at the
    end.

    Parameters
    ----------
    stop : callable
        Function that is called with the name of the signal. It should only set a flag.
    policy : str
        Reaction to Ctrl+C once the state is saved: ``"raise"`` a KeyboardInterrupt, or ``"return"`` as after a normal
        end.
    requeue : callable, optional
        Function that is called at the end of the block if the signal was SIGUSR1.

    Attributes
    ----------
    received : str, optional
        Name of the received signal, or None.
    has_concluded : bool
        Whether :meth:`conclude` has raised an exception.
    """

    def __init__(
        self, stop: Callable[[str], None], policy: str = "raise", requeue: Callable[[], Any] | None = None
    ) -> None:
        require_choice("policy after Ctrl+C", policy, POLICIES)
        self._stop, self._policy, self._requeue = stop, policy, requeue
        self._former: dict[int, Any] = {}
        self.received: str | None = None
        self.has_concluded = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) in _DEFAULTS:
                    self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
        if self.received == "SIGUSR1" and self._requeue is not None:
            try:
                self._requeue()
            except Exception:
                _LOGGER.exception("the job could not be put into the queue again")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received == name == "SIGINT":
            raise KeyboardInterrupt
        self.received = name
        self._stop(name)

    def conclude(self) -> None:
        """Raise the exception for the received signal, if any, unless the policy is to return."""
        if self.received is None or (self.received == "SIGINT" and self._policy == "return"):
            return
        self.has_concluded = True
        if self.received == "SIGINT":
            raise KeyboardInterrupt
        raise Terminated(self.received)


def requeue_on_slurm() -> None:
    """Requeue this Slurm job; do nothing outside of a job.

    Slurm sends SIGUSR1 before the time limit if the script contains ``#SBATCH --signal=USR1@120``.
    """
    job = os.environ.get("SLURM_JOB_ID")
    command = shutil.which("scontrol")
    if job is not None and command is not None:
        subprocess.run([command, "requeue", job], check=True, timeout=60)
