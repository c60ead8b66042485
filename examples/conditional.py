"""Goals: one automaton grows a dahlia, a star or a ring from the same cell, selected by a goal.

A goal is a number. A learned vector for each goal is added to hidden channels of living cells before perception. In
most iterations, the states of the pool get another goal, so that grown pictures also learn to change into another one.
The error after such a change is larger than after growth.
``python examples/conditional.py`` takes about nine minutes, ``--quick`` a few seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.data_loading import DataManager, DictDataset, RandomSamplerWithReplacement
from delira_nca.data_loading.sources import area_resize, dahlia, place
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, build_model, make_seed
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import GradientNormalization, NaNGuard, PoolUpdate, ProgressBar, WeightAverage
from delira_nca.visualization import film_strip, save_picture, to_rgb

GOALS = ("dahlia", "star", "ring")


def targets(size: int, padding: int) -> np.ndarray:
    """(3, 4, grid, grid) pictures with red, green, blue and alpha channels."""
    y, x = (np.mgrid[: 8 * size, : 8 * size] + 0.5) / (4 * size) - 1
    distance, angle = np.hypot(x, y), np.arctan2(x, -y)
    star = (distance < 0.68 + 0.3 * np.cos(5 * angle)) * np.array([0.95, 0.75, 0.1, 1.0]).reshape(4, 1, 1)
    ring = (abs(distance - 0.68) < 0.28) * np.array([0.1, 0.45, 0.85, 1.0]).reshape(4, 1, 1)
    drawn = [dahlia(size), *(area_resize(picture, size, size) for picture in (star, ring))]
    return np.stack([place(picture, size + 2 * padding) for picture in drawn])


def train(pictures: np.ndarray, steps: tuple[int, int], epochs: int, iterations: int, out: Path) -> BasicNCAModel:
    """Train one automaton for all goals."""
    with isolated_rng(0):
        network = build_model("conditional", {"training_timesteps": steps, "inference_timesteps": steps[1]})
    seed = make_seed(network.num_channels, pictures.shape[2:])
    average = WeightAverage(0.99, validate=False)
    trainer = PyTorchNetworkTrainer(
        network,
        out / "checkpoints",
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 2e-3},
        None,
        torch.optim.lr_scheduler.CosineAnnealingLR,
        {"T_max": epochs, "eta_min": 1e-4},
        callbacks=[
            NaNGuard(),
            GradientNormalization(),
            PoolUpdate(SamplePool(seed, 128), num_seeds=3, explode_above=10.0),
            average,
            ProgressBar(),
        ],
    )
    batch = 8
    samples = {"data": seed.repeat(3, 1, 1, 1).numpy(), "label": pictures, "goal": np.arange(3)}
    with DataManager(
        DictDataset(samples), batch, sampler_cls=RandomSamplerWithReplacement, num_samples=batch * iterations
    ) as data:
        trainer.train(epochs, data)
    return average.network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use tiny pictures and few epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/conditional"), help="folder of the run")
    options = parser.parse_args()
    size, padding, steps, epochs, iterations = (10, 3, (8, 12), 2, 8) if options.quick else (16, 3, (24, 36), 40, 60)
    pictures, horizon = targets(size, padding), steps[1]
    begin = time.perf_counter()
    network = train(pictures, steps, epochs, iterations, options.out)
    print(
        f"{network.num_trainable_parameters()} parameters, {epochs * iterations} iterations, "
        f"{time.perf_counter() - begin:.0f} s"
    )

    labels, seeds = torch.from_numpy(pictures), make_seed(network.num_channels, pictures.shape[2:]).repeat(3, 1, 1, 1)
    grown = network.record(seeds, horizon, goal=torch.arange(3), keep=[round(horizon * k / 7) for k in range(8)])
    print(f"error after {horizon} steps of the grown picture (row) against each target (column)")
    print(f"{'goal':>8}" + "".join(f"{name:>10}" for name in GOALS))
    for row, name in enumerate(GOALS):
        errors = [float(mse(grown[-1].pred[row], label)) for label in labels]
        print(f"{name:>8}" + "".join(f"{error:10.5f}" for error in errors))
    turned = (torch.arange(3) + 1) % 3
    changed = network.record(
        grown[-1].output_image, horizon, goal=turned, keep=[round(horizon * k / 7) for k in range(8)]
    )
    print(f"error {horizon} steps after a change of the goal")
    for row, name in enumerate(GOALS):
        wanted = int(turned[row])
        errors = [float(mse(changed[-1].pred[row], labels[goal])) for goal in (row, wanted)]
        print(f"{name:>8} to {GOALS[wanted]}: {errors[0]:.5f} from the old, {errors[1]:.5f} from the new")
    rows = [part[k].pred[row].numpy() for row in range(3) for part in (grown, changed) for k in range(8)]
    options.out.mkdir(parents=True, exist_ok=True)
    save_picture(film_strip(to_rgb(np.stack(rows)), 16, rows=3), options.out / "goals.png", scale=3)
    print(options.out / "goals.png")


if __name__ == "__main__":
    main()
