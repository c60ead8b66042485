"""Slots for results in shared memory."""

from __future__ import annotations

import contextlib
import os
import sys
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from delira_nca.data_loading.background.layout import Arrays, Layout
from delira_nca.errors import ConfigError

__all__ = ["Slots"]

_FOLDER = "/dev/shm"  # file system of shared memory on Linux


class Slots:
    """Slots of shared memory, each for one result.

    The object is pickled as the name of a segment of shared memory, to which the other process attaches. `unlink`
    removes the name when all processes are attached; the memory is then freed when they end, in any way.

    Parameters
    ----------
    layout : Layout
        Layout of a result.
    count : int
        Number of slots.

    Raises
    ------
    ConfigError
        If the system has too little shared memory.
    """

    def __init__(self, layout: Layout, count: int, *, name: str | None = None) -> None:
        size = layout.num_bytes * count
        if name is None:
            _require_room(size, layout.num_bytes, count)
        self.layout, self.count = layout, count
        self._has_name = name is None  # the creator removes the name
        self._segment = _create(size) if name is None else _attach(name)
        # np.frombuffer, unlike the constructor of np.ndarray, holds a reference that prevents freeing the memory
        buffer: Any = self._segment.buf
        memory = np.frombuffer(buffer, np.uint8)
        self._arrays = [layout.place(memory, layout.num_bytes * i) for i in range(count)]

    def __getitem__(self, slot: int) -> Arrays:
        """Return the arrays of a slot."""
        return self._arrays[slot]

    def __reduce__(self) -> Any:
        return _attached, (self.layout, self.count, self._segment.name)

    def unlink(self) -> None:
        """Remove the name, so that no other process can attach."""
        if self._has_name:
            self._has_name = False
            with contextlib.suppress(FileNotFoundError):  # another program has deleted the file
                self._segment.unlink()

    def close(self) -> None:
        """Free the memory. Parts that the caller views are freed with the last view."""
        self.unlink()
        self._arrays.clear()
        _LENT.append(self._segment)
        _LENT[:] = [segment for segment in _LENT if not segment.try_close()]


class _Segment(SharedMemory):
    """Segment that can be closed while arrays view it; they keep its memory alive."""

    def try_close(self) -> bool:
        try:
            super().close()
        except BufferError:
            return False
        return True

    def close(self) -> None:
        self.try_close()


_LENT: list[_Segment] = []  # segments that could not be closed yet; closing another one retries them


def _create(size: int) -> _Segment:
    return _Segment(create=True, size=size)


def _attach(name: str) -> _Segment:
    if sys.version_info >= (3, 13):
        return _Segment(name=name, track=False)
    return _Segment(name=name)


def _attached(layout: Layout, count: int, name: str) -> Slots:
    return Slots(layout, count, name=name)


def _require_room(size: int, each: int, count: int) -> None:
    if not os.path.isdir(_FOLDER):
        return
    state = os.statvfs(_FOLDER)
    free = state.f_bavail * state.f_frsize
    if size > free:
        raise ConfigError(
            f"{count} results of {each / 2**20:.1f} MiB need {size / 2**20:.1f} MiB of shared memory, but {_FOLDER} "
            f"has {free / 2**20:.1f} MiB left; use a smaller read_ahead, fewer processes, or enlarge it "
            "(docker run --shm-size)"
        )
