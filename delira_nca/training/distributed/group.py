"""Processes that exchange tensors and objects, and notice when one of them is lost."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from delira_nca.errors import DistributedError

__all__ = ["EXIT_CODE", "Group", "Liveness"]

_LOGGER = logging.getLogger("delira_nca")
_GLANCE = timedelta(seconds=0.5)
"""How long to wait before looking whether all the others are still there."""
_REASON_SECONDS = 2.0


class Group:
    """Collective calls: every process makes the same ones in the same order.

    They wait for a process that is slow as long as it takes, and for one that is lost not at all.

    Parameters
    ----------
    rank, size : int
        Number of this process, and of all.
    local_rank, local_size : int
        The same on this machine.
    life : Liveness
        See :class:`~delira_nca.training.distributed.group.Liveness`.

    Raises
    ------
    DistributedError
        From every call: if another process is lost or has failed.
    """

    def __init__(self, rank: int, size: int, local_rank: int, local_size: int, life: Liveness) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size
        self.life = life
        self.unfinished: Any = None

    def all_reduce(self, tensor: Tensor, op: Any = None) -> Tensor:
        """Sum over all processes, or what ``op`` says, in place."""
        self._finish(dist.all_reduce, tensor, op=dist.ReduceOp.SUM if op is None else op)
        return tensor

    def broadcast_tensor(self, tensor: Tensor, source: int = 0) -> Tensor:
        """Values of one process, in place."""
        dense = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.contiguous()
        self._finish(dist.broadcast, dense, src=source)
        return tensor if dense is tensor else tensor.copy_(dense)

    def gather_rows(self, rows: Tensor) -> Tensor:
        """(n, ...) rows of all processes in their order, on all of them; ``n`` may differ."""
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = len(rows)
        lengths = self.all_reduce(counts).tolist()
        if (longest := max(lengths)) == 0:
            return rows
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in lengths]
        self._finish(dist.all_gather, parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def exchange(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        """Rows from all processes, in their order.

        Parameters
        ----------
        rows : Tensor
            (sum of ``sent``, ...) on the CPU, those for rank 0 first.
        sent, received : sequence of int
            So many go to, and come from, each process.
        """
        out = rows.new_empty(sum(received), *rows.shape[1:])
        self._finish(dist.all_to_all_single, out, rows.contiguous(), list(received), list(sent))
        return out

    def gather_on_main(self, rows: Tensor) -> Tensor:
        """(n, ...) rows of all processes in their order, in rank 0; elsewhere its own."""
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = len(rows)
        lengths = self.all_reduce(counts).tolist()
        received = lengths if self.rank == 0 else [0] * self.size
        gathered = self.exchange(rows, [len(rows), *[0] * (self.size - 1)], received)
        return gathered if self.rank == 0 else rows

    def gather(self, value: Any) -> list[Any]:
        """Objects of all processes, in their order, on all of them."""
        data = _to_bytes(value)
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = len(data)
        lengths = self.all_reduce(counts).tolist()
        everything = self.gather_rows(data)
        return [_from_bytes(part) for part in torch.split(everything, lengths)]

    def broadcast(self, value: Any, source: int = 0) -> Any:
        """Object of one process."""
        data = _to_bytes(value) if self.rank == source else torch.empty(0, dtype=torch.uint8)
        length = self.broadcast_tensor(torch.tensor([len(data)]), source)
        if self.rank != source:
            data = torch.empty(int(length), dtype=torch.uint8)
        return _from_bytes(self.broadcast_tensor(data, source))

    def _finish(self, call: Any, *args: Any, **kwargs: Any) -> None:
        """Make a call of torch, and wait for its end while all processes live."""
        self.life.check()
        try:
            work = call(*args, **kwargs, async_op=True)
            if any(isinstance(arg, Tensor) and arg.is_cuda for arg in args):
                work.wait()  # NCCL's returns at once; the stream waits
                return
            self._wait(work)
        except DistributedError:
            raise
        except Exception as error:
            raise self.life.error(self.life.wait_for_reason(_REASON_SECONDS) or _reason(error)) from error

    def _wait(self, work: Any) -> None:
        self.unfinished = work
        while True:
            try:
                work.wait(_GLANCE)
                break
            except RuntimeError:
                if work.is_completed():
                    raise
            self.life.check()
        self.unfinished = None


def _reason(error: Exception) -> str:
    """What torch says of a call that has failed, in short."""
    text = re.sub(r"^\[[^]]*\] ", "", str(error).partition("\n")[0])
    return f"a connection has failed ({text.partition('. ')[0]})"


def _to_bytes(value: Any) -> Tensor:
    buffer = io.BytesIO()
    pickle.dump(value, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _from_bytes(data: Tensor) -> Any:
    return pickle.loads(data.numpy().tobytes())


_LOGGER = logging.getLogger("delira_nca")
_FAILURE = "failure"
EXIT_CODE = 1
"""Of a process that does not come back from a call although another one is lost."""


class Liveness:
    """A thread that beats for its process, and listens to the heart of the next one.

    Slow is not dead: a process that computes, or writes a file, beats all the same. Each listens to one other, so that
    the work does not grow with their number; who finds one silent writes it where all look.

    Parameters
    ----------
    store : object
        Of torch's rendezvous, a connection of the thread's own, with ``set``, ``get`` and ``check``.
    rank, size : int
        Number of this process, and of all.
    timeout : float
        Seconds of silence after which a process counts as lost; and after which this process ends itself if it
        does not come back from waiting for the lost one.

    Attributes
    ----------
    failure : str, optional
        What has happened, None as long as all is well.
    """

    def __init__(self, store: Any, rank: int, size: int, timeout: float) -> None:
        self._store, self.rank, self.timeout = store, rank, timeout
        self._next = (rank + 1) % size
        self._every = min(max(timeout / 10, 0.1), 2.0)
        self.failure: str | None = None
        self._is_watched = self._is_told = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)
        self._thread.start()

    def watch(self, watched: bool) -> None:
        """Say whether this process is in a training, where the others are needed."""
        self._is_watched, self._is_told = watched, False

    def check(self) -> None:
        """Raise what is known to have happened.

        Raises
        ------
        DistributedError
            If another process is lost or has failed.
        """
        if self.failure is not None:
            self._is_told = True
            raise self.error(self.failure)

    def error(self, reason: str) -> DistributedError:
        """Error that ends this process, for a reason that lies with another one."""
        return DistributedError(
            f"rank {self.rank} has lost another process of this training: {reason}. "
            "What is saved can be gone on from with resume='auto'"
        )

    def wait_for_reason(self, seconds: float) -> str | None:
        """What has happened, once it is known, or None after some time."""
        until = time.monotonic() + seconds
        while self.failure is None and time.monotonic() < until and self._thread.is_alive():
            time.sleep(0.05)
        self._is_told = True
        return self.failure

    def publish(self, text: str) -> None:
        """Tell all others that the training has failed, and why; the first one counts."""
        self._is_told = True
        with contextlib.suppress(Exception):  # a store that is gone: the others notice that by themselves
            if not self._store.check([_FAILURE]):
                self._store.set(_FAILURE, text)

    def leave(self) -> None:
        """End, in good order: nobody misses this process from now on."""
        self._ended.set()
        with contextlib.suppress(Exception):
            self._store.set(f"left/{self.rank}", "1")
        self._thread.join(self.timeout)

    def _run(self) -> None:
        heard, heard_at, beats = b"", time.monotonic(), 0
        while not self._ended.wait(self._every):
            beats += 1
            try:
                self._store.set(f"beat/{self.rank}", str(beats))
                if self._store.check([_FAILURE]):
                    return self._fail(self._store.get(_FAILURE).decode())
                beat = self._heard()
            except Exception as error:
                if not self._ended.is_set() and self._is_watched:
                    self._fail(f"the meeting point of the processes is gone, and their host with it ({_line(error)})")
                return None
            if beat != heard:
                heard, heard_at = beat, time.monotonic()
            elif time.monotonic() - heard_at > self.timeout:
                self.publish(f"rank {self._next} has given no sign of life for {self.timeout:g} seconds")
                self._is_told = False
        return None

    def _heard(self) -> bytes:
        """Last beat of the next process; it never falls silent once it has left in good order."""
        if self._store.check([f"left/{self._next}"]):
            return os.urandom(8)
        name = f"beat/{self._next}"
        return bytes(self._store.get(name)) if self._store.check([name]) else b""

    def _fail(self, text: str) -> None:
        """Let the failure be known, and end the process if it cannot be told."""
        self.failure = text
        if self._ended.wait(self.timeout):
            return
        if self._is_watched and not self._is_told:
            _LOGGER.critical("rank %d ends, since it does not come back from waiting: %s", self.rank, text)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(EXIT_CODE)


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
