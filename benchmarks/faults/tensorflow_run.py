"""A training in TensorFlow with everything on that has a state.

``python -m benchmarks.faults.tensorflow_run folder num_epochs [resume] [pause]`` trains and prints each step.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow is imported

import keras
import numpy as np
import tensorflow as tf

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.logging import JSONLSink
from delira_nca.losses import RMSE
from delira_nca.models import make_seed, presets
from delira_nca.models.tf import KerasNCA
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import Checkpoint, EarlyStopping, LambdaCallback, MetricLogger, PoolUpdate
from delira_nca.training.tf import TfNetworkTrainer


class Network(KerasNCA):
    """Automaton with a dropout in front of its rule, which draws from the generators of Keras."""

    def __init__(self, model=None, *, name=None, **arguments):
        super().__init__(model, name=name, **arguments)
        self.dropout = keras.layers.Dropout(0.1)

    def forward_batch(self, batch, drawn, *, train):
        """Drop values of the initial state."""
        return super().forward_batch({**batch, "data": self.dropout(batch["data"], training=train)}, drawn, train=train)


def build(folder, *callbacks):
    """Trainer with a pool, damage, dropout, early stopping, metrics over the set, checkpoints and a log."""
    keras.utils.set_random_seed(0)
    network = Network(
        **presets.growing(num_hidden_channels=4, training_timesteps=(2, 5), inference_timesteps=4, fire_rate=0.5)
    )
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(0, 0.1, w.shape) for w in network.get_weights()])
    pool = SamplePool(make_seed(8, (6, 6)), 7, rng_seed=5)
    return TfNetworkTrainer(
        network,
        folder,
        {"mse": keras.losses.MeanSquaredError()},
        keras.optimizers.Adam,
        {},
        {"rmse": RMSE(), "mae": keras.metrics.MeanAbsoluteError()},
        keras.optimizers.schedules.ExponentialDecay,
        {"initial_learning_rate": 0.01, "decay_steps": 3, "decay_rate": 0.5},
        callbacks=[
            PoolUpdate(pool, num_damaged=1),
            EarlyStopping("mse", patience=50),
            MetricLogger(JSONLSink(Path(folder) / "metrics.jsonl"), every=2),
            Checkpoint(last=0, every_iterations=1),
            *callbacks,
        ],
        seed=3,
    )


def train(trainer, num_epochs, **options):
    """Train until an epoch, and return the state."""
    label = np.random.default_rng(1).uniform(size=(6, 4, 6, 6)).astype(np.float32)
    data = {"data": np.repeat(make_seed(8, (6, 6))[None].numpy(), 6, 0), "label": label}
    first = DataManager(data, 2, sampler_cls=RandomSampler, seed=11)
    with first, DataManager(data, 4, seed=11) as second:
        trainer.train(num_epochs, first, second, val_score_key="mse", val_score_mode="lowest", **options)
    return trainer.state_dict()


def main(folder, num_epochs, *options):
    """Train on one thread, and tell each step."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    def tell(trainer, global_iter_num):
        print("step", global_iter_num + 1, flush=True)
        time.sleep(0.05 * ("pause" in options))

    trainer = build(folder, LambdaCallback(at_iter_done=tell))
    train(trainer, int(num_epochs), resume="auto" if "resume" in options else "never")
    trainer.save_state(Path(folder) / "state.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
