"""Worker processes from the view of the parent: start, messages and termination."""

from __future__ import annotations

import contextlib
import io
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing import forkserver, reduction, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from types import FunctionType
from typing import Any

from delira_nca.errors import ConfigError
from delira_nca.workers import child
from delira_nca.workers.child import ChildSettings, DumpStack, Handler, Reply, Stack, Started, Stop, Task, work
from delira_nca.workers.failures import WorkerDiedError
from delira_nca.workers.shared_memory import map_segment

__all__ = ["WorkerProcess", "end_workers", "require_importable_main", "require_picklable", "start_method_of"]

_STACK_LIMIT = 0.5  # seconds to wait for the stack of a hanging worker
_POLITE = 0.3  # seconds for idle workers to end by themselves, and for others after SIGTERM


@contextlib.contextmanager
def _signals_on_hold(method: str) -> Iterator[None]:
    """Deliver SIGINT and SIGTERM after the start of a process: until `work`, a child has the handlers of its parent."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if method != "fork":
        resource_tracker.ensure_running()  # Python starts it on the way, and would deliver the signals
    if method == "forkserver":
        forkserver.ensure_running()  # other libraries may use it, and need its signals
    former = signal.pthread_sigmask(signal.SIG_BLOCK, child.HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


class WorkerProcess:
    """One worker process, its connection and its pending tasks.

    Parameters
    ----------
    handler : callable
        Function that the worker calls for each task. Unless the worker is forked, it must be picklable.
    name : str
        Name of the worker in messages.
    method : {"fork", "spawn", "forkserver"}
        Start method of the process.
    num_slots : int
        Maximum number of pending tasks.
    patience : float
        Seconds between SIGTERM and the exit if the parent ends; 0 exits at once.
    is_helper : bool
        Whether the worker uses one thread and cannot start processes; else it is a program of its own.
    """

    def __init__(
        self, handler: Handler, name: str, *, method: str, num_slots: int, patience: float = 0.0, is_helper: bool = True
    ) -> None:
        context: Any = multiprocessing.get_context(method)
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        settings = ChildSettings(
            num_slots=num_slots,
            forked_from=os.getpid() if method == "fork" else 0,
            is_tied=method == "forkserver" or threading.current_thread() is threading.main_thread(),
            is_limited=is_helper,
            has_torch="torch" in sys.modules,
            patience=patience,
        )
        self.process = context.Process(target=work, args=(handler, theirs, settings), name=name, daemon=is_helper)
        try:
            with _signals_on_hold(method):
                self.process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()
        self.name = f"{name} (pid {self.process.pid})"
        self.has_started = self.is_deaf = False
        self.free = list(range(num_slots))
        self.pending: list[Task] = []  # the first one is in progress
        self.segments: list[mmap.mmap | None] = [None] * num_slots
        self._unread: list[Reply] = []
        self._stack = ""

    def submit(self, run: int, number: int, content: Any) -> None:
        """Send a task. There must be a free slot, which is in use until the caller appends it to ``free``."""
        task = Task(run, number, self.free.pop(), content)
        self.pending.append(task)
        self.send(task)

    def send(self, message: object) -> None:
        """Send a message. Errors of dead processes are ignored, as `has_ended` detects these."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(pickle.dumps(message))

    def receive(self) -> list[Reply]:
        """Return the replies that have arrived."""
        replies, self._unread = self._unread, []
        try:
            while not self.is_deaf and self.connection.poll():
                message = pickle.loads(self.connection.recv_bytes())
                if isinstance(message, Reply):
                    if message.segment_size:
                        file = reduction.recv_handle(self.connection)
                        self.segments[message.slot] = map_segment(file, message.segment_size)
                    self.pending.pop(0)
                    replies.append(message)
                elif isinstance(message, Stack):
                    self._stack = message.text
                else:
                    self.has_started = isinstance(message, Started)
        except (EOFError, OSError, RuntimeError):
            self.is_deaf = True
        return replies

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, or its connection is broken. Replies may still be unread."""
        return self.is_deaf or self.process.exitcode is not None

    def death(self, at: str, hint: str = "") -> WorkerDiedError:
        """Return an error that describes how the process ended.

        Parameters
        ----------
        at : str
            Description of the task in progress.
        hint : str
            Advice if it was probably killed because the machine is out of memory.
        """
        self.process.join(1.0)
        _end_processes([self.process], 0.0)  # it may be alive without a connection
        code: int = self.process.exitcode
        number = -code if code < 0 else code - 128
        if number > 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(number).name
                text = f"{self.name} was killed by {name} {at}"
                if name == "SIGKILL":
                    text += ": probably out of memory" + (f"; {hint}" if hint else "")
                return WorkerDiedError(text)
        if self.has_started:
            return WorkerDiedError(f"{self.name} exited with code {code} {at}; its output may say more")
        return WorkerDiedError(
            f"{self.name} exited with code {code} before it had started; its output may say more. Where processes are "
            "not forked, a script is imported in each of them: its main code must stand under "
            '`if __name__ == "__main__":`'
        )

    def stack(self) -> str:
        """Return the current stack of a hanging worker, or why it is unknown."""
        self._stack = ""
        self.send(DumpStack())
        end = time.monotonic() + _STACK_LIMIT
        while not self.is_deaf and self.connection.poll(max(0.0, end - time.monotonic())):
            self._unread += self.receive()
            if self._stack:
                return f"It is at:\n{self._stack}"
        return "It does not say where it is: it is stopped, or in native code."


def end_workers(workers: list[WorkerProcess], owner: int, *, grace: float = _POLITE, patience: float = _POLITE) -> None:
    """Stop workers, and clear the list: the idle ones by a message, then all by SIGTERM, then by SIGKILL.

    Parameters
    ----------
    workers : list of WorkerProcess
        Workers to stop.
    owner : int
        Id of the process that started them. In a fork of it, nothing is done.
    grace : float
        Seconds for idle workers to end by themselves.
    patience : float
        Seconds between SIGTERM and SIGKILL; 0 sends SIGKILL immediately.
    """
    if os.getpid() != owner:
        return
    ended, workers[:] = list(workers), []
    processes = [worker.process for worker in ended]
    idle = [worker for worker in ended if not worker.pending]
    try:
        for worker in idle:
            worker.send(Stop())
        _join_all([worker.process for worker in idle], grace)
        _end_processes(processes, patience)
    finally:
        _end_processes(processes, 0.0)  # also after a second Ctrl+C
        for worker in ended:
            worker.connection.close()
            worker.process.close()


def _join_all(processes: Iterable[BaseProcess], seconds: float | None) -> None:
    """Wait for processes to end, with one timeout in seconds for all of them, or forever."""
    end = None if seconds is None else time.monotonic() + seconds
    for process in processes:
        process.join(None if end is None else max(0.0, end - time.monotonic()))


def _end_processes(processes: list[BaseProcess], patience: float) -> None:
    """Stop processes by SIGTERM, then by SIGKILL, and wait until they have ended."""
    if patience:
        for process in processes:
            process.terminate()
        _join_all(processes, patience)
    for process in processes:
        process.kill()
    _join_all(processes, None)


def start_method_of(start_method: str | None) -> str:
    """Return the start method of processes without fixing it for the rest of the program."""
    default = multiprocessing.get_start_method(allow_none=True)
    return start_method or default or multiprocessing.get_all_start_methods()[0]


def require_picklable(value: object, what: str, method: str, cure: str) -> None:
    """Check that an object can be sent to processes that are not forked.

    Parameters
    ----------
    value : object
        Object to send.
    what : str
        Name of the object in the message.
    method : str
        Start method of the processes; with ``"fork"``, nothing is checked.
    cure : str
        Setting that avoids processes, for the message.

    Raises
    ------
    ConfigError
        If it cannot be pickled, or other processes cannot import it. The message gives the reason and solutions.
    """
    if method == "fork":
        return
    try:
        ForkingPickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as error:
        raise ConfigError(
            f"start_method={method!r} sends {what} to other processes, but {_name_of(value)} cannot be pickled "
            f"({error}). Define functions and classes at the top of a module, not as a lambda or in a function, "
            f"or use start_method='fork' or {cure}"
        ) from error
    require_importable_main(value, what)


def _name_of(value: object) -> str:
    name = getattr(value, "__name__", type(value).__name__) if callable(value) else repr(value)
    return name if len(name) <= 200 else f"{name[:200]}..."


class _Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data) if isinstance(data, bytes) else memoryview(data).nbytes


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
