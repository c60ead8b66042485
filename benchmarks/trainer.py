"""What the trainer costs: ``python -m benchmarks.trainer``.

Microseconds of the processor that a trainer adds to an iteration, over a bare loop that calls the network's ``closure``
with batches that are tensors already. The trainer takes its batches from a data manager without workers. All loops take
turns.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import MultiStepLR

from delira_nca.data_loading import DataManager
from delira_nca.logging import JSONLSink
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, MLPRule, presets
from delira_nca.rollout import BACKENDS, using_backend
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import (
    GradientNormalization,
    LRSchedulerCallback,
    MetricLogger,
    NaNGuard,
    PoolUpdate,
    WeightAverage,
)
from delira_nca.training.pool import SamplePool

BATCH_SIZE, SIZE = 2, 8
LEARNING_RATE = 1e-6


def make_network() -> BasicNCAModel:
    """Automaton of which one step is trained, so that little time goes into it."""
    torch.manual_seed(0)
    return BasicNCAModel(**presets.growing(training_timesteps=1, rule=MLPRule(16)))


def make_data(iterations: int) -> dict[str, np.ndarray]:
    source = np.random.default_rng(0)
    length = iterations * BATCH_SIZE
    return {
        "data": source.random((length, 16, SIZE, SIZE), dtype=np.float32),
        "label": source.random((length, 4, SIZE, SIZE), dtype=np.float32),
    }


def bare_loop(iterations: int) -> Callable[[], None]:
    """The closure and nothing else."""
    network = make_network().train()
    optimizers = {"default": torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)}
    data = {key: torch.from_numpy(array).split(BATCH_SIZE) for key, array in make_data(iterations).items()}
    batches = [{"data": states, "label": labels} for states, labels in zip(data["data"], data["label"], strict=True)]

    def run() -> None:
        for number, batch in enumerate(batches):
            network.closure(network, batch, optimizers, {"mse": mse}, {}, 0, number, seed=number)

    return run


def usual_callbacks(folder: Path) -> dict[str, Any]:
    """Callbacks of a run as one does it, by name."""
    return {
        "NaNGuard": NaNGuard(),
        "GradientNormalization": GradientNormalization(),
        "PoolUpdate": PoolUpdate(SamplePool(torch.rand(16, SIZE, SIZE), 64)),
        "WeightAverage": WeightAverage(0.99),
        "LRSchedulerCallback": LRSchedulerCallback(MultiStepLR, {"milestones": [10**9]}, every="iteration"),
        "MetricLogger": MetricLogger(JSONLSink(folder / "metrics.jsonl"), every=10),
    }


def trainer_loop(iterations: int, callbacks: list[Any]) -> Callable[[], None]:
    """One more epoch of a trainer each time."""
    trainer = PyTorchNetworkTrainer(
        make_network(), None, {"mse": mse}, torch.optim.Adam, {"lr": LEARNING_RATE}, callbacks=callbacks
    )
    manager = DataManager(make_data(iterations), BATCH_SIZE)

    def run() -> None:
        trainer.train(trainer.start_epoch, manager)

    return run


def iterating(iterations: int) -> Callable[[], None]:
    """The data manager alone."""
    manager = DataManager(make_data(iterations), BATCH_SIZE)

    def run() -> None:
        for _ in manager.get_batchgen():
            pass

    return run


def loops(iterations: int, folder: Path) -> dict[str, Callable[[], None]]:
    """Everything that is timed, the bare loop first."""
    made = {
        "bare loop": bare_loop(iterations),
        "DataManager alone": iterating(iterations),
        "no callbacks": trainer_loop(iterations, []),
        "all of the usual callbacks": trainer_loop(iterations, list(usual_callbacks(folder / "all").values())),
    }
    for name, callback in usual_callbacks(folder / "alone").items():
        made[f"{name} only"] = trainer_loop(iterations, [callback])
    return made


def measure(kinds: dict[str, Callable[[], None]], iterations: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of an iteration, one number per round; each loop runs once more before the first."""
    spent: dict[str, list[float]] = {name: [] for name in kinds}
    names = list(kinds)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            start = time.process_time()
            kinds[name]()
            if turn:
                spent[name].append(1e6 * (time.process_time() - start) / iterations)
    return spent


def over_the_bare_loop(spent: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median of the differences to the bare loop of the same round, and what lies between the least of both.

    The bare loop and the data manager stand for themselves.

    Examples
    --------
    >>> over_the_bare_loop({"bare loop": [1.0, 5.0, 2.0], "trainer": [3.0, 6.0, 9.0]})["trainer"]["median"]
    2.0
    """
    bare = spent["bare loop"]
    table = {}
    for name, values in spent.items():
        more = [value - base for value, base in zip(values, bare, strict=True)]
        if name in ("bare loop", "DataManager alone"):
            more = values
        least = min(values) - (min(bare) if more is not values else 0.0)
        table[name] = {"median": statistics.median(more), "of the least": least, "min": min(more), "max": max(more)}
    return table


@contextlib.contextmanager
def fastest_backend() -> Iterator[str]:
    """Back end that does these roll-outs in the shortest time, so that the least noise comes from them."""
    for name in ("native", "reference"):
        if name in BACKENDS and BACKENDS[name].unavailable() is None:
            with using_backend(name):
                yield name
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=200, help="in an epoch")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with fastest_backend() as backend, tempfile.TemporaryDirectory() as folder:
        spent = measure(loops(given.iterations, Path(folder)), given.iterations, given.rounds)
    table = over_the_bare_loop(spent)
    print(f"back end {backend}, load average {' '.join(f'{load:.2f}' for load in os.getloadavg())}")
    print("Microseconds of an iteration (the first two), and what a trainer adds to the bare loop (the others)\n")
    print(f"{'':32}{'median':>8}{'of the least':>14}   (min .. max)")
    for name, row in table.items():
        print(f"{name:32}{row['median']:8.1f}{row['of the least']:14.1f}   ({row['min']:.1f} .. {row['max']:.1f})")
    if given.json:
        given.json.write_text(json.dumps({"backend": backend, "spent": spent, "over the bare loop": table}, indent=1))


if __name__ == "__main__":
    main()
