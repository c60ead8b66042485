"""Transfer of batches from worker processes through anonymous shared memory.

A worker owns one reusable segment of memory for each batch that may be in transfer. Only a small message is sent
through the pipe, so sending does not block. A segment is an open file without a name, so its memory is freed when the
last process that has it open ends in any way.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from delira_nca.data_loading.dataset import Batch

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Inbox", "Outbox", "Parcel"]

# Batches of at least this size use shared memory; for smaller ones, pickling through the pipe is as fast.
_SHARED_FROM_BYTES = 1 << 14
_ALIGNMENT = 64
_HAS_SEGMENTS = sys.platform != "win32"  # Windows cannot send an open file through a pipe


class Parcel(NamedTuple):
    """Message with a batch: small entries are included, the others are in a segment.

    ``entries`` maps a name to the array, or to (dtype, shape, offset) in the segment. If ``size`` is not 0, the segment
    is a new one of this number of bytes, and its file follows on the connection.
    """

    entries: dict[str, Any]
    size: int = 0


class Outbox:
    """Sender of a worker, which writes batches into segments.

    Parameters
    ----------
    num_slots : int
        Maximum number of batches in transfer.
    """

    def __init__(self, num_slots: int) -> None:
        self._segments: list[mmap.mmap | None] = [None] * num_slots

    def pack(self, slot: int, batch: Batch) -> tuple[Parcel, int | None]:
        """Return the message with a batch of C-contiguous arrays, and the open file of a new segment to send and close.

        The previous batch of the slot must have been received.
        """
        offsets, total = _layout(batch)
        if total < _SHARED_FROM_BYTES:
            return Parcel(dict(batch)), None
        file, segment = None, self._segments[slot]
        if segment is None or len(segment) < total:
            size = -(-total // mmap.PAGESIZE) * mmap.PAGESIZE
            file = _anonymous_file(size)
            segment = self._segments[slot] = mmap.mmap(file, size)
        entries: dict[str, Any] = {}
        for key, array in batch.items():
            if key not in offsets:
                entries[key] = array
                continue
            np.copyto(np.ndarray(array.shape, array.dtype, segment, offsets[key]), array, casting="no")
            entries[key] = (array.dtype, array.shape, offsets[key])
        return Parcel(entries, 0 if file is None else len(segment)), file

    def forget(self, slot: int) -> None:
        """Drop the segment of a slot that was not sent to the receiver."""
        self._segments[slot] = None


class Inbox:
    """Receiver, which copies batches from segments.

    Parameters
    ----------
    num_slots : int
        That of the worker's `Outbox`.
    """

    def __init__(self, num_slots: int) -> None:
        self._segments: list[mmap.mmap | None] = [None] * num_slots

    def accept(self, connection: Connection, slot: int, parcel: Parcel) -> None:
        """Receive the new segment of a message, if there is one."""
        if not parcel.size:
            return
        file = reduction.recv_handle(connection)
        try:
            self._segments[slot] = mmap.mmap(file, parcel.size)
        finally:
            os.close(file)

    def unpack(self, slot: int, parcel: Parcel) -> Batch:
        """Return the batch of a message. The slot is free afterwards."""
        batch: Batch = {}
        for key, entry in parcel.entries.items():
            if isinstance(entry, tuple):
                dtype, shape, offset = entry
                batch[key] = np.ndarray(shape, dtype, self._segments[slot], offset).copy()
            else:
                batch[key] = entry
        return batch


def _layout(batch: Batch) -> tuple[dict[str, int], int]:
    """Return the offset of each array in a segment, and the total size. Object arrays are not included."""
    offsets, total = {}, 0
    for key, array in batch.items():
        if _HAS_SEGMENTS and array.nbytes and type(array) is np.ndarray and not array.dtype.hasobject:
            offsets[key] = total
            total += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    return offsets, total


def _anonymous_file(size: int) -> int:
    """Open an anonymous file in memory; if the system does not support it, a deleted temporary file."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("delira_nca")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size)
    return file
