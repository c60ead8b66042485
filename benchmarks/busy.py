"""Two threads on a busy machine: ``python -m benchmarks.busy``, or ``make benchmark-busy``.

Times one training step of the size of the demo's (3 samples of 72 x 72 cells, 16 channels, 56 steps; forward, backward,
gradients divided by their norms, Adam) with one thread and with two, in turns: beside 0, 1, 2 and 4 processes that
never wait, and on a single core. Prints a table for the documentation.

The fair share is what a scheduler gives that treats all threads alike: of c cores and k busy loops, each of our two
threads gets c / (k + 2) of a core, at most a whole one. A step would take the time of two threads on the quiet machine,
divided by that share. On a single core it is the time of one thread on the quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from delira_nca.machine import cpu_name, usable_cores

if TYPE_CHECKING:
    from torch import Tensor

LOOPS = (0, 1, 2, 4)
BUSY_LOOP = "while True: pass"


def fair_share(num_loops: int, num_cores: int, num_threads: int = 2) -> float:
    """Share of a core that each thread gets where all are treated alike.

    Examples
    --------
    >>> fair_share(0, num_cores=2), fair_share(2, num_cores=2)
    (1.0, 0.5)
    """
    return min(1.0, num_cores / (num_loops + num_threads))


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Processes that compute without end, within the block."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(number)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def training_step(batch: int = 3, size: int = 72, num_steps: int = 56) -> Callable[[], None]:
    """One step of a training whose pictures, discs, stay what they are."""
    import torch

    from benchmarks.rollouts.workloads import WORKLOADS
    from delira_nca.losses import mse
    from delira_nca.rollout import rollout

    model = WORKLOADS["G"].model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)
    axis = torch.arange(size) - (size - 1) / 2
    disc = (axis.square() + axis[:, None].square()).sqrt() <= 20 / 72 * size
    source = torch.Generator().manual_seed(0)
    state = torch.rand(batch, 16, size, size, generator=source)
    state[:, 3] = 1.0
    state = torch.where(disc, state, 0.0)
    target: Tensor = torch.rand(batch, 4, size, size, generator=source)

    def step() -> None:
        optimizer.zero_grad()
        mse(rollout(state, model, num_steps, seed=1)[:, :4], target).backward()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= parameter.grad.norm() + 1e-8
        optimizer.step()

    return step


def measure(step: Callable[[], None], rounds: int, in_a_row: int = 4) -> dict[int, list[float]]:
    """Seconds of each step, by number of threads, which take turns; the first round is a warm-up."""
    from benchmarks.rollouts.measure import using_threads

    seconds: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(rounds + 1):
        for threads, found in seconds.items():
            with using_threads(threads):
                for number in range(in_a_row + 1):
                    start = time.perf_counter()
                    step()
                    if turn and number:  # the first after a change of the number warms up
                        found.append(time.perf_counter() - start)
    return seconds


def measure_in_a_process(num_loops: int, rounds: int, core: int | None = None) -> dict[int, list[float]]:
    """The same beside busy loops in a new process, which may be bound to one core from its start."""
    command = [sys.executable, "-m", "benchmarks.busy", "--child", "--rounds", str(rounds)]
    if core is not None:
        command += ["--core", str(core)]
    with busy_loops(num_loops):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {int(threads): seconds for threads, seconds in json.loads(done.stdout).items()}


def table(found: dict[str, dict[int, list[float]]], shares: dict[str, float], core: str | None) -> list[list[str]]:
    """Rows of text: place, one thread, two threads, fair share, and two ratios.

    Parameters
    ----------
    found : place to number of threads to seconds; the first place is the quiet machine.
    shares : of each of two threads, by place.
    core : place of the measurement on a single core.
    """
    quiet = {threads: statistics.median(seconds) for threads, seconds in next(iter(found.values())).items()}
    rows = [["", "1 thread, ms", "2 threads, ms", "fair share, ms", "2 / 1 thread", "2 / fair share"]]
    for place, seconds in found.items():
        one, two = (statistics.median(seconds[threads]) for threads in (1, 2))
        fair = quiet[1] if place == core else quiet[2] / shares[place]
        spread = [
            f"{1e3 * statistics.median(s):.0f} ({1e3 * min(s):.0f} .. {1e3 * max(s):.0f})" for s in seconds.values()
        ]
        rows.append([place, *spread, f"{1e3 * fair:.0f}", f"{two / one:.2f}", f"{two / fair:.2f}"])
    return rows


def as_list_table(rows: list[list[str]]) -> str:
    """Rows as a table of reStructuredText, the first of them its header."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'* ' if i == 0 else '  '}- {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6, help="of four steps each")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})  # before torch starts threads
    if given.child:
        print(json.dumps(measure(training_step(), given.rounds)))
        return
    from delira_nca.rollout import native_library

    cores = usable_cores()
    print(f"{cpu_name()}, {cores} cores, {native_library.load().name}; load average before: ", end="")
    print(*(f"{load:.1f}" for load in os.getloadavg()), flush=True)
    places = {f"{k} busy loop{'s' if k > 1 else ''}" if k else "quiet": k for k in LOOPS}
    found = {place: measure_in_a_process(k, given.rounds) for place, k in places.items()}
    alone = None
    if hasattr(os, "sched_setaffinity"):
        alone = "one core"
        found[alone] = measure_in_a_process(0, given.rounds, core=min(os.sched_getaffinity(0)))
    shares = {place: fair_share(k, cores) for place, k in places.items()}
    print(as_list_table(table(found, shares, alone)))


if __name__ == "__main__":
    main()
