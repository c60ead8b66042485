"""Processes that exchange tensors and objects, and notice when one of them is lost."""

from __future__ import annotations

import io
import logging
import pickle
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from delira_nca.errors import DistributedError
from delira_nca.training.distributed.liveness import Liveness

__all__ = ["Group"]

_LOGGER = logging.getLogger("delira_nca")
_GLANCE = timedelta(seconds=0.5)
"""How long to wait before looking whether all the others are still there."""
_REASON_SECONDS = 2.0


class Group:
    """Collective calls: every process makes the same ones in the same order.

    They wait for a process that is slow as long as it takes, and for one that is lost not at all.

    Parameters
    ----------
    rank, size : number of this process, and of all.
    local_rank, local_size : the same on this machine.
    life : see :class:`~delira_nca.training.distributed.liveness.Liveness`.

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
        rows : (sum of ``sent``, ...) on the CPU, those for rank 0 first.
        sent, received : so many go to, and come from, each process.
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
