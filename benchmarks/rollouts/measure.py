"""Time and memory: contenders take turns, round after round, so that all see the same machine."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.rollouts.contenders import Contender
from benchmarks.rollouts.workloads import Workload

__all__ = [
    "MODES",
    "Memory",
    "Run",
    "in_turns",
    "measure_memory",
    "nanoseconds",
    "peak_growth",
    "time_in_turns",
    "using_threads",
]

MODES = ("train", "forward")
MIB = 2**20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """Seconds of one call: of all processors together, and on the clock."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Memory:
    """MiB by which a first call made the process grow; ``estimated`` from calls of fewer steps."""

    mib: float
    estimated: bool


def nanoseconds(seconds: float, workload: Workload, steps: int) -> float:
    """Time for one cell and one step.

    Examples
    --------
    >>> from benchmarks.rollouts.workloads import WORKLOADS
    >>> round(nanoseconds(1.0, WORKLOADS["G"], steps=80), 1)
    301.4
    """
    return 1e9 * seconds / (workload.num_cells * steps)


def in_turns(items: list[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Every item once in every round, beginning with another one each time.

    Examples
    --------
    >>> [item for turn, item in in_turns(["a", "b", "c"], rounds=2)]
    ['a', 'b', 'c', 'b', 'c', 'a']
    """
    for turn in range(rounds):
        first = turn % len(items) if items else 0
        for item in items[first:] + items[:first]:
            yield turn, item


def timed(call: Callable[[], None]) -> Run:
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Run(time.process_time() - cpu, time.perf_counter() - wall)


@contextmanager
def using_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_in_turns(
    contenders: Mapping[str, tuple[Contender, int]], rounds: int, threads: int
) -> dict[str, dict[str, list[Run]]]:
    """Seconds of every call.

    Parameters
    ----------
    contenders : name to somebody and a number of steps.
    rounds : counted ones; one more before them warms up.
    threads : of PyTorch. JAX chooses for itself.

    Returns
    -------
    dict
        Name, then mode, to a list of one run per round.
    """
    runs: dict[str, dict[str, list[Run]]] = {name: {mode: [] for mode in MODES} for name in contenders}
    with using_threads(threads):
        for turn, name in in_turns(list(contenders), rounds + 1):
            contender, steps = contenders[name]
            contender.prepare(steps)
            for mode in MODES:
                run = timed(partial(getattr(contender, mode), steps))
                if turn:
                    runs[name][mode].append(run)
    return runs


def _status(field: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / MIB


def peak_growth(call: Callable[[], None]) -> float | None:
    """MiB of the process's memory above what it had before, at the highest point of a call; None where nobody says."""
    if not CLEAR.exists():
        return None
    CLEAR.write_text("5")  # the highest point is now
    before = _status("VmHWM")
    call()
    return _status("VmHWM") - before


def available_mib() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MIB for line in lines if line.startswith("MemAvailable"))


def measure_memory(
    workload: Workload, name: str, folders: Mapping[str, Path | None], *, quick: bool, timeout: float = 900.0
) -> dict[str, Memory] | str:
    """Growth of a new process in the first training step, and of another in the first forward pass.

    Where all steps would not fit into half of the machine's free memory, the growth is extended from fewer steps.

    Returns
    -------
    dict of mode to :class:`Memory`, or why there is none
    """

    def ask(mode: str, steps: int) -> float:
        task = {"workload": workload.name, "name": name, "mode": mode, "steps": steps, "quick": quick}
        checkouts = {peer: str(path) for peer, path in folders.items() if path is not None}
        command = [sys.executable, "-m", "benchmarks.rollouts.memory", json.dumps({**task, "checkouts": checkouts})]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, env=os.environ, capture_output=True, text=True, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no memory is known here"])[-1])
        return float(done.stdout.split()[-1])

    def extended(mode: str) -> Memory:
        few = workload.short_steps
        if mode == "train" and (growth := ask(mode, few)) * workload.steps / few > available_mib() / 2:
            slope = (ask(mode, 2 * few) - growth) / few
            return Memory(growth + slope * (workload.steps - few), estimated=True)
        return Memory(ask(mode, workload.steps), estimated=False)

    try:
        return {mode: extended(mode) for mode in MODES}
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return str(error)
