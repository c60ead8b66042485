"""What it costs to record a run: ``python -m benchmarks.store``.

Records of 100 000 iterations, written in chunks of 1 000 as a training does, and read back: in the store; in a store
that is opened for each chunk anew; and in one pickle that is replaced for each chunk, which is the plain way. All take
turns. Then two processes append to one run at once, and nothing may be lost. Last, what a recorder adds to an
iteration.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from delira_nca.experiment.recorder import StatsRecorder
from delira_nca.experiment.stats import TrainingIterationStats, TrainingStats
from delira_nca.experiment.store import StatsDatabase, StoredRun
from delira_nca.io.files import replaced

Records = list[TrainingIterationStats]


def make_records(iterations: int, first: int = 0, step: int = 1) -> Records:
    """Records as a training makes them, with one named loss."""
    numbers = range(first, iterations, step)
    return [TrainingIterationStats(i, 1.0 / (i + 1), 0.01, {"mse": 1.0 / (i + 2)}) for i in numbers]


def chunks(records: Records, size: int) -> list[Records]:
    return [records[begin : begin + size] for begin in range(0, len(records), size)]


def in_the_store(path: Path, parts: list[Records]) -> Callable[[], TrainingStats]:
    with StatsDatabase(path) as database:
        for part in parts:
            database.add_training(part)
    return StatsDatabase(path).training_stats


def in_a_store_opened_anew(path: Path, parts: list[Records]) -> Callable[[], TrainingStats]:
    for part in parts:
        StatsDatabase(path).add_training(part)
    return StatsDatabase(path).training_stats


def in_one_pickle(path: Path, parts: list[Records]) -> Callable[[], TrainingStats]:
    """The file is never read to add to it: its writer keeps everything in memory, and nobody else may write."""
    stats = TrainingStats()
    for part in parts:
        for record in part:
            stats.add_iteration_stats(record)
        with replaced(path) as temporary:
            temporary.write_bytes(pickle.dumps(stats))
    return lambda: pickle.loads(path.read_bytes())  # type: ignore[no-any-return]


WAYS = {
    "store": in_the_store,
    "store, opened for each chunk": in_a_store_opened_anew,
    "one pickle": in_one_pickle,
}


def measure(iterations: int, chunk: int, rounds: int, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Seconds to write and to read, and bytes on the disk, one number per round."""
    records = make_records(iterations)
    parts = chunks(records, chunk)
    spent: dict[str, dict[str, list[float]]] = {name: {"write": [], "read": [], "bytes": []} for name in WAYS}
    names = list(WAYS)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            path = folder / f"{names.index(name)}-{turn}"
            gc.collect()
            start = time.perf_counter()
            read = WAYS[name](path, parts)
            written = time.perf_counter()
            stats = read()
            done = time.perf_counter()
            if stats.iteration_stats != records:
                raise RuntimeError(f"{name} has not given back what was written")
            row = {"write": written - start, "read": done - written, "bytes": float(path.stat().st_size)}
            for key, value in row.items():
                spent[name][key].append(value)
            del stats
            path.unlink()
    return spent


def summarise(spent: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Medians, and how often the store's goes into the other's.

    Examples
    --------
    >>> row = {"write": [1.0, 5.0, 2.0], "read": [1.0], "bytes": [1e6]}
    >>> summarise({"store": row, "one pickle": {**row, "write": [8.0]}})["one pickle"]["times the store"]
    4.0
    """
    table = {name: {key: statistics.median(values) for key, values in row.items()} for name, row in spent.items()}
    base = table["store"]["write"]
    return {name: {**row, "times the store": row["write"] / base} for name, row in table.items()}


def append(path: Path, first: int, iterations: int, chunk: int, barrier: Any) -> None:
    """Write every other record, beginning when the other process does."""
    parts = chunks(make_records(iterations, first, 2), chunk)
    barrier.wait()
    with StatsDatabase(path) as database:
        for part in parts:
            database.add_training(part)


def two_processes(iterations: int, chunk: int, folder: Path) -> dict[str, float]:
    """Let two processes append at once, and count what is there afterwards."""
    path = folder / "shared.sqlite"
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    arguments = [(path, first, iterations, chunk, barrier) for first in (0, 1)]
    processes = [context.Process(target=append, args=given) for given in arguments]
    for process in processes:
        process.start()
    barrier.wait()
    start = time.perf_counter()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - start
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"a process has failed: {[process.exitcode for process in processes]}")
    there = {stats.iteration for stats in StatsDatabase(path).training_stats().iteration_stats}
    return {"seconds": seconds, "lost": float(len(set(range(iterations)) - there))}


class FakeTrainer:
    """As much of a trainer as a recorder asks for."""

    run_id = "benchmark"

    global_iter_num = iteration = 0

    def score_names(self) -> None:
        """Nothing is validated."""


def recording(iterations: int, rounds: int, folder: Path) -> list[float]:
    """Microseconds that the hooks of a recorder take in an iteration, writing included, one number per round."""
    spent = []
    values = {"mse": torch.tensor(0.25), "loss": torch.tensor(0.25)}
    for turn in range(rounds):
        recorder, trainer = StatsRecorder(StoredRun(folder / f"run-{turn}"), seconds=0.05), FakeTrainer()
        recorder.at_training_begin(trainer)
        gc.collect()
        start = time.process_time()
        for number in range(iterations):
            recorder.at_iter_begin(trainer, train=True)
            recorder.at_iter_end(trainer, train=True, global_iter_num=number, metrics=values)
            recorder.at_iter_done(trainer)
        recorder.at_training_end(trainer)
        spent.append(1e6 * (time.process_time() - start) / iterations)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=100_000)
    parser.add_argument("--chunk", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spent = measure(given.iterations, given.chunk, given.rounds, Path(folder))
        shared = two_processes(given.iterations // 5, max(1, given.chunk // 10), Path(folder))
        recorded = recording(max(1, given.iterations // 10), given.rounds, Path(folder))
    table = summarise(spent)
    print(f"load average {' '.join(f'{load:.2f}' for load in os.getloadavg())}")
    print(f"{given.iterations} records in chunks of {given.chunk}, medians of {given.rounds} rounds\n")
    print(f"{'':30}{'write s':>9}{'read s':>9}{'MB':>7}{'times the store':>17}")
    for name, row in table.items():
        size, times = row["bytes"] / 1e6, row["times the store"]
        print(f"{name:30}{row['write']:9.2f}{row['read']:9.2f}{size:7.1f}{times:17.2f}")
    print(f"\ntwo processes at once: {shared['seconds']:.2f} s, records lost: {shared['lost']:.0f}")
    print(f"a recorder, per iteration: {statistics.median(recorded):.1f} us")
    if given.json:
        figures = {"spent": spent, "table": table, "two processes": shared, "recorder": recorded}
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
