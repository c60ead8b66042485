"""Transfer of arrays from worker processes through anonymous shared memory.

Each worker owns one reusable segment of memory for each result that may be in transfer. Only a small message is sent
through the pipe. A segment is an open file without a name, so its memory is freed when the last process that has it
open ends in any way, and the size of ``/dev/shm`` does not limit it.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Arrays", "Entry", "SlotWriter", "map_segment", "read_arrays", "shared_bytes"]

Arrays = list[npt.NDArray[Any]]
Spec = tuple["np.dtype[Any]", tuple[int, ...]]
Entry = npt.NDArray[Any] | tuple[np.dtype[Any], tuple[int, ...], int]
"""Array of a message: the array itself, or its dtype, shape and offset in the segment."""

# Results of at least this size use shared memory; for smaller ones, pickling through the pipe is as fast.
_SHARED_FROM_BYTES = 1 << 14
_ALIGNMENT = 64
_HAS_SEGMENTS = sys.platform != "win32"  # Windows cannot send an open file through a pipe


def shared_bytes(specs: Iterable[Spec]) -> int:
    """Return the number of bytes of shared memory for arrays with these dtypes and shapes.

    Examples
    --------
    >>> shared_bytes([(np.dtype("f4"), (3,)), (np.dtype("i2"), ())])
    128
    """
    return _layout(specs)[1]


class SlotWriter:
    """Memory for one result at a time, seen from the worker that writes it."""

    def __init__(self) -> None:
        self._segment: mmap.mmap | None = None
        self._new: tuple[int, int] | None = None

    def allocate(self, specs: Sequence[Spec]) -> Arrays:
        """Return arrays with these dtypes and shapes, which `write` then sends without a copy if they are large."""
        offsets, total = _layout(specs)
        if total < _SHARED_FROM_BYTES:
            return [np.zeros(shape, dtype) for dtype, shape in specs]
        segment = self._require(total)
        return [
            np.zeros(shape, dtype) if offset is None else np.ndarray(shape, dtype, segment, offset)
            for (dtype, shape), offset in zip(specs, offsets, strict=True)
        ]

    def write(self, arrays: Iterable[npt.NDArray[Any]]) -> list[Entry]:
        """Write arrays into the memory, and return the entries of the message."""
        arrays = [array if array.flags.c_contiguous else array.copy(order="C") for array in arrays]
        specs = [(array.dtype, array.shape if type(array) is np.ndarray else None) for array in arrays]
        offsets, total = _layout(specs)
        if total < _SHARED_FROM_BYTES:
            return list(arrays)
        segment = self._require(total)
        entries: list[Entry] = []
        for array, offset in zip(arrays, offsets, strict=True):
            if offset is None:
                entries.append(array)
                continue
            target: npt.NDArray[Any] = np.ndarray(array.shape, array.dtype, segment, offset)
            if target.__array_interface__["data"] != array.__array_interface__["data"]:  # not allocated in this memory
                np.copyto(target, array, casting="no")
            entries.append((array.dtype, array.shape, offset))
        return entries

    def take_new(self) -> tuple[int | None, int]:
        """Return the open file and the size of a new segment, which the receiver has to map; None and 0 if unchanged.

        The caller closes the file.
        """
        new, self._new = self._new, None
        return new or (None, 0)

    def _require(self, total: int) -> mmap.mmap:
        if self._segment is None or len(self._segment) < total:
            size = -(-total // mmap.PAGESIZE) * mmap.PAGESIZE
            if self._new is not None:
                os.close(self._new[0])
            file = _anonymous_file(size)
            self._new, self._segment = (file, size), mmap.mmap(file, size)
        return self._segment


def map_segment(file: int, size: int) -> mmap.mmap:
    """Map a segment in the receiver, and close its file."""
    try:
        return mmap.mmap(file, size)
    finally:
        os.close(file)


def read_arrays(entries: Iterable[Entry], segment: mmap.mmap | None, *, copy: bool = True) -> Arrays:
    """Return the arrays of a message; with ``copy=False``, views of the segment where they are in it."""
    arrays: Arrays = []
    for entry in entries:
        if isinstance(entry, tuple):
            dtype, shape, offset = entry
            view: npt.NDArray[Any] = np.ndarray(shape, dtype, segment, offset)
            arrays.append(view.copy() if copy else view)
        else:
            arrays.append(entry if entry.flags.writeable else entry.copy())
    return arrays


def _layout(specs: Iterable[tuple[np.dtype[Any], tuple[int, ...] | None]]) -> tuple[list[int | None], int]:
    """Return the offset of each array in a segment, and the total size; None for arrays that cannot be in it."""
    offsets: list[int | None] = []
    total = 0
    for dtype, shape in specs:
        size = 0 if shape is None else dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if not _HAS_SEGMENTS or size == 0 or dtype.hasobject:
            offsets.append(None)
            continue
        offsets.append(total)
        total += -(-size // _ALIGNMENT) * _ALIGNMENT
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
