"""A worker process of the pool: what runs in it, how its parent sees it, and how it is ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any

from delira_nca.data_loading.child_process import end_processes, join_all
from delira_nca.experiment.launchers.attempt import attempt
from delira_nca.experiment.launchers.launcher import LaunchError, ProcessDiedError

__all__ = ["Worker", "end", "work"]


def work(connection: Connection, patience: int) -> None:
    """Do one job after another, until there are no more, or nobody to do them for.

    Ctrl+C is the parent's to handle. SIGTERM ends a training when it has saved what it has, and anything else at once.

    Parameters
    ----------
    connection : Connection
        To the parent: jobs come in; an empty message to say hello, and reports, go out.
    patience : int
        Seconds from SIGTERM to the end, where the parent is gone and cannot see to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(patience,), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(b"")
        while True:
            connection.send_bytes(attempt(connection.recv()))


class Worker:
    """A process, the connection to it, and the number of the job that it does."""

    def __init__(self, patience: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: Any = context.Process(target=work, args=(theirs, patience), name="delira_nca task")
        self.job: int | None = None
        self.has_started = False
        with theirs:
            self.process.start()

    def answer(self) -> bytes:
        """What it says; EOFError or OSError if it died.

        A child of the worker may hold its end of the connection open, so that the end of the process counts as well.
        """
        if not self.connection.poll():
            raise EOFError
        return self.connection.recv_bytes()

    def died(self) -> ProcessDiedError:
        """Why there is no answer.

        Raises
        ------
        LaunchError
            If no process can start here.
        """
        self.connection.close()
        self.process.join(5.0)
        end_processes([self.process], 0.0)  # of one that lives, but cannot answer any more
        code: int = self.process.exitcode
        if code < 0 or code > 128:
            number = -code if code < 0 else code - 128
            with contextlib.suppress(ValueError):
                name = signal.Signals(number).name
                why = ": probably out of memory" if name == "SIGKILL" else ""
                return ProcessDiedError(f"process {self.process.pid} was ended by {name}{why}")
        if not self.has_started:
            raise LaunchError(
                f"a worker process exited with code {code} before it had started; what it printed says more. Processes "
                "are spawned: a script imports itself in each, so what it does must stand under "
                '`if __name__ == "__main__":`'
            )
        return ProcessDiedError(f"process {self.process.pid} exited with code {code} in the middle of the task")


def end(workers: Iterable[tuple[Any, Connection]], patience: int | None) -> None:
    """End worker processes, and wait until they are gone.

    Parameters
    ----------
    workers : iterable of tuple
        Each process, and the connection to it.
    patience : int, optional
        Seconds from SIGTERM to SIGKILL; None to let them end by themselves, which they do if they are idle.
    """
    workers = list(workers)
    processes = [process for process, _ in workers]
    for _, connection in workers:
        connection.close()
    try:
        if patience is None:
            join_all(processes, 5.0)
        end_processes(processes, 1.0 if patience is None else patience)
    finally:  # of a second Ctrl+C too
        end_processes(processes, 0.0)


def _end_with_parent(patience: int) -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os._exit(1)
