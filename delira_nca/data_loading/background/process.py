"""Background processes from the view of their parent, and their termination."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from delira_nca.data_loading.background.faults import WorkerDiedError
from delira_nca.data_loading.background.slots import Slots
from delira_nca.data_loading.background.worker import Birth, work
from delira_nca.data_loading.child_process import end_processes, join_all

__all__ = ["Estate", "Worker"]

_POLITE = 0.25  # seconds for a worker to end by itself, then after SIGTERM
_STACK_LIMIT = 1.0  # seconds for a hanging worker to report its stack
_GUESS = {
    "SIGKILL": "probably out of memory: fewer processes, a smaller read_ahead or smaller results need less",
    "SIGBUS": "probably out of shared memory: a smaller read_ahead or a larger /dev/shm helps",
    "SIGSEGV": "a fault in native code that it calls",
}


class Worker:
    """One process, and its pending calls.

    Parameters
    ----------
    number : int
        Number of the worker, for messages.
    birth : Birth
        Data that the process needs at its start.
    context : object
        Multiprocessing context that starts it.
    """

    def __init__(self, number: int, birth: Birth, context: Any) -> None:
        self.number, self.pending = number, list[int]()
        self.has_begun = self.is_ready = self.is_deaf = False
        self.tasks, tasks = context.Pipe()
        self.watch, watch = context.Pipe()
        self.process = context.Process(
            target=work, args=(birth, tasks, watch), name=f"delira_nca background {number}", daemon=True
        )
        try:
            self.process.start()
        except BaseException:
            self.tasks.close()
            self.watch.close()
            raise
        finally:
            tasks.close()
            watch.close()

    @property
    def name(self) -> str:
        """Name of the process, for messages."""
        return f"background worker {self.number} (pid {self.process.pid})"

    def send(self, message: object) -> None:
        """Send a message. Errors for dead processes are ignored, as these are detected elsewhere."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.tasks.send(message)

    def receive(self) -> list[Any]:
        """Receive all messages."""
        messages: list[Any] = []
        try:
            while not self.is_deaf and self.tasks.poll():
                messages.append(self.tasks.recv())
        except (EOFError, ConnectionResetError):
            self.is_deaf = True
        return messages

    def death(self) -> WorkerDiedError:
        """Return an error that describes how the process ended."""
        code = self.process.exitcode
        doing = f"while it made call {self.pending[0]}" if self.pending else "while it had nothing to do"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                guess = f": {_GUESS[name]}" if name in _GUESS else ""
                return WorkerDiedError(f"{self.name} was killed by {name} {doing}{guess}")
        text = f"{self.name} ended with exit code {code} {doing}; what it printed may say more"
        if not self.has_begun:
            text = (
                f"{self.name} ended with exit code {code} before it began. Where processes are not forked, a script "
                'is imported in each of them: what it does must stand under `if __name__ == "__main__":`'
            )
        return WorkerDiedError(text)

    def stack(self) -> str:
        """Return the current stack of the process, or why it is unknown."""
        with contextlib.suppress(OSError, EOFError):
            self.watch.send(None)
            if self.watch.poll(_STACK_LIMIT):
                return f"It is at:\n{self.watch.recv()}"
        return "It does not say where it is: it is stopped, or in native code."


class Estate:
    """Processes and memory to clean up, separate from the crew so that a finalizer of the crew can clear them."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.slots: Slots | None = None
        self.owner = os.getpid()

    def clear(self) -> None:
        """Stop the processes by a message, then SIGTERM, then SIGKILL, and free the memory."""
        if os.getpid() != self.owner:  # a copy in a forked process
            return
        workers, self.workers[:] = list(self.workers), []
        for worker in workers:
            if not worker.pending:
                worker.send(None)
        join_all([worker.process for worker in workers if not worker.pending], _POLITE)
        end_processes([worker.process for worker in workers], _POLITE)
        for worker in workers:
            worker.tasks.close()
            worker.watch.close()
            worker.process.close()
        if self.slots is not None:
            self.slots.close()
        self.slots = None
