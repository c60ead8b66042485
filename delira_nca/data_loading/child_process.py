"""What every process that works for another one does at its beginning, and what its parent does at its end."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import time
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from typing import Any

__all__ = ["end_processes", "join_all", "settle_in"]


def settle_in(*, has_torch: bool) -> None:
    """Leave signals to the parent, and work in one thread: there are other workers for the other cores.

    Parameters
    ----------
    has_torch : whether torch is needed; it is not loaded for its threads' sake.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    if has_torch:
        import torch

        torch.set_num_threads(1)
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"  # for what is loaded later
    with contextlib.suppress(ImportError):
        importlib.import_module("threadpoolctl").threadpool_limits(1)


def join_all(processes: Iterable[BaseProcess | Any], seconds: float | None) -> None:
    """Wait for processes to end, so many seconds for all of them together, or for ever."""
    end = None if seconds is None else time.monotonic() + seconds
    for process in processes:
        process.join(None if end is None else max(0.0, end - time.monotonic()))


def end_processes(processes: Iterable[BaseProcess | Any], polite: float) -> None:
    """End processes by SIGTERM, then by SIGKILL, and wait until they are gone.

    Parameters
    ----------
    polite : seconds between the two; 0 kills at once.
    """
    processes = list(processes)
    if polite:
        for process in processes:
            process.terminate()
        join_all(processes, polite)
    for process in processes:
        process.kill()
    join_all(processes, None)
