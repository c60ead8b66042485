"""Worker process of the pool, and its representation in the parent process."""

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
    """Run jobs one after another, until there are no more or the parent is gone.

    Ctrl+C is handled by the parent. SIGTERM ends a training after its state is saved, and other jobs immediately.

    Parameters
    ----------
    connection : Connection
        Connection to the parent. The worker sends an empty message at the start, receives jobs, and sends reports.
    patience : int
        Seconds between SIGTERM and the exit if the parent is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(patience,), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(b"")
        while True:
            connection.send_bytes(attempt(connection.recv()))


class Worker:
    """Worker process, its connection, and the number of its job."""

    def __init__(self, patience: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: Any = context.Process(target=work, args=(theirs, patience), name="delira_nca task")
        self.job: int | None = None
        self.has_started = False
        with theirs:
            self.process.start()

    def answer(self) -> bytes:
        """Receive a message; raise EOFError or OSError if the process has died.

        A child of the worker may keep the connection open, so that the end of the process is checked too.
        """
        if not self.connection.poll():
            raise EOFError
        return self.connection.recv_bytes()

    def died(self) -> ProcessDiedError:
        """Error for a worker that has died.

        Raises
        ------
        LaunchError
            If no process can be started on this machine.
        """
        self.connection.close()
        self.process.join(5.0)
        end_processes([self.process], 0.0)  # the process may be alive but unable to answer
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
    """Stop worker processes, and wait until they have ended.

    Parameters
    ----------
    workers : iterable of tuple
        Processes and their connections.
    patience : int, optional
        Seconds between SIGTERM and SIGKILL; None to wait for idle workers, which end by themselves.
    """
    workers = list(workers)
    processes = [process for process, _ in workers]
    for _, connection in workers:
        connection.close()
    try:
        if patience is None:
            join_all(processes, 5.0)
        end_processes(processes, 1.0 if patience is None else patience)
    finally:  # also after a second Ctrl+C
        end_processes(processes, 0.0)


def _end_with_parent(patience: int) -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os._exit(1)
