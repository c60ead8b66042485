"""Digits: an automaton classifies handwritten digits by the mean over its cells.

The data are the 1 797 digits of scikit-learn, 8 x 8 pixels. The last 360 are the test set, used only at the end.
``python examples/digits.py`` takes about two minutes, ``--quick`` a few seconds.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.datasets import load_digits

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.models.tasks import ClassificationNCAModel
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientNormalization, ProgressBar

HELD_OUT = 360


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two epochs")
    options = parser.parse_args()
    epochs = 2 if options.quick else 100
    found = load_digits()
    images, labels = (found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64)
    train = {"data": images[:-HELD_OUT], "label": labels[:-HELD_OUT]}
    with isolated_rng(0):
        network = ClassificationNCAModel(
            num_image_channels=1,
            num_hidden_channels=20,
            num_classes=10,
            hidden_size=96,
            use_classifier=False,
            training_timesteps=12,
            inference_timesteps=12,
        )
    trainer = PyTorchNetworkTrainer(
        network,
        "runs/digits",
        optimizer_params={"lr": 2e-3},
        lr_scheduler_cls=torch.optim.lr_scheduler.CosineAnnealingLR,
        lr_scheduler_params={"T_max": epochs, "eta_min": 1e-4},
        callbacks=[GradientNormalization(), ProgressBar()],
    )
    begin = time.perf_counter()
    with DataManager(train, 32, sampler_cls=RandomSampler) as manager:
        network = trainer.train(epochs, manager)
    seconds = time.perf_counter() - begin
    said = network.classify(torch.from_numpy(images[-HELD_OUT:]), reduce=True).numpy()
    accuracy = (said == labels[-HELD_OUT:]).mean()
    print(f"{network.num_trainable_parameters()} parameters, {epochs} epochs, {seconds:.0f} s")
    print(f"accuracy on {HELD_OUT} digits that it has never seen: {accuracy:.4f}")


if __name__ == "__main__":
    main()
