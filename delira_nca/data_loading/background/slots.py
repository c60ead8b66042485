"""Places for results in memory that all processes see."""

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

_FOLDER = "/dev/shm"  # where Linux counts shared memory


class Slots:
    """A number of places, each for one result.

    Pickled, it is the name of a segment of shared memory, to which the other process attaches. `unlink` removes the
    name as soon as everybody is attached: from then on the memory lives as long as the processes, however they end.

    Parameters
    ----------
    layout : Layout
        What a result looks like.
    count : int
        Number of places.

    Raises
    ------
    ConfigError
        If the system has not so much shared memory.
    """

    def __init__(self, layout: Layout, count: int, *, name: str | None = None) -> None:
        size = layout.num_bytes * count
        if name is None:
            _require_room(size, layout.num_bytes, count)
        self.layout, self.count = layout, count
        self._has_name = name is None  # the creator removes it
        self._segment = _create(size) if name is None else _attach(name)
        # Unlike an array made by the constructor of np.ndarray, this one keeps the memory from being given back.
        buffer: Any = self._segment.buf
        memory = np.frombuffer(buffer, np.uint8)
        self._arrays = [layout.place(memory, layout.num_bytes * i) for i in range(count)]

    def __getitem__(self, slot: int) -> Arrays:
        """Arrays that lie in a place."""
        return self._arrays[slot]

    def __reduce__(self) -> Any:
        return _attached, (self.layout, self.count, self._segment.name)

    def unlink(self) -> None:
        """Remove the name; nobody else can attach."""
        if self._has_name:
            self._has_name = False
            with contextlib.suppress(FileNotFoundError):  # somebody swept the folder
                self._segment.unlink()

    def close(self) -> None:
        """Give the memory back; what the caller still has a view of, with the last view."""
        self.unlink()
        self._arrays.clear()
        _LENT.append(self._segment)
        _LENT[:] = [segment for segment in _LENT if not segment.try_close()]


class _Segment(SharedMemory):
    """A segment that may be let go while arrays still lie in it: these keep its memory alive."""

    def try_close(self) -> bool:
        try:
            super().close()
        except BufferError:
            return False
        return True

    def close(self) -> None:
        self.try_close()


_LENT: list[_Segment] = []  # segments that could not be closed yet; the next one to be closed tries them again


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
