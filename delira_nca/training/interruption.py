"""Signals that ask a training to end: it ends at the next step, with everything saved. Free of torch."""

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
    """The process was asked to end by SIGTERM or SIGUSR1, and everything is saved; unhandled, it ends with status 143.

    Like ``KeyboardInterrupt`` it is no ``Exception``: what cleans up runs, what handles errors does not.
    """

    def __init__(self, name: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.name = name

    def __str__(self) -> str:
        return f"the training was ended by {self.name}"


class Interruption:
    """For the time of a training, take SIGINT, SIGTERM and SIGUSR1 as the wish to end after the current batch.

    A second Ctrl+C ends at once. A signal that the program handles itself is left alone, and so are all where Python
    allows no handlers (outside of the main thread). The former handlers are back when the block ends.

    Parameters
    ----------
    stop : callable
        Called with the name of the signal; must not do more than note it.
    policy : str
        After Ctrl+C, ``"raise"`` a KeyboardInterrupt when everything is saved, or ``"return"`` as if the
        training were done.
    requeue : callable, optional
        Called when the block ends, if the signal was SIGUSR1.

    Attributes
    ----------
    received : str, optional
        Name of the signal, None if none came.
    has_concluded : bool
        Whether :meth:`conclude` has raised it.

    Raises
    ------
    UnknownNameError
        For another policy.
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
        """Raise what the signal stands for, if one came and the policy says so."""
        if self.received is None or (self.received == "SIGINT" and self._policy == "return"):
            return
        self.has_concluded = True
        if self.received == "SIGINT":
            raise KeyboardInterrupt
        raise Terminated(self.received)


def requeue_on_slurm() -> None:
    """Put this job of Slurm into the queue again; nothing where there is no job.

    Slurm sends SIGUSR1 ahead of the time limit where a script asks for it (``#SBATCH --signal=USR1@120``).
    """
    job = os.environ.get("SLURM_JOB_ID")
    command = shutil.which("scontrol")
    if job is not None and command is not None:
        subprocess.run([command, "requeue", job], check=True, timeout=60)
