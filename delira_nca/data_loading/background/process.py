"""A background process as its parent sees it, and how it is ended, however it is."""

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

_POLITE = 0.25  # seconds that a worker is given to end by itself, then by SIGTERM
_STACK_LIMIT = 1.0  # seconds that a hanging worker is given to say where it is
_GUESS = {
    "SIGKILL": "probably out of memory: fewer processes, a smaller read_ahead or smaller results need less",
    "SIGBUS": "probably out of shared memory: a smaller read_ahead or a larger /dev/shm helps",
    "SIGSEGV": "a fault in native code that it calls",
}


class Worker:
    """One process, and the calls that it was given and has not answered.

    Parameters
    ----------
    number : int
        For messages.
    birth : Birth
        What it must know.
    context : object
        How it is started.
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
        """Words for it."""
        return f"background worker {self.number} (pid {self.process.pid})"

    def send(self, message: object) -> None:
        """Tell it something; who is dead does not hear it, which is found out elsewhere."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.tasks.send(message)

    def receive(self) -> list[Any]:
        """Take all that it has said."""
        messages: list[Any] = []
        try:
            while not self.is_deaf and self.tasks.poll():
                messages.append(self.tasks.recv())
        except (EOFError, ConnectionResetError):
            self.is_deaf = True
        return messages

    def death(self) -> WorkerDiedError:
        """How it ended, in words."""
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
        """Lines that it is at, or why they are unknown."""
        with contextlib.suppress(OSError, EOFError):
            self.watch.send(None)
            if self.watch.poll(_STACK_LIMIT):
                return f"It is at:\n{self.watch.recv()}"
        return "It does not say where it is: it is stopped, or in native code."


class Estate:
    """What must be gone in the end, kept apart from the crew so that it can be cleared when the crew is forgotten."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.slots: Slots | None = None
        self.owner = os.getpid()

    def clear(self) -> None:
        """End the processes: by asking, by SIGTERM, by SIGKILL; then give the memory back."""
        if os.getpid() != self.owner:  # a forked process forgot its copy
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
