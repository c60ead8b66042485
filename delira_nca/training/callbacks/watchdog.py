"""Callback that reports where a training hangs. Does not import torch."""

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
"""Exit code of a process ended by a watchdog; the same as that of ``timeout``."""


def stacks(*without: int) -> str:
    """Text with the stack of every thread of this process, except those with the given identifiers.

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
    """Write the stacks of all threads when the training makes no progress.

    Progress means the end of an iteration, in training or validation, and the start or end of an epoch. Without
    progress for ``seconds``, the stacks of all threads are written to stderr and to ``watchdog.txt``, once per hang.

    Parameters
    ----------
    seconds : float or str
        Time without progress, in seconds or as ``"5m"``; longer than the slowest iteration and than saving a file.
    action : str
        ``"dump"`` writes the stacks and keeps waiting; ``"exit"`` then ends the process immediately with exit code 124,
        without ``finally``, checkpoint or ``at_training_end``. A scheduler can restart the process to resume the run.
    folder : str or path, optional
        Folder of the file, to which stacks are appended; the trainer's ``save_path`` by default. Without either, no
        file is written.

    Attributes
    ----------
    num_hangs : int
        Number of hangs reported.

    Notes
    -----
    The watchdog is a thread that runs during a training, so that each of several trainers in a process can have its
    own; each writes the stacks of all threads. It cannot run while compiled code holds Python's global lock, and it
    does not see other processes: a hang of a worker appears as the main thread waiting for it.
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
        """Start the thread."""
        self._stop()
        folder = getattr(trainer, "save_path", None) if self.folder is None else self.folder
        path = None if folder is None or not context_of(trainer).is_main else Path(folder) / "watchdog.txt"
        self._alive_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(self._ended, path), name="watchdog", daemon=True)
        self._thread.start()

    def at_epoch_begin(self, trainer: Trainer, **event: Any) -> None:
        """Record progress."""
        self._alive_at = time.monotonic()

    def at_iter_end(self, trainer: Trainer, **event: Any) -> None:
        """Record progress."""
        self._alive_at = time.monotonic()

    def at_epoch_end(self, trainer: Trainer, **event: Any) -> None:
        """Record progress."""
        self._alive_at = time.monotonic()

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Stop the thread."""
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
            except OSError:  # on a full disk, keep watching
                _LOGGER.exception("the watchdog could not write all that it saw")
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the stream is missing or closed
            encoding = getattr(sys.stderr, "encoding", None) or "ascii"
            sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))
            sys.stderr.flush()
        if self.action == "exit":
            os._exit(EXIT_CODE)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_thread": None, "_ended": None}
