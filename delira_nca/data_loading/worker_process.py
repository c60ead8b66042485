"""Worker processes from the view of the parent: start, messages and termination."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import signal
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from delira_nca.data_loading.batch_builder import BatchBuilder, BatchTask, name_of
from delira_nca.data_loading.child_process import end_processes, join_all, require_importable_main
from delira_nca.data_loading.dataset import Batch
from delira_nca.data_loading.failures import Failure, WorkerError, place_of
from delira_nca.data_loading.transport import Inbox
from delira_nca.data_loading.worker import Hello, Order, Reply, Stack, Stop, WhereAreYou, work
from delira_nca.errors import ConfigError

__all__ = ["Worker", "end", "require_picklable", "start", "start_method_of"]

_STACK_LIMIT = 0.5  # seconds to wait for the stack of a hanging worker
_POLITE = 0.3  # seconds for workers to end by themselves


class Worker:
    """One worker process, its connection, and its pending orders."""

    def __init__(self, number: int, process: Any, connection: Connection, num_slots: int) -> None:
        self.name = f"worker process {number}"
        self.process, self.connection = process, connection
        self.has_started = False
        self.inbox = Inbox(num_slots)
        self.free = list(range(num_slots))
        self.orders: list[Order] = []  # the first one is in progress

    def send(self, message: object) -> None:
        """Send a message to the worker."""
        try:
            self.connection.send_bytes(pickle.dumps(message))
        except OSError:
            raise self.ended() from None

    def order(self, run: int, task: BatchTask) -> None:
        """Order a batch. There must be a free slot."""
        order = Order(run, self.free.pop(), task)
        self.orders.append(order)
        self.send(order)

    def receive(self) -> Reply | Hello | Stack:
        """Read a pending message. Raise an error if the process has ended without one."""
        try:
            message = pickle.loads(self.connection.recv_bytes())
            if isinstance(message, Reply) and not isinstance(message.content, (Failure, type(None))):
                self.inbox.accept(self.connection, message.slot, message.content)
        except (EOFError, OSError, RuntimeError):
            raise self.ended() from None
        if isinstance(message, Hello):
            self.has_started = True
        return message  # type: ignore[no-any-return]

    def settle(self, reply: Reply) -> Batch | Failure | None:
        """Return the content of a reply. Its slot is free afterwards."""
        self.orders.pop(0)
        content = reply.content
        result = content if isinstance(content, (Failure, type(None))) else self.inbox.unpack(reply.slot, content)
        self.free.append(reply.slot)
        return result

    @property
    def place(self) -> str:
        """Describe the batch that the worker is building."""
        return place_of(*self.orders[0].task.place) if self.orders else "nothing"

    def ended(self) -> WorkerError:
        """Return an error that describes how the process ended."""
        self.process.join(1.0)
        code = self.process.exitcode
        text = f"{self.name} (pid {self.process.pid}) "
        doing = f"while it built {self.place}" if self.has_started else "before it had started"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                text += f"was killed by signal {-code} ({signal.Signals(-code).name}) {doing}"
            if -code == getattr(signal, "SIGKILL", 9):
                text += (
                    ": probably out of memory. Fewer workers, a smaller prefetch or smaller batches need less; "
                    "the log of the system or of the cluster says what was killed"
                )
        else:
            text += f"exited unexpectedly with code {code} {doing}; what it printed says more"
            if not self.has_started:
                text += (
                    ". Where processes are spawned, a script imports itself in each: what it does must stand "
                    'under `if __name__ == "__main__":`'
                )
        return WorkerError(text)

    def stack(self) -> str:
        """Return the stack of a hanging worker, or why it is unknown."""
        with contextlib.suppress(WorkerError):
            self.send(WhereAreYou())
            end = time.monotonic() + _STACK_LIMIT
            while self.connection.poll(max(0.0, end - time.monotonic())):
                if isinstance(message := self.receive(), Stack):
                    return f"It is at:\n{message.text}"
        return "It does not say where it is: it is stopped, or in native code."


def start(builder: BatchBuilder, number: int, prefetch: int, method: str) -> Worker:
    """Start a worker that builds up to ``prefetch`` batches ahead."""
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    arguments = {
        "name": f"worker process {number}",
        "num_slots": prefetch,
        "parent": os.getpid() if method == "fork" else 0,
        "has_torch": "torch" in sys.modules,
    }
    process = context.Process(
        target=work, args=(builder, theirs), kwargs=arguments, name=f"delira_nca batches {number}", daemon=True
    )
    try:
        process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Worker(number, process, ours, prefetch)


def end(workers: list[Worker], owner: int, *, at_once: bool = False) -> None:
    """Stop processes by a message, then SIGTERM, then SIGKILL."""
    if os.getpid() != owner:  # a copy of the group in a forked process
        return
    processes = [worker.process for worker in workers]
    if not at_once:
        for worker in workers:
            with contextlib.suppress(WorkerError, OSError):
                worker.send(Stop())
        join_all(processes, _POLITE)
    end_processes(processes, 0.0 if at_once else _POLITE)
    for worker in workers:
        worker.connection.close()
    workers.clear()


def start_method_of(start_method: str | None) -> str:
    """Return the start method of processes without fixing it for the rest of the program."""
    default = multiprocessing.get_start_method(allow_none=True)
    return start_method or default or multiprocessing.get_all_start_methods()[0]


def require_picklable(value: object, what: str, method: str) -> None:
    """Check that an object can be pickled for processes that are not forked.

    Raises
    ------
    ConfigError
        If it cannot. The message gives the reason and solutions.
    """
    try:
        ForkingPickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as error:
        name = name_of(value) if callable(value) else type(value).__name__
        raise ConfigError(
            f"start_method={method!r} sends {what} to worker processes, but {name} cannot be pickled ({error}). "
            "Define functions and classes at the top of a module, not as a lambda or in a function, "
            "or use start_method='fork' or n_process_augmentation=0"
        ) from error
    require_importable_main(value, what)


class _Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data) if isinstance(data, bytes) else memoryview(data).nbytes
