"""What every process that works for another one does at its beginning, and what its parent does at its end."""

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
    """Leave signals to the parent, and work in one thread: there are other workers for the other cores.

    Parameters
    ----------
    has_torch : bool
        Whether torch is needed; it is not loaded for its threads' sake.
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


def require_importable_main(value: object, what: str) -> None:
    """Refuse what is defined in a main program that a process which is not forked cannot import.

    A notebook, an interactive session, ``python -c`` and a program on standard input have no file to import.

    Parameters
    ----------
    value : object
        Object to be sent, which can be pickled: functions and classes of the main program are found within it.
    what : str
        Name of the object in the message.

    Raises
    ------
    ConfigError
        With the function or class, and the cure.
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
    if file is not None:  # each process would try to run it
        raise ConfigError(f"{program} cannot start other processes: save it as a .py file")


class _FinderOfMain(ForkingPickler):
    """Pickler that notes the names of functions and classes of the main program."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.names: list[str] = []

    def persistent_id(self, found: object) -> None:
        if isinstance(found, type | FunctionType) and found.__module__ == "__main__":
            self.names.append(found.__qualname__)
        elif isinstance(found, str) and found.startswith("__main__."):  # an import path in a config
            self.names.append(found.removeprefix("__main__."))


def join_all(processes: Iterable[BaseProcess | Any], seconds: float | None) -> None:
    """Wait for processes to end, so many seconds for all of them together, or for ever."""
    end = None if seconds is None else time.monotonic() + seconds
    for process in processes:
        process.join(None if end is None else max(0.0, end - time.monotonic()))


def end_processes(processes: Iterable[BaseProcess | Any], polite: float) -> None:
    """End processes by SIGTERM, then by SIGKILL, and wait until they are gone.

    Parameters
    ----------
    polite : float
        Seconds between the two; 0 kills at once.
    """
    processes = list(processes)
    if polite:
        for process in processes:
            process.terminate()
        join_all(processes, polite)
    for process in processes:
        process.kill()
    join_all(processes, None)
