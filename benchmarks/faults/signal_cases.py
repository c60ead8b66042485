"""Trainings that are asked to end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.case import Case, folder, happens_now, require, trial_number
from benchmarks.faults.runner import session
from delira_nca.io import verify_checkpoint

__all__ = ["CASES"]

END_LIMIT, CHILD_LIMIT = 10.0, 2.0  # seconds until the training has ended, and then until its workers are gone


def ask_to_end(name: str, workers: int, *, is_twice: bool = False) -> None:
    """Send a signal at some moment; the last step that was done must be in a file when the process is gone."""
    moments = random.Random(trial_number())
    path = folder("run")
    number = getattr(signal, name)
    command = [sys.executable, "-m", "benchmarks.faults.signal_cases", str(path), str(workers)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        try:
            while _steps(path) < 1 and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.5))
            happens_now()
            for _ in range(1 + is_twice):
                if process.poll() is None:  # a terminal sends Ctrl+C to all
                    (os.killpg if name == "SIGINT" else os.kill)(process.pid, number)
                time.sleep(moments.uniform(0.0, 0.05) if is_twice else 0.0)
            code = process.wait(END_LIMIT)
            end = time.monotonic() + CHILD_LIMIT
            while session(process.pid) and time.monotonic() < end:
                time.sleep(0.01)
            left = session(process.pid)
            require(not left, f"{len(left)} processes are left after {CHILD_LIMIT:g} s")
            said = process.stderr.read()
        finally:
            for pid in session(process.pid):
                os.kill(pid, signal.SIGKILL)
    codes = (130, -signal.SIGINT) if name == "SIGINT" else (143,)
    require(code in codes, f"exit code {code}, not {codes[0]}: {said[-1500:]}")
    steps, (epoch, iteration) = _steps(path), _newest(path, may_be_newer=is_twice)
    saved = 3 * epoch + iteration
    if not is_twice:
        require(saved == steps, f"{steps} steps are done, {saved} are saved: {said[-1500:]}")
    require(saved in range(3 * (steps // 3) - 3, steps + 1), f"{steps} steps are done, {saved} are saved")
    stray = [entry.name for entry in path.iterdir() if entry.name.startswith(".")]
    require(not stray, f"files left: {stray}")


def _steps(path: Path) -> int:
    return (path / "steps").stat().st_size if (path / "steps").exists() else 0


def _newest(path: Path, *, may_be_newer: bool) -> tuple[int, int]:
    """Epoch and iteration of the newest checkpoint that is listed.

    All must be as listed. Only where the process ended at once, a whole file may be newer than the list.
    """
    if not (path / "manifest.json").exists():
        return 0, 0
    entries = json.loads((path / "manifest.json").read_text())["checkpoints"]
    for entry in entries:
        if (path / entry["name"]).stat().st_size != entry["size"]:
            require(may_be_newer, f"{entry['name']} is not as listed")
        verify_checkpoint(path / entry["name"])
    return max(((entry["epoch"], entry["iteration"]) for entry in entries), default=(0, 0))


def _cases() -> Iterator[Case]:
    for workers in (0, 2):
        for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
            body = partial(ask_to_end, name, workers)
            yield Case(f"{name}: ends, with its last step saved", f"{workers} workers", body, of_20=10, limit=15.0)
        body = partial(ask_to_end, "SIGINT", workers, is_twice=True)
        yield Case("SIGINT twice: ends at once, files are whole", f"{workers} workers", body, of_20=10, limit=15.0)


CASES = list(_cases())


def main(path: str, workers: str) -> None:
    """Train without end, and write a byte for each step that is done."""
    from benchmarks.faults import training_run as runs
    from delira_nca.training.callbacks import LambdaCallback

    signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = os.open(f"{path}/steps", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def work(trainer: Any) -> None:
        time.sleep(0.03)

    def tell(trainer: Any) -> None:
        os.write(steps, b"!")

    callbacks = [LambdaCallback(at_iter_end=work, at_iter_done=tell)]
    runs.train(Path(path), 10_000, workers=int(workers), callbacks=callbacks)


if __name__ == "__main__":
    main(*sys.argv[1:])
