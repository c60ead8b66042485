"""Runs the trials of a case, and looks whether anything went wrong or is left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.faults.case import FOLDER, TRIAL, Case

__all__ = ["HARD_LIMIT", "Outcome", "run_trial", "session"]

ROOT = Path(__file__).parents[2]
SHARED = Path("/dev/shm")
HARD_LIMIT = 30.0  # seconds for a trial, then it hangs; more for one that may be slow
GONE_LIMIT = 5.0  # seconds until nothing is left of a trial whose first process has ended


class Outcome(NamedTuple):
    """How a trial went: seconds from the fault to its end, and what was wrong, if anything."""

    seconds: float
    wrong: list[str]
    output: str


def run_trial(module: str, number: int, case: Case, trial: int) -> Outcome:
    """Start a process for a case, do to it what is to be done, and look at what it did and left.

    Parameters
    ----------
    module, number : where the case stands, so that the process finds it.
    trial : number of the trial, and seed of the moment when a signal is sent.
    """
    before = _segments()
    hard_limit = HARD_LIMIT * max(1.0, case.limit / 20.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.faults.trial", module, str(number)],
                cwd=ROOT,
                env={**os.environ, FOLDER: name, TRIAL: str(trial), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        start = time.monotonic()
        wrong: list[str] = []
        try:
            sent = _send(process, case, folder, trial, start + hard_limit)
            code = process.wait(max(0.1, start + hard_limit - time.monotonic()))
            gone = _wait(lambda: not session(process.pid), GONE_LIMIT)
            if gone is None:
                wrong.append(f"processes left: {session(process.pid)}")
            wrong += _judge(case, code, folder, sent, gone or time.monotonic())
            if _wait(lambda: not _left(before), GONE_LIMIT) is None:
                wrong.append(f"shared memory left: {sorted(_left(before))}")
            seconds = _seconds(folder, sent, gone or time.monotonic())
        except subprocess.TimeoutExpired:
            wrong.append(f"still running after {hard_limit:g} s")
            seconds = hard_limit
        finally:
            _kill(process)
        return Outcome(seconds, wrong, (folder / "output").read_text(errors="replace") if wrong else "")


def _send(process: subprocess.Popen[bytes], case: Case, folder: Path, trial: int, end: float) -> float | None:
    """Send the signal of a case, at some moment after the process is ready; the time of it."""
    if case.signal is None:
        return None
    while not (folder / "ready.json").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(random.Random(trial).uniform(0.0, 0.3))
    sent = time.monotonic()
    if process.poll() is None:
        (os.killpg if case.to_group else os.kill)(process.pid, case.signal)
    return sent


def _judge(case: Case, code: int, folder: Path, sent: float | None, gone: float) -> list[str]:
    wrong = []
    if code != case.exit_code:
        wrong.append(f"exit code {code}, not {case.exit_code}")
    error = _read(folder, "error")
    if case.error is None and error is not None:
        wrong.append(f"raised {error['classes'][0]}: {error['text']}")
    elif case.error is not None and error is None:
        wrong.append(f"no {case.error} was raised")
    elif error is not None:
        if case.error not in error["classes"]:
            wrong.append(f"raised {error['classes'][0]}, not {case.error}")
        wrong += [f"{text!r} is not in {error['text']!r}" for text in case.texts if text not in error["text"]]
    seconds = _seconds(folder, sent, gone)
    if not case.least <= seconds <= case.limit:
        wrong.append(f"took {seconds:.2f} s, not {case.least:g} to {case.limit:g}")
    return wrong


def _seconds(folder: Path, sent: float | None, gone: float) -> float:
    """From the fault, or the signal, to the error, or else to the end of all processes."""
    fault, error = _read(folder, "fault"), _read(folder, "error")
    begin = sent if sent is not None else (fault or {"time": gone})["time"]
    return float((error["time"] if error is not None and sent is None else gone) - begin)


def _read(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _wait(is_done: Callable[[], bool], seconds: float) -> float | None:
    """Time when a condition came true, or ``None``."""
    end = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > end:
            return None
        time.sleep(0.02)
    return time.monotonic()


def session(leader: int) -> list[int]:
    """Processes of a session that live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def _segments() -> set[str]:
    return {entry.name for entry in SHARED.iterdir()} if SHARED.exists() else set()


def _left(before: set[str]) -> set[str]:
    """New segments that no process has in use; others may work on this machine at the same time."""
    new = _segments() - before
    if not new:
        return new
    used = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            used += maps.read_text()
        except OSError:
            continue
    return {name for name in new if f"{SHARED}/{name}" not in used}


def _kill(process: subprocess.Popen[bytes]) -> None:
    for pid in {*session(process.pid), *([process.pid] if process.poll() is None else [])}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
