"""Self-classifying digits: each cell of a digit classifies the whole digit, and the cells must agree.

Two automata are trained for the same number of epochs on the digits of scikit-learn: one from new states in each batch,
the other from states of a pool, some with another digit. Both are then evaluated at the horizon of the training and at
three and ten times that. ``python examples/self_classifying.py`` takes about six minutes, ``--quick`` a few seconds.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.datasets import load_digits

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.losses import agreement
from delira_nca.models.tasks import SelfClassificationNCAModel
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import GradientNormalization, PoolMutation, ProgressBar

HELD_OUT, HORIZON = 360, 16


def train(data: dict[str, np.ndarray], epochs: int, *, has_pool: bool) -> tuple[SelfClassificationNCAModel, float]:
    """Train an automaton; return it and the duration in seconds."""
    with isolated_rng(0):
        network = SelfClassificationNCAModel(
            num_hidden_channels=14,
            num_classes=10,
            hidden_size=80,
            fire_rate=0.5,
            filter_padding="zeros",
            cell_loss="l2",
            update_noise=0.02,
            training_timesteps=(HORIZON - 4, HORIZON + 1),
            inference_timesteps=HORIZON,
        )
    callbacks = [GradientNormalization(), ProgressBar()]
    if has_pool:
        seed = torch.zeros(network.num_channels, *data["data"].shape[2:])
        pool = SamplePool(seed, 256, slots={"label": torch.zeros(256, dtype=torch.int64)})
        callbacks.insert(1, PoolMutation(pool, num_image_channels=1, score=votes_against))
    trainer = PyTorchNetworkTrainer(
        network,
        None,
        optimizer_params={"lr": 2e-3},
        lr_scheduler_cls=torch.optim.lr_scheduler.CosineAnnealingLR,
        lr_scheduler_params={"T_max": epochs, "eta_min": 1e-4},
        callbacks=callbacks,
    )
    begin = time.perf_counter()
    with DataManager(data, 32, sampler_cls=RandomSampler, drop_last=True) as manager:
        network = trainer.train(epochs, manager)
    return network, time.perf_counter() - begin


def votes_against(states: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B,) fraction of a digit's living cells that vote for another digit."""
    living = states[:, 0] > 0.1
    wrong = states[:, -10:].argmax(1) != batch["label"].view(-1, 1, 1)
    return (wrong & living).flatten(1).sum(1) / living.flatten(1).sum(1).clamp(min=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one epoch each")
    options = parser.parse_args()
    epochs = 1 if options.quick else 150
    found = load_digits()
    images, labels = (found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64)
    data = {"data": images[:-HELD_OUT], "label": labels[:-HELD_OUT]}
    unseen, expected = torch.from_numpy(images[-HELD_OUT:]), torch.from_numpy(labels[-HELD_OUT:])
    for has_pool in (False, True):
        network, seconds = train(data, epochs, has_pool=has_pool)
        what = "with a pool" if has_pool else "without a pool"
        print(f"{what}: {network.num_trainable_parameters()} parameters, {seconds:.0f} s")
        for times in (1, 3, 10):
            votes = network.classify(unseen, times * HORIZON)
            right = (votes.argmax(1) == expected).float().mean()
            print(f"  {times * HORIZON:4d} steps: majority right {right:.3f}, all cells agree {agreement(votes):.3f}")


if __name__ == "__main__":
    main()
