"""Signs of life: a process that is gone, or has failed, is known to all others within seconds. Free of torch."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from typing import Any

from delira_nca.errors import DistributedError

__all__ = ["EXIT_CODE", "Liveness"]

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
    store : of torch's rendezvous, a connection of the thread's own, with ``set``, ``get`` and ``check``.
    rank, size : number of this process, and of all.
    timeout : seconds of silence after which a process counts as lost; and after which this process ends itself if it
        does not come back from waiting for the lost one.

    Attributes
    ----------
    failure : what has happened, None as long as all is well.
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
