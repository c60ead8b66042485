"""A training step in TensorFlow and by the native roll-out: ``python -m benchmarks.keras_nca``.

One model, one batch and the same masks: the growing workload, in which half of the cells live. Both sides take turns,
and each uses one thread. Prints seconds per step, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import torch

from delira_nca.machine import cpu_name
from delira_nca.models import BasicNCAModel, presets
from delira_nca.models.tf import KerasNCA
from delira_nca.rollout import native_library


def main() -> None:
    """Measure both sides in turns."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=72)
    parser.add_argument("--steps", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    torch.manual_seed(0)
    model = BasicNCAModel(**presets.growing())
    torch.nn.init.normal_(model.rule.last.weight, std=1e-3)
    twin, size = KerasNCA(model), given.size
    axis = torch.arange(size) - (size - 1) / 2
    living = (axis[:, None] ** 2 + axis**2 < (0.4 * size) ** 2).float()
    x = living * torch.rand(8, 16, size, size)
    start = tf.constant(np.moveaxis(x.numpy(), 1, -1))

    def native() -> float:
        model.zero_grad()
        loss = model(x, given.steps, seed=1).output_image.square().mean()
        loss.backward()
        return float(loss)

    @tf.function
    def step(state: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(twin(state, steps=steps, seed=1) ** 2)
        return loss, tape.gradient(loss, twin.trainable_variables)

    def tensorflow() -> float:
        loss, gradients = step(start, tf.constant(given.steps))
        np.asarray(gradients[-1])
        return float(loss)

    sides = {"native": native, "TensorFlow": tensorflow}
    losses = {name: run() for name, run in sides.items()}
    assert abs(losses["native"] / losses["TensorFlow"] - 1) < 1e-4, losses
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(given.rounds):
        for name, run in sides.items():
            begin = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - begin)
    for name, seconds in spent.items():
        print(f"{name:11} median {statistics.median(seconds):.3f} s, {min(seconds):.3f} to {max(seconds):.3f} s")
    ratio = statistics.median(spent["TensorFlow"]) / statistics.median(spent["native"])
    library = "none" if not native_library.available() else native_library.available()[-1]
    print(f"ratio {ratio:.1f}, on {cpu_name()}, native library {library}")


if __name__ == "__main__":
    main()
