"""A custom training routine and a custom callback.

The routine trains several consecutive roll-outs on each batch, each from the final states of the previous one, as
Sudhakaran et al. (2022) do for goal-guided automata. Without a pool, the automaton still learns to keep its picture.
The callback measures the fraction of living cells, and stops the training if none or all of the cells live.

Run ``python examples/custom_trainer.py``; ``--quick`` takes less than a minute.
"""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from delira_nca.data_loading import DataManager, repeat, sources
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import AbstractCallback, GradientNormalization, StepCurriculum


class InARow(PyTorchNetworkTrainer):
    """Train ``num_rollouts`` consecutive roll-outs on each batch."""

    def __init__(self, *args: Any, num_rollouts: int = 2, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.num_rollouts = num_rollouts

    def _train_single_epoch(self, batchgen: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, float]:
        self.network.train()
        for iter_num, batch in enumerate(batchgen, start=self.batch_index):
            for rollout in range(self.num_rollouts):
                values, prediction = self._iterate(batch, iter_num, epoch, train=True)
                batch = {**batch, "data": prediction.output_image}
                self._means.add({f"mse_{rollout + 1}": values["mse"]}, len(batch["data"]))
        return self._means.result()


class WatchLife(AbstractCallback):
    """Print the fraction of living cells after the roll-outs of an epoch, and stop if none or all of them live."""

    def __init__(self) -> None:
        self.living: list[float] = []

    def at_iter_end(self, trainer: Any, prediction: Any, train: bool) -> None:
        """Record the fraction of living cells."""
        if train:
            self.living.append(float(trainer.network.alive(prediction.output_image).float().mean()))

    def at_epoch_end(self, trainer: Any, curr_epoch: int, val_metrics: Mapping[str, float]) -> dict[str, Any] | None:
        """Print the errors and the fraction, and decide whether to stop."""
        share = sum(self.living) / len(self.living)
        self.living.clear()
        errors = ", ".join(f"{name} {value:.4f}" for name, value in val_metrics.items())
        print(f"epoch {curr_epoch}: {errors}, {share:.0%} alive")
        if 0 < share < 1:
            return None
        return {"stop_training": True, "stop_reason": f"{share:.0%} of the grid lives"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run a few iterations on a small grid")
    quick = parser.parse_args().quick
    size, grid, epochs, iterations, first, last = (
        (12, 24, 4, 6, (6, 10), (12, 20)) if quick else (24, 48, 16, 40, (12, 20), (32, 48))
    )

    torch.manual_seed(0)
    target = sources.place(sources.dahlia(size), grid)
    seed = make_seed(16, (grid, grid))
    data = DataManager(repeat({"data": seed, "label": target}, 4 * iterations), batch_size=4)
    trainer = InARow(
        BasicNCAModel(**presets.growing()),
        None,
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 2e-3},
        callbacks=[GradientNormalization(), StepCurriculum(first, last, epochs=epochs // 2), WatchLife()],
        num_rollouts=3,
    )
    print(trainer.describe())
    trainer.train(epochs, data)
    print(f"stopped: {trainer.stop_reason or 'all epochs done'}")


if __name__ == "__main__":
    main()
