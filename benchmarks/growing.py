"""How long a picture takes to grow well, and what each part of the recipe is worth: ``python -m benchmarks.growing``.

``seeds`` runs ``delira-nca grow`` with several seeds, and prints time and errors. ``recipes`` trains with one part of
the recipe changed at a time, on one thread each, and prints the errors after equal numbers of iterations, with the time
of the processor. Errors are log10 of the mean squared error over the grid, RGBA: the median of several roll-outs, and
the worst in brackets.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delira_nca.data_loading import DataManager
from delira_nca.data_loading.sources import load_target, place
from delira_nca.experiment import GrowConfig, RunConfig
from delira_nca.experiment.growing import growing_network
from delira_nca.losses import mse
from delira_nca.machine import cpu_name
from delira_nca.models import BasicNCAModel, MLPRule, Perception, make_seed
from delira_nca.rollout.native_library import available
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import (
    GradientClipping,
    GradientNormalization,
    IntermediateSupervision,
    RolloutLoss,
    StepCurriculum,
    WeightAverage,
)

ROLLOUTS = 8


@dataclass(frozen=True)
class Recipe:
    """What differs from the recipe of ``delira-nca grow``."""

    config: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    without: type | None = None
    more: Callable[[], list[Any]] = list
    criterion: Callable[[Tensor, Tensor], Tensor] = mse
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam


def root_of_errors(pred: Tensor, label: Tensor) -> Tensor:
    """Mean over samples of the root of their mean squared error: a sample that is nearly right counts as much."""
    return ((pred - label).square().flatten(1).mean(1) + 1e-8).sqrt().mean()


def log_of_errors(pred: Tensor, label: Tensor) -> Tensor:
    """Mean over samples of the logarithm of their mean squared error."""
    return ((pred - label).square().flatten(1).mean(1) + 1e-8).log().mean()


def perception(sobel: float, laplacian: float) -> dict[str, Any]:
    return {"perception": Perception("identity", "sobel", "laplacian", sobel_scale=sobel, laplacian_scale=laplacian)}


RECIPES = {
    "as it is": Recipe(),
    "perception of the papers: Sobel / 8, Laplacian of weight 12": Recipe(network=perception(1.0, 1.0)),
    "perception of the papers, fire rate 0.5, 44 to 60 steps, 128 hidden neurons": Recipe(
        {"steps": (44, 60), "fire_rate": 0.5}, {**perception(1.0, 1.0), "rule": MLPRule(128, final_bias=True)}
    ),
    "no Laplacian": Recipe(network={"perception": Perception("identity", "sobel", sobel_scale=4.0)}),
    "fire rate 0.5, 44 to 60 steps": Recipe({"steps": (44, 60), "fire_rate": 0.5}),
    "fire rate 0.75, 34 to 48 steps": Recipe({"steps": (34, 48), "fire_rate": 0.75}),
    "128 hidden neurons": Recipe(network={"rule": MLPRule(128, final_bias=True)}),
    "64 hidden neurons": Recipe(network={"rule": MLPRule(64, final_bias=True)}),
    "12 channels": Recipe(network={"num_hidden_channels": 8}),
    "batch of 2": Recipe({"batch_size": 2}),
    "batch of 4": Recipe({"batch_size": 4}),
    "learning rate 2e-3": Recipe({"learning_rate": 2e-3}),
    "learning rate 8e-3": Recipe({"learning_rate": 8e-3}),
    "clipped instead of normalised gradients": Recipe(
        without=GradientNormalization, more=lambda: [GradientClipping(1.0)]
    ),
    "no curriculum of steps": Recipe(without=StepCurriculum),
    "no average of the weights": Recipe(without=WeightAverage),
    "no noise on the states": Recipe({"state_noise": 0.0}),
    "no limit of the states": Recipe(without=RolloutLoss),
    "noise of 0.01 on the states": Recipe({"state_noise": 0.01}),
    "noise of 0.1 on the states": Recipe({"state_noise": 0.1}),
    "also judged at 0.7 of the steps": Recipe(more=lambda: [IntermediateSupervision(at=(0.7,), weights=0.5)]),
    "root of the error of each sample": Recipe(criterion=root_of_errors),
    "logarithm of the error of each sample": Recipe(criterion=log_of_errors),
    "momenta 0.5 and 0.9 instead of 0.9 and 0.999": Recipe(
        optimizer=functools.partial(torch.optim.Adam, betas=(0.5, 0.9))
    ),
    "AdamW with weight decay 0.01": Recipe(optimizer=torch.optim.AdamW),
}


def train(recipe: Recipe, config: GrowConfig) -> tuple[BasicNCAModel, Tensor, float]:
    """Network with averaged weights, its target, and the seconds of the processor."""
    config = dataclasses.replace(config, **recipe.config).checked()
    target = torch.from_numpy(place(load_target(config.target, config.size), config.size + 2 * config.padding))
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "target.npy"), target.numpy())
        run = RunConfig.from_dict(config.run_config("recipe"), folder)
        parts = run.replace({"callbacks": config.recipe(len(target[0]))}).build()
        samples = parts.data.train
    with isolated_rng(run.run_seed):
        network = growing_network(config.steps, config.fire_rate, **recipe.network)
    callbacks = [c for c in parts.callbacks if recipe.without is None or not isinstance(c, recipe.without)]
    callbacks += recipe.more()
    trainer = PyTorchNetworkTrainer(
        network,
        None,
        {"mse": recipe.criterion},
        recipe.optimizer,
        {"lr": config.learning_rate},
        lr_scheduler_cls=parts.trainer.lr_scheduler_cls,
        lr_scheduler_params=parts.trainer.lr_scheduler_params,
        callbacks=callbacks,
        seed=run.run_seed,
    )
    begin = time.process_time()
    trainer.train(config.epochs, DataManager(samples, config.batch_size))
    seconds = time.process_time() - begin
    averages = [c.network for c in callbacks if isinstance(c, WeightAverage)]
    return (averages[0] if averages else network).eval(), target, seconds


def errors(network: BasicNCAModel, target: Tensor, horizon: int) -> list[str]:
    """Errors at 1, 5 and 50 horizons, and one horizon after either half was lost, as text."""
    seed = make_seed(network.num_channels, target.shape[1:])
    grown = network.predict(seed.expand(ROLLOUTS, -1, -1, -1), horizon, seed=1).output_image
    later = network.predict(grown, 4 * horizon, seed=2).output_image
    old = network.predict(later, 45 * horizon, seed=4).output_image
    right, lower = grown.clone(), grown.clone()
    right[..., right.shape[-1] // 2 :] = 0.0
    lower[..., lower.shape[-2] // 2 :, :] = 0.0
    healed = [network.predict(state, horizon, seed=3).output_image for state in (right, lower)]
    found = []
    for states in (grown, later, old, *healed):
        logs = (states[:, :4] - target).square().flatten(1).mean(1).log10()
        found.append(f"{logs.median():.2f} ({logs.max():.2f})")
    return found


def print_row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_processor(threads: int) -> None:
    print(f"{cpu_name()}, {available()[-1] if available() else 'no native library'}, threads: {threads}")


def compare_recipes(names: list[str], config: GrowConfig, jobs: int) -> None:
    """Train each recipe in a process of its own, and print a row for it."""
    print_processor(1)
    print_row("recipe", "s of CPU", "horizon", "5 horizons", "50 horizons", "right half lost", "lower half lost")
    print_row(*["---"] * 7)

    def run(name: str) -> None:
        options = json.dumps(dataclasses.asdict(config))
        command = [sys.executable, "-m", "benchmarks.growing", "recipe", name, options]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for result in [pool.submit(run, name) for name in names]:
            result.result()


def train_one(name: str, config: GrowConfig) -> None:
    """Train one recipe on one thread, and print its row."""
    torch.set_num_threads(1)
    recipe = RECIPES[name]
    network, target, seconds = train(recipe, config)
    horizon = dataclasses.replace(config, **recipe.config).steps[1]
    print_row(name, f"{seconds:.0f}", *errors(network, target, horizon))


def compare_seeds(config: GrowConfig, seeds: int) -> None:
    """Run the command with several seeds, and print a row for each, the median and the worst."""
    print_processor(torch.get_num_threads())
    print_row("seed", "s", "horizon", "5 horizons", "50 horizons", "right half lost")
    print_row(*["---"] * 6)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            from delira_nca.experiment import grow

            begin = time.perf_counter()
            out = Path(folder, str(seed))
            result = grow(dataclasses.replace(config, seed=seed, out=str(out)), progress=False)
            seconds = time.perf_counter() - begin
            row = [seconds, *result.log10_errors.values(), list(result.log10_errors_healing.values())[-1]]
            rows.append(row)
            print_row(seed, f"{row[0]:.0f}", *(f"{value:.2f}" for value in row[1:]))
    for name, summary in (("median", statistics.median), ("worst", max)):
        columns = [summary(column) for column in zip(*rows, strict=True)]
        print_row(name, f"{columns[0]:.0f}", *(f"{value:.2f}" for value in columns[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("seeds", "recipes", "recipe"))
    parser.add_argument("name", nargs="?", help="part of the names of the recipes to compare; all by default")
    parser.add_argument("options", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--quality", default="good")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=1000, help="of each recipe")
    parser.add_argument("--jobs", type=int, default=2, help="recipes that train at once")
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    arguments = parser.parse_args()
    config = GrowConfig.of_quality(arguments.quality)
    if arguments.quick:
        config = dataclasses.replace(config, target="heart", size=10, padding=3, epochs=2, iterations=3, pool_size=8)
    if arguments.what == "seeds":
        compare_seeds(config, arguments.seeds)
    elif arguments.what == "recipes":
        names = [name for name in RECIPES if (arguments.name or "") in name]
        epochs = config.epochs if arguments.quick else math.ceil(arguments.iterations / config.iterations)
        compare_recipes(names, dataclasses.replace(config, epochs=epochs), arguments.jobs)
    else:
        options = json.loads(arguments.options)
        train_one(arguments.name, GrowConfig(**{**options, "steps": tuple(options["steps"])}))


if __name__ == "__main__":
    main()
