"""Main function of worker processes, which build batches until they are stopped or the parent ends."""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import traceback
from multiprocessing import parent_process, reduction
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from delira_nca.data_loading.child_process import settle_in
from delira_nca.data_loading.failures import Failure, failure_of
from delira_nca.data_loading.transport import Outbox, Parcel

if TYPE_CHECKING:
    from delira_nca.data_loading.batch_builder import BatchBuilder, BatchTask

__all__ = ["Hello", "NewRun", "Order", "Reply", "Stack", "Stop", "WhereAreYou", "work"]

_LOOKS_EVERY = 0.5  # seconds between two checks whether the parent is alive


class Order(NamedTuple):
    """Message to a worker: build this batch and write it to this slot."""

    run: int
    slot: int
    task: BatchTask


class NewRun(NamedTuple):
    """Message to a worker: orders of earlier runs are cancelled."""

    run: int


class WhereAreYou(NamedTuple):
    """Message to a worker: answer with a `Stack`."""


class Stop(NamedTuple):
    """Message to a worker: end after the current batch."""


class Hello(NamedTuple):
    """Message from a worker: it has started."""


class Stack(NamedTuple):
    """Message from a worker: the stack of its main thread."""

    text: str


class Reply(NamedTuple):
    """Message from a worker: the result of an order; None if it was cancelled."""

    run: int
    slot: int
    number: int
    content: Parcel | Failure | None


def work(
    builder: BatchBuilder, connection: Connection, *, name: str, num_slots: int, parent: int, has_torch: bool
) -> None:
    """Build the batches ordered through the connection until a message to stop arrives, or the parent has ended.

    Parameters
    ----------
    builder : BatchBuilder
        Builder of the batches.
    connection : Connection
        Connection to the parent. name : str Name of this process in messages.
    num_slots : int
        Maximum number of pending orders.
    parent : int
        Process id of the parent if this process was forked, else 0.
    has_torch : bool
        Whether torch is loaded in the parent.
    """
    settle_in(has_torch=has_torch)
    _Worker(builder, connection, name, num_slots, parent).work()


class _Worker:
    """Worker with a main thread that builds, and a thread that receives messages and detects the parent's end."""

    def __init__(self, builder: BatchBuilder, connection: Connection, name: str, num_slots: int, parent: int) -> None:
        self._builder, self._connection, self._name, self._parent = builder, connection, name, parent
        self._outbox = Outbox(num_slots)
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._speaking = threading.Lock()
        self._run = 0
        self._main = threading.get_ident()

    def work(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        self._say(Hello())
        while (order := self._orders.get()) is not None:
            self._obey(order)

    def _obey(self, order: Order) -> None:
        content: Parcel | Failure | None = None
        file: int | None = None
        if order.run == self._run:
            try:
                content, file = self._outbox.pack(order.slot, self._builder(order.task))
                message = pickle.dumps(Reply(order.run, order.slot, order.task.number, content), protocol=4)
            except Exception as error:
                if file is not None:  # an entry of the batch could not be pickled
                    os.close(file)
                    file = None
                    self._outbox.forget(order.slot)
                content = failure_of(error, order.task.place, where=f"{self._name} (pid {os.getpid()})")
        if not isinstance(content, Parcel):
            message = pickle.dumps(Reply(order.run, order.slot, order.task.number, content))
        self._send(message, file)

    def _say(self, message: Hello | Stack) -> None:
        self._send(pickle.dumps(message))

    def _send(self, message: bytes, file: int | None = None) -> None:
        try:
            with self._speaking:
                self._connection.send_bytes(message)
                if file is not None:
                    reduction.send_handle(self._connection, file, self._parent)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)  # the parent has ended
        finally:
            if file is not None:
                os.close(file)

    def _listen(self) -> None:
        parent = parent_process()
        ends: list[Any] = [self._connection]
        if parent is not None and not self._parent:
            ends.append(parent.sentinel)
        while True:
            if self._connection in wait(ends, _LOOKS_EVERY):
                try:
                    message = pickle.loads(self._connection.recv_bytes())
                except (EOFError, OSError):
                    os._exit(1)
                if isinstance(message, Order):
                    self._orders.put(message)
                elif isinstance(message, NewRun):
                    self._run = message.run
                elif isinstance(message, WhereAreYou):
                    self._say(Stack(self._stack()))
                else:
                    self._orders.put(None)
                    return
            elif self._is_orphan(parent):
                os._exit(1)

    def _stack(self) -> str:
        """Return the stack of the main thread, from this module on."""
        stack = traceback.extract_stack(sys._current_frames().get(self._main))
        ours = max((place for place, line in enumerate(stack) if line.filename == __file__), default=-1)
        return "".join(traceback.format_list(stack[ours + 1 :] or stack))

    def _is_orphan(self, parent: Any) -> bool:
        # A forked process holds the pipes of earlier processes open, so that these do not notice the parent's end.
        if self._parent:
            return os.getppid() != self._parent
        return parent is not None and bool(wait([parent.sentinel], 0))
