"""Tell where a training hangs. Free of torch."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError, require_choice
from delira_nca.io.paths import absolute
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.callbacks.stopping import Duration, in_words, to_seconds
from delira_nca.training.distributed.context import context_of

__all__ = ["EXIT_CODE", "Watchdog", "stacks"]

_LOGGER = logging.getLogger("delira_nca")
EXIT_CODE = 124
"""Of a process that a watchdog ended; also that of ``timeout``."""


def stacks(*without: int) -> str:
    """Text with the stack of every thread of this process, but those of some identifiers.

    Examples
    --------
    >>> "MainThread" in stacks()
    True
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    frames = {ident: frame for ident, frame in sys._current_frames().items() if ident not in without}
    for ident, frame in frames.items():
        parts.append(f"Thread {names.get(ident, 'without a name')} ({ident}):\n")
        parts.extend(traceback.format_stack(frame))
        parts.append("\n")
    return "".join(parts)


class Watchdog(AbstractCallback):
    """Write down where every thread stands when nothing has ended for too long.

    Iterations, of training and of validation, and the beginnings and ends of epochs are signs of life. Without one for
    so many seconds, the stacks of all threads go to stderr and to ``watchdog.txt``, once for each hang.

    Parameters
    ----------
    seconds : float or str
        How long to wait, also as ``"5m"``; longer than the slowest iteration and than saving a file.
    action : str
        ``"dump"`` writes the stacks and goes on waiting; ``"exit"`` then ends the process at once with exit code
        124: no ``finally``, no checkpoint, no ``at_training_end``. A scheduler that starts it anew resumes.
    folder : str or path, optional
        Of the file, which is appended to; the trainer's ``save_path`` by default, and no file without either.

    Attributes
    ----------
    num_hangs : int
        How often it has written.

    Raises
    ------
    ConfigError, UnknownNameError
        For a time that is not greater than 0, or an unknown action.

    Notes
    -----
    It is a thread, from the beginning to the end of a training, so that each of several trainers in a process can have
    its own; each writes the stacks of all threads. It sees nothing while compiled code keeps Python's global lock, and
    nothing of other processes: a hang in a worker shows as the main thread waiting for it.
    """

    def __init__(
        self, seconds: Duration = 300.0, *, action: str = "dump", folder: str | os.PathLike[str] | None = None
    ) -> None:
        self.seconds = to_seconds(seconds)
        if not self.seconds:
            raise ConfigError("a watchdog waits for more than 0 seconds")
        require_choice("action", action, ("dump", "exit"))
        self.action, self.folder = action, None if folder is None else absolute(folder)
        self.num_hangs = 0
        self._alive_at = 0.0
        self._thread: threading.Thread | None = None
        self._ended: threading.Event | None = None

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Begin to watch."""
        self._stop()
        folder = getattr(trainer, "save_path", None) if self.folder is None else self.folder
        path = None if folder is None or not context_of(trainer).is_main else Path(folder) / "watchdog.txt"
        self._alive_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(self._ended, path), name="watchdog", daemon=True)
        self._thread.start()

    def at_epoch_begin(self, trainer: Trainer, **event: Any) -> None:
        """Take a sign of life."""
        self._alive_at = time.monotonic()

    def at_iter_end(self, trainer: Trainer, **event: Any) -> None:
        """Take a sign of life."""
        self._alive_at = time.monotonic()

    def at_epoch_end(self, trainer: Trainer, **event: Any) -> None:
        """Take a sign of life."""
        self._alive_at = time.monotonic()

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Watch no longer."""
        self._stop()

    def _stop(self) -> None:
        if self._thread is not None and self._ended is not None:
            self._ended.set()
            self._thread.join()
        self._thread = self._ended = None

    def _watch(self, ended: threading.Event, path: Path | None) -> None:
        told_of = -1.0
        while True:
            alive_at = self._alive_at
            left = self.seconds if alive_at == told_of else alive_at + self.seconds - time.monotonic()
            if left > 0:
                if ended.wait(left):
                    return
            else:
                told_of = alive_at
                self._tell(path)
                self.num_hangs += 1

    def _tell(self, path: Path | None) -> None:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        text = f"{now}: nothing has ended for {in_words(self.seconds)}; every thread stands here:\n\n"
        text += stacks(threading.get_ident())
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text)
            except OSError:  # a full disk: the watch goes on
                _LOGGER.exception("the watchdog could not write all that it saw")
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream that is missing or closed
            encoding = getattr(sys.stderr, "encoding", None) or "ascii"
            sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))
            sys.stderr.flush()
        if self.action == "exit":
            os._exit(EXIT_CODE)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_thread": None, "_ended": None}
