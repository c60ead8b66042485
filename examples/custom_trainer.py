"""A training routine and a callback of one's own.

The routine lets roll-outs get longer from epoch to epoch, which is easier to learn from than long ones at once; the
callback watches how much of the grid lives, and ends a training in which everything has died or overgrown.

Run ``python examples/custom_trainer.py``; with ``--quick`` in less than a minute.
"""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from delira_nca.data_loading import DataManager, repeat, sources
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import AbstractCallback, GradientNormalization


class LongerAndLonger(PyTorchNetworkTrainer):
    """Train with roll-outs that begin at 8 steps and get 4 longer each epoch, up to a last length."""

    def __init__(self, *args: Any, last_length: int = 48, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last_length = last_length

    def _train_single_epoch(self, batchgen: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, float]:
        length = min(8 + 4 * (epoch - 1), self.last_length)  # a function of the epoch, so that a resume goes on right
        self.network.training_timesteps = (length, length + 4)
        return {**super()._train_single_epoch(batchgen, epoch), "steps": float(length)}


class WatchLife(AbstractCallback):
    """Print how much of the grid lives after the roll-outs of an epoch; stop where it is nothing or everything."""

    def __init__(self) -> None:
        self.living: list[float] = []

    def at_iter_end(self, trainer: Any, prediction: Any, train: bool) -> None:
        """Measure the living cells."""
        if train:
            self.living.append(float(trainer.network.alive(prediction.output_image).float().mean()))

    def at_epoch_end(self, trainer: Any, curr_epoch: int, val_metrics: Mapping[str, float]) -> dict[str, Any] | None:
        """Print, and decide."""
        share = sum(self.living) / len(self.living)
        self.living.clear()
        print(f"epoch {curr_epoch}: {val_metrics['steps']:.0f} steps, mse {val_metrics['mse']:.4f}, {share:.0%} alive")
        if 0 < share < 1:
            return None
        return {"stop_training": True, "stop_reason": f"{share:.0%} of the grid lives"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few iterations on a small grid")
    quick = parser.parse_args().quick
    size, grid, epochs, iterations = (12, 24, 5, 10) if quick else (24, 40, 16, 50)

    torch.manual_seed(0)
    target = sources.place(sources.dahlia(size), grid)
    seed = make_seed(16, (grid, grid))
    data = DataManager(repeat({"data": seed, "label": target}, 8 * iterations), batch_size=8)
    trainer = LongerAndLonger(
        BasicNCAModel(**presets.growing()),
        None,
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 2e-3},
        callbacks=[GradientNormalization(), WatchLife()],
        last_length=24 if quick else 48,
    )
    print(trainer.describe())
    trainer.train(epochs, data)
    print(f"stopped: {trainer.stop_reason or 'all epochs done'}")


if __name__ == "__main__":
    main()
