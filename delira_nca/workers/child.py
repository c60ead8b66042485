"""Worker processes from the inside: the main thread computes, another one listens to the parent."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import parent_process, reduction
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from delira_nca.workers.shared_memory import SlotWriter

__all__ = [
    "HELD_SIGNALS",
    "ChildSettings",
    "DumpStack",
    "Handler",
    "NewRun",
    "Reply",
    "Stack",
    "Started",
    "Stop",
    "Task",
    "work",
]

Handler = Callable[[Any, SlotWriter], bytes]
"""Function that a worker calls for each task: with its content, and the memory for large arrays of the result."""

HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that the parent blocks while it starts a worker, and that the worker unblocks."""

_CHECK_INTERVAL = 0.5  # seconds between two checks whether the parent is alive
_PR_SET_PDEATHSIG = 1


class Task(NamedTuple):
    """Message to a worker: compute this, and use this slot for its result."""

    run: int
    number: int
    slot: int
    content: Any


class NewRun(NamedTuple):
    """Message to a worker: tasks of earlier runs are cancelled."""

    run: int


class DumpStack(NamedTuple):
    """Message to a worker: answer with a `Stack`."""


class Stop(NamedTuple):
    """Message to a worker: end after the current task."""


class Started(NamedTuple):
    """Message from a worker: it has started."""


class Stack(NamedTuple):
    """Message from a worker: the stack of its main thread."""

    text: str


class Reply(NamedTuple):
    """Message from a worker: the result of the handler, or None if the task was cancelled.

    If ``segment_size`` is not 0, the slot has a new segment of this number of bytes, and its open file follows on the
    connection.
    """

    run: int
    number: int
    slot: int
    content: bytes | None
    seconds: float
    segment_size: int


class ChildSettings(NamedTuple):
    """Settings of a worker process.

    Attributes
    ----------
    num_slots : int
        Maximum number of pending tasks.
    forked_from : int
        Process id of the parent if the worker is forked, else 0.
    is_tied : bool
        Whether the system may kill the worker when the thread that started it ends: its main thread.
    is_limited : bool
        Whether the worker uses one thread, as other workers use the other cores.
    has_torch : bool
        Whether torch is loaded in the parent. It is not loaded only to set its number of threads.
    patience : float
        Seconds between SIGTERM and the exit if the parent ends; 0 exits at once.
    """

    num_slots: int
    forked_from: int
    is_tied: bool
    is_limited: bool
    has_torch: bool
    patience: float


def work(handler: Handler, connection: Connection, settings: ChildSettings) -> None:
    """Compute the tasks from a connection until a message to stop arrives, or the parent has ended.

    Signals that the terminal sends to all processes are left to the parent.

    Parameters
    ----------
    handler : callable
        Function to call for each task.
    connection : Connection
        Connection to the parent.
    settings : ChildSettings
        Settings of the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
    _tie_to_parent(settings)
    if settings.is_limited:
        _use_one_thread(settings.has_torch)
    _Child(handler, connection, settings).work()


def _tie_to_parent(settings: ChildSettings) -> None:
    """Let the system kill this process together with its parent, if it supports that.

    The listening thread notices the end of the parent too, but not while native code holds the interpreter lock.
    """
    if sys.platform == "linux" and settings.is_tied and not settings.patience:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if settings.forked_from and os.getppid() != settings.forked_from:  # it ended before the call
        os._exit(1)


def _use_one_thread(has_torch: bool) -> None:
    if has_torch:
        import torch

        torch.set_num_threads(1)
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"  # for libraries that are loaded later
    with contextlib.suppress(ImportError):
        importlib.import_module("threadpoolctl").threadpool_limits(1)


class _Child:
    def __init__(self, handler: Handler, connection: Connection, settings: ChildSettings) -> None:
        self._handler, self._connection, self._settings = handler, connection, settings
        self._slots = [SlotWriter() for _ in range(settings.num_slots)]
        # The listener takes tasks out of the pipe at once, so that the parent never blocks while it sends one.
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._run = 0
        self._main = threading.get_ident()

    def work(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        self._send(Started())
        while (task := self._tasks.get()) is not None:
            content, slot = None, self._slots[task.slot]
            start = time.perf_counter()
            if task.run >= self._run:
                content = self._handler(task.content, slot)
            seconds = time.perf_counter() - start
            file, size = slot.take_new()
            self._send(Reply(task.run, task.number, task.slot, content, seconds, size), file)

    def _send(self, message: Started | Stack | Reply, file: int | None = None) -> None:
        try:
            with self._sending:
                self._connection.send_bytes(pickle.dumps(message))
                if file is not None:
                    reduction.send_handle(self._connection, file, os.getppid())
        except (BrokenPipeError, ConnectionResetError):
            self._end_with_parent()
        finally:
            if file is not None:
                os.close(file)

    def _listen(self) -> None:
        parent = parent_process()
        # A forked process holds the pipes of earlier processes open, so that these do not notice the parent's end.
        is_forked = bool(self._settings.forked_from)
        ends: list[Any] = [self._connection, *([parent.sentinel] if parent is not None and not is_forked else [])]
        while True:
            ready = wait(ends, _CHECK_INTERVAL)
            if self._connection in ready:
                try:
                    message = pickle.loads(self._connection.recv_bytes())
                except (EOFError, OSError):
                    break
                self._obey(message)
            elif ready or (is_forked and os.getppid() != self._settings.forked_from):
                break
        self._end_with_parent()

    def _obey(self, message: Task | NewRun | DumpStack | Stop) -> None:
        if isinstance(message, Task):
            self._tasks.put(message)
        elif isinstance(message, NewRun):
            self._run = message.run
        elif isinstance(message, DumpStack):
            self._send(Stack(self._stack()))
        else:
            self._tasks.put(None)

    def _stack(self) -> str:
        """Return the stack of the main thread, from the handler on."""
        stack = traceback.extract_stack(sys._current_frames().get(self._main))
        ours = max((place for place, line in enumerate(stack) if line.filename == __file__), default=-1)
        return "".join(traceback.format_list(stack[ours + 1 :] or stack))

    def _end_with_parent(self) -> None:
        if self._settings.patience:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(self._settings.patience)
        os._exit(1)
