"""Trainings that are stopped, or that are two in one folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.case import Case, WrongError, folder, happens_now, require, trial_number

__all__ = ["CASES"]


def stop_and_go_on(workers: int, backend: str, *, is_new: bool) -> None:
    """Stop after an iteration, which is another one in each trial, and go on, here or in a new process."""
    from benchmarks.faults import training_run as runs

    number = 1 + (trial_number() + 3) % (runs.NUM_EPOCHS * runs.ITERATIONS)
    straight, broken = folder("straight"), folder("broken")
    options = {"workers": workers, "backend": backend}
    runs.train(straight, **options)
    if is_new:
        begin(broken, stop=number, **options)
        happens_now()
        begin(broken, resume="auto", **options)
    else:
        stopped = runs.train(broken, callbacks=[runs.stop_after(number)], **options)
        happens_now()
        require(stopped.global_iter_num == number, f"{stopped.global_iter_num} iterations are done, not {number}")
        runs.train(broken, resume="auto", **options)
    runs.require_same(broken, straight)
    runs.require_clean(broken)


def begin(path: Path, **options: Any) -> None:
    """Train in a new interpreter, to its end."""
    given = [f"{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "benchmarks.faults.training_run", str(path), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"a training failed: {done.stderr[-2000:]}")


# Two in one folder ----------------------------------------------------------------------------------------------------


def hold(path: Path, ready: int) -> None:
    """Train without end, and say when a step is done."""
    from benchmarks.faults import training_run as runs
    from delira_nca.training.callbacks import LambdaCallback

    def tell(trainer: Any) -> None:
        os.write(ready, b"!")
        time.sleep(0.05)

    runs.train(path, 10_000, callbacks=[LambdaCallback(at_iter_done=tell)])


def begin_while_another_trains() -> None:
    """A second training is refused; when the first is killed, the next one takes the folder over."""
    from benchmarks.faults import training_run as runs
    from delira_nca.errors import RunLockedError

    path = folder("run")
    runs.train(folder("first"), 1)  # what is slow only once is done here
    reading, writing = os.pipe()
    first = runs.forked(hold, path, writing)
    try:
        os.read(reading, 1)
        happens_now()
        try:
            runs.train(path, resume="auto")
        except RunLockedError as error:
            for text in (f"process {first} ", socket.gethostname()):
                require(text in str(error), f"{text!r} is not in {str(error)!r}")
        else:
            raise WrongError("the second training was not refused")
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    runs.train(path, resume="auto")
    runs.require_clean(path)


def begin_both_at_once() -> None:
    """Of two trainings that begin in the same moment one is refused, and the other runs to its end."""
    from benchmarks.faults import training_run as runs
    from delira_nca.errors import RunLockedError

    straight, path = folder("straight"), folder("run")
    runs.train(straight)
    start = time.monotonic() + 0.1

    def compete() -> None:
        while time.monotonic() < start:
            pass
        try:
            runs.train(path, transform=slowly)
        except RunLockedError:
            os._exit(2)

    pids = [runs.forked(compete), runs.forked(compete)]
    happens_now()
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
    require(codes == [0, 2], f"exit codes {codes}, not one that is refused")
    runs.require_same(path, straight)
    runs.require_clean(path)


def slowly(batch: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.05)
    return batch


def _cases() -> Iterator[Case]:
    for backend in ("native", "reference"):
        for workers in (0, 2):
            for is_new, where in ((False, "same process"), (True, "new process")):
                body = partial(stop_and_go_on, workers, backend, is_new=is_new)
                setting = f"{workers} workers, {backend}, {where}"
                yield Case("stop after an iteration, go on: exact", setting, body, of_20=9, limit=40.0)
    body = begin_while_another_trains
    yield Case("a second process trains in the folder: refused", "one after the other", body, limit=20.0)
    yield Case("a second process trains in the folder: refused", "both at once", begin_both_at_once, limit=20.0)


CASES = list(_cases())
