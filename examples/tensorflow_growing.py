"""Growth of a dahlia from one cell, trained by TensorFlow, and its live page.

Needs the extra ``tf``: ``pip install 'delira_nca[tf]'``. Run ``python examples/tensorflow_growing.py``; ``--quick``
only tests the installation.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported

import keras
import tensorflow as tf
import torch

from delira_nca.data_loading import DataManager, repeat, sources
from delira_nca.export import to_html
from delira_nca.models import make_seed, presets
from delira_nca.models.tf import KerasNCA
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import PoolUpdate, ProgressBar
from delira_nca.training.tf import TfNetworkTrainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="run a few iterations on a small grid")
quick = parser.parse_args().quick


class NormalizedAdam(keras.optimizers.Adam):
    """Adam with gradients of norm 1 for each weight, as in the notebook of the article."""

    def apply(self, grads, trainable_variables=None):
        """Normalize the gradients and update the weights."""
        super().apply([grad / (tf.norm(grad) + 1e-8) for grad in grads], trainable_variables)


torch.manual_seed(0)
size, grid, steps, epochs, iterations = (8, 12, (8, 12), 2, 5) if quick else (18, 32, (32, 48), 24, 50)
target = sources.place(sources.dahlia(size), grid)
seed = make_seed(16, (grid, grid))
data = DataManager(repeat({"data": seed, "label": target}, 4 * iterations), batch_size=4)
network = KerasNCA(**presets.growing(training_timesteps=steps, inference_timesteps=steps[1]))
trainer = TfNetworkTrainer(
    network,
    "runs/tensorflow_flower",
    {"mse": keras.losses.MeanSquaredError()},
    NormalizedAdam,
    lr_scheduler_cls=keras.optimizers.schedules.PiecewiseConstantDecay,
    lr_scheduler_params={
        "boundaries": [epochs * iterations // 2, epochs * iterations * 4 // 5],
        "values": [3e-3, 1e-3, 3e-4],
    },
    callbacks=[PoolUpdate(SamplePool(seed, capacity=128), num_damaged=1, noise=0.03), ProgressBar()],
)
trainer.train(epochs, data)
to_html(network.to_torch(), "runs/tensorflow_flower/live.html", grid=(grid, grid), target=target)
print("runs/tensorflow_flower/live.html")
