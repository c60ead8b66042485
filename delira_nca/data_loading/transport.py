"""How a batch comes from a worker process: through memory that both see, with no name that could be left behind.

A worker owns a few segments of memory, one for each batch that it may have on the way, and uses them again and again.
Only a small message goes through the pipe, so that nobody waits for room in it. A segment is known by an open file
alone: when the last process that has it open ends, in whichever way, the memory is free.
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

# From this size on a batch goes through shared memory; below it, pickling it through the pipe is as fast.
_SHARED_FROM_BYTES = 1 << 14
_ALIGNMENT = 64
_HAS_SEGMENTS = sys.platform != "win32"  # elsewhere an open file can be sent through a pipe


class Parcel(NamedTuple):
    """A batch on its way: what fits is in it, the rest lies in a segment.

    ``entries`` maps a name to the array, or to (type, shape, offset) in the segment. Where ``size`` is not 0, the
    segment is a new one of so many bytes, and its file follows on the connection.
    """

    entries: dict[str, Any]
    size: int = 0


class Outbox:
    """The end of the worker: puts batches into segments.

    Parameters
    ----------
    num_slots : int
        Batches that may be on the way at the same time.
    """

    def __init__(self, num_slots: int) -> None:
        self._segments: list[mmap.mmap | None] = [None] * num_slots

    def pack(self, slot: int, batch: Batch) -> tuple[Parcel, int | None]:
        """Parcel of a batch of C-contiguous arrays, and the open file of a new segment, to be sent and closed.

        The former batch of the slot must have been received.
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
        """Drop the segment of a slot, which the receiver did not get to know."""
        self._segments[slot] = None


class Inbox:
    """The end of the receiver: copies batches out of segments, so that they belong to the caller.

    Parameters
    ----------
    num_slots : int
        As in the worker's `Outbox`.
    """

    def __init__(self, num_slots: int) -> None:
        self._segments: list[mmap.mmap | None] = [None] * num_slots

    def accept(self, connection: Connection, slot: int, parcel: Parcel) -> None:
        """Take over the new segment that comes with a parcel, if one does."""
        if not parcel.size:
            return
        file = reduction.recv_handle(connection)
        try:
            self._segments[slot] = mmap.mmap(file, parcel.size)
        finally:
            os.close(file)

    def unpack(self, slot: int, parcel: Parcel) -> Batch:
        """Batch of a parcel; the slot is free afterwards."""
        batch: Batch = {}
        for key, entry in parcel.entries.items():
            if isinstance(entry, tuple):
                dtype, shape, offset = entry
                batch[key] = np.ndarray(shape, dtype, self._segments[slot], offset).copy()
            else:
                batch[key] = entry
        return batch


def _layout(batch: Batch) -> tuple[dict[str, int], int]:
    """Where each array begins in a segment, and the size of all; arrays of objects have no place there."""
    offsets, total = {}, 0
    for key, array in batch.items():
        if _HAS_SEGMENTS and array.nbytes and type(array) is np.ndarray and not array.dtype.hasobject:
            offsets[key] = total
            total += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    return offsets, total


def _anonymous_file(size: int) -> int:
    """Open file in memory that no folder lists; where the system has none, one that was deleted at once."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("delira_nca")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size)
    return file
