"""Trainings in TensorFlow that are ended by a signal, and finished in a new process."""

from __future__ import annotations

import importlib.util
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.faults.case import Case, folder, happens_now, require, trial_number

__all__ = ["CASES"]

NUM_EPOCHS = 3
CODES = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143}


def end_and_resume(name: str) -> None:
    """End a training after some step, resume it, and compare it with one that was not ended."""
    from benchmarks.faults import training_run as runs

    straight, ended = folder("straight"), folder("ended")
    begin(straight)
    moment = random.Random(trial_number()).randrange(1, 3 * NUM_EPOCHS)
    command = _command(ended, "pause")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout or ():
            if line.strip() == f"step {moment}":
                happens_now()
                process.send_signal(getattr(signal, name))
                break
        process.communicate()
    require(process.returncode == CODES[name], f"exit code {process.returncode}, not {CODES[name]}")
    begin(ended, "resume")
    runs.require_same(ended, straight)
    runs.require_clean(ended)


def _command(path: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.faults.tensorflow_run", str(path), str(NUM_EPOCHS), *options]


def begin(path: Path, *options: str) -> None:
    """Train in a new interpreter, to the end."""
    done = subprocess.run(_command(path, *options), capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"a training failed: {done.stderr[-2000:]}")


def _cases() -> Iterator[Case]:
    if importlib.util.find_spec("tensorflow") is not None:
        for name in CODES:
            body = partial(end_and_resume, name)
            yield Case(f"{name} to a training in TensorFlow: exact", "new process", body, of_20=5, limit=150.0)


CASES = list(_cases())
