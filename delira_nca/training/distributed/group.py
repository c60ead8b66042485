"""Collective communication of tensors and objects, with detection of lost ranks."""

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
"""Interval at which a waiting call checks that all other ranks are alive."""
_REASON_SECONDS = 2.0


class Group:
    """Collective calls, which all ranks must make in the same order.

    Calls wait for slow ranks without a limit, and raise an error if a rank is lost.

    Parameters
    ----------
    rank, size : int
        Rank of this process, and number of ranks.
    local_rank, local_size : int
        Rank and number of ranks on this machine.
    life : Liveness
        Monitor of the other ranks.

    Raises
    ------
    DistributedError
        From every call, if another rank is lost or has failed.
    """

    def __init__(self, rank: int, size: int, local_rank: int, local_size: int, life: Liveness) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size
        self.life = life
        self.unfinished: Any = None

    def all_reduce(self, tensor: Tensor, op: Any = None) -> Tensor:
        """Reduce a tensor over all ranks in place, by default to the sum."""
        self._finish(dist.all_reduce, tensor, op=dist.ReduceOp.SUM if op is None else op)
        return tensor

    def broadcast_tensor(self, tensor: Tensor, source: int = 0) -> Tensor:
        """Broadcast a tensor from one rank, in place."""
        dense = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.contiguous()
        self._finish(dist.broadcast, dense, src=source)
        return tensor if dense is tensor else tensor.copy_(dense)

    def _lengths(self, rows: Tensor) -> list[int]:
        """Number of rows in each rank."""
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = len(rows)
        lengths: list[int] = self.all_reduce(counts).tolist()
        return lengths

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Gather rows (n, ...) of all ranks, in their order, in all ranks; ``n`` may differ."""
        lengths = self._lengths(rows)
        if (longest := max(lengths)) == 0:
            return rows
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in lengths]
        self._finish(dist.all_gather, parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def exchange(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        """Send rows to and receive rows from each rank; return the received rows in the order of ranks.

        Parameters
        ----------
        rows : Tensor
            Rows (sum of ``sent``, ...) on the CPU, those for rank 0 first.
        sent, received : sequence of int
            Number of rows sent to, and received from, each rank.
        """
        out = rows.new_empty(sum(received), *rows.shape[1:])
        self._finish(dist.all_to_all_single, out, rows.contiguous(), list(received), list(sent))
        return out

    def gather_on_main(self, rows: Tensor) -> Tensor:
        """Gather rows (n, ...) of all ranks, in their order, in rank 0; other ranks return their own rows."""
        lengths = self._lengths(rows)
        received = lengths if self.rank == 0 else [0] * self.size
        gathered = self.exchange(rows, [len(rows), *[0] * (self.size - 1)], received)
        return gathered if self.rank == 0 else rows

    def gather(self, value: Any) -> list[Any]:
        """Gather the objects of all ranks, in their order, in all ranks."""
        data = _to_bytes(value)
        lengths, everything = self._lengths(data), self.gather_rows(data)
        return [_from_bytes(part) for part in torch.split(everything, lengths)]

    def broadcast(self, value: Any, source: int = 0) -> Any:
        """Broadcast an object from one rank."""
        data = _to_bytes(value) if self.rank == source else torch.empty(0, dtype=torch.uint8)
        length = self.broadcast_tensor(torch.tensor([len(data)]), source)
        if self.rank != source:
            data = torch.empty(int(length), dtype=torch.uint8)
        return _from_bytes(self.broadcast_tensor(data, source))

    def _finish(self, call: Any, *args: Any, **kwargs: Any) -> None:
        """Start a collective call of torch and wait for it while all ranks are alive."""
        self.life.check()
        try:
            work = call(*args, **kwargs, async_op=True)
            if any(isinstance(arg, Tensor) and arg.is_cuda for arg in args):
                work.wait()  # with NCCL, only the stream waits
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
    """Short text of an error of a collective call of torch."""
    text = re.sub(r"^\[[^]]*\] ", "", str(error).partition("\n")[0])
    return f"a connection has failed ({text.partition('. ')[0]})"


def _to_bytes(value: Any) -> Tensor:
    buffer = io.BytesIO()
    pickle.dump(value, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _from_bytes(data: Tensor) -> Any:
    return pickle.loads(data.numpy().tobytes())


_FAILURE = "failure"
EXIT_CODE = 1
"""Exit code of a process that is blocked in a call although another rank is lost."""


class Liveness:
    """Thread that publishes heartbeats of this rank and monitors those of the next rank.

    Heartbeats continue while a process computes or writes a file, so that a slow rank is not considered lost. Each rank
    monitors only one other, so that the cost does not grow with their number. A lost rank is reported in the store,
    which all ranks read.

    Parameters
    ----------
    store : object
        Store of torch's rendezvous with ``set``, ``get`` and ``check``, on a separate connection for the thread.
    rank, size : int
        Rank of this process, and number of ranks.
    timeout : float
        Seconds without a heartbeat after which a rank is considered lost, and after which this process exits if it
        is still blocked in a call to a lost rank.

    Attributes
    ----------
    failure : str, optional
        Description of the failure, or None.
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
        """Set whether this process is in a training, in which the loss of another rank is an error."""
        self._is_watched, self._is_told = watched, False

    def check(self) -> None:
        """Raise an error if a failure is known.

        Raises
        ------
        DistributedError
            If another rank is lost or has failed.
        """
        if self.failure is not None:
            self._is_told = True
            raise self.error(self.failure)

    def error(self, reason: str) -> DistributedError:
        """Error of this rank caused by the failure of another one."""
        return DistributedError(
            f"rank {self.rank} has lost another process of this training: {reason}. "
            "Resume from the last checkpoint with resume='auto'"
        )

    def wait_for_reason(self, seconds: float) -> str | None:
        """Wait until a failure is known, and return its description, or None after some time."""
        until = time.monotonic() + seconds
        while self.failure is None and time.monotonic() < until and self._thread.is_alive():
            time.sleep(0.05)
        self._is_told = True
        return self.failure

    def publish(self, text: str) -> None:
        """Report to all ranks that the training has failed, and why. Only the first report is kept."""
        self._is_told = True
        with contextlib.suppress(Exception):  # if the store is lost, the others notice it themselves
            if not self._store.check([_FAILURE]):
                self._store.set(_FAILURE, text)

    def leave(self) -> None:
        """Stop the thread and sign off, so that this rank is not considered lost."""
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
        """Last heartbeat of the next rank; a random one if that rank has signed off."""
        if self._store.check([f"left/{self._next}"]):
            return os.urandom(8)
        name = f"beat/{self._next}"
        return bytes(self._store.get(name)) if self._store.check([name]) else b""

    def _fail(self, text: str) -> None:
        """Store the failure, and exit if the process is blocked in a call for longer than the timeout."""
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
