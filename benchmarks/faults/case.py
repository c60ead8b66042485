"""What a fault is, and what must come of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "FOLDER",
    "TRIAL",
    "Case",
    "WrongError",
    "folder",
    "happens_now",
    "is_ready",
    "note",
    "require",
    "trial_number",
]

FOLDER = "DELIRA_NCA_FAULT_FOLDER"
"""Environment variable: where a trial, and every process that it starts, writes what happened and when."""
TRIAL = "DELIRA_NCA_FAULT_TRIAL"
"""Environment variable: number of the trial within its case, from 0."""


class WrongError(AssertionError):
    """Something is not as it should be after a fault."""


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
    of_20 : how many trials this case has where 20 are asked for; at least one, however few are.
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
    of_20: int = 20

    def num_trials(self, asked: int) -> int:
        """Trials of this case where so many are asked for."""
        return max(1, -(-asked * self.of_20 // 20))


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


def trial_number() -> int:
    """Of this process."""
    return int(os.environ[TRIAL])


def folder(name: str) -> Path:
    """A new folder of this trial, which is removed after it."""
    path = Path(os.environ[FOLDER]) / name
    path.mkdir()
    return path


def require(condition: object, what: str) -> None:
    """Let the trial fail unless something is so."""
    if not condition:
        raise WrongError(what)
