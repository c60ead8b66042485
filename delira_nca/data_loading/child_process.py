"""Start of child processes, and their termination by the parent."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from types import FunctionType
from typing import Any

from delira_nca.errors import ConfigError

__all__ = ["end_processes", "join_all", "require_importable_main", "settle_in"]


def settle_in(*, has_torch: bool) -> None:
    """Ignore signals, which the parent handles, and use one thread, as other workers use the other cores.

    Parameters
    ----------
    has_torch : bool
        Whether torch is used. It is not loaded only to set its number of threads.
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
        os.environ[f"{library}_NUM_THREADS"] = "1"  # for libraries that are loaded later
    with contextlib.suppress(ImportError):
        importlib.import_module("threadpoolctl").threadpool_limits(1)


def require_importable_main(value: object, what: str) -> None:
    """Check that an object is not defined in a main program that other processes cannot import.

    Notebooks, interactive sessions, ``python -c`` and programs on standard input cannot be imported.

    Parameters
    ----------
    value : object
        Picklable object, which is searched for functions and classes of the main program.
    what : str
        Name of the object in the message.

    Raises
    ------
    ConfigError
        If one is found. The message names it and gives a solution.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is not None or (file is not None and os.path.isfile(file)):
        return
    finder = _FinderOfMain(io.BytesIO())
    finder.dump(value)
    program = "a notebook, an interactive session or python -c" if file is None else "a program on standard input"
    if finder.names:
        raise ConfigError(
            f"{what} cannot be sent to other processes: {finder.names[0]!r} is defined in {program}, which they cannot "
            "import. Define it in a module (a .py file), and import that"
        )
    if file is not None:  # each process would try to run this file
        raise ConfigError(f"{program} cannot start other processes: save it as a .py file")


class _FinderOfMain(ForkingPickler):
    """Pickler that records the names of functions and classes of the main program."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.names: list[str] = []

    def persistent_id(self, found: object) -> None:
        if isinstance(found, type | FunctionType) and found.__module__ == "__main__":
            self.names.append(found.__qualname__)
        elif isinstance(found, str) and found.startswith("__main__."):  # an import path in a configuration
            self.names.append(found.removeprefix("__main__."))


def join_all(processes: Iterable[BaseProcess | Any], seconds: float | None) -> None:
    """Wait for processes to end, with one timeout in seconds for all of them, or forever."""
    end = None if seconds is None else time.monotonic() + seconds
    for process in processes:
        process.join(None if end is None else max(0.0, end - time.monotonic()))


def end_processes(processes: Iterable[BaseProcess | Any], polite: float) -> None:
    """Stop processes by SIGTERM, then by SIGKILL, and wait until they have ended.

    Parameters
    ----------
    polite : float
        Seconds between the two signals; 0 sends SIGKILL immediately.
    """
    processes = list(processes)
    if polite:
        for process in processes:
            process.terminate()
        join_all(processes, polite)
    for process in processes:
        process.kill()
    join_all(processes, None)
