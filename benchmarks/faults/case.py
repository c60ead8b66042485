"""What a fault is, and what must come of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDER", "Case", "happens_now", "is_ready", "note"]

FOLDER = "DELIRA_NCA_FAULT_FOLDER"
"""Environment variable: where a trial, and every process that it starts, writes what happened and when."""


@dataclass(frozen=True)
class Case:
    """A fault in one setting.

    Parameters
    ----------
    name : what happens, as the table calls it.
    setting : under which circumstances.
    body : runs in the trial's process. It calls `happens_now` where the fault happens; or `is_ready` where a signal
        may be sent to it.
    error : name of a class that what ends the body must be derived from; ``None`` where nothing is to be raised.
    texts : what the text of this error must contain.
    exit_code : of the process; negative for a signal.
    signal : to send some time after `is_ready`.
    to_group : whether to send it to all processes of the trial, as a terminal does.
    least, limit : seconds from the fault to the error, or else to the end of all processes.
    """

    name: str
    setting: str
    body: Callable[[], None]
    error: str | None = None
    texts: tuple[str, ...] = ()
    exit_code: int = 0
    signal: int | None = None
    to_group: bool = False
    least: float = 0.0
    limit: float = 5.0


def happens_now() -> None:
    """Say that the fault happens now; the first process that says so counts."""
    note("fault", {"time": time.monotonic()}, is_first=True)


def is_ready() -> None:
    """Say that a signal may come."""
    note("ready", {"time": time.monotonic()}, is_first=True)


def note(name: str, content: dict[str, object], *, is_first: bool = False) -> None:
    """Write down what happened; the clock is the same in all processes."""
    path = Path(os.environ[FOLDER]) / f"{name}.json"
    if is_first and path.exists():
        return
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)
