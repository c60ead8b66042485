"""Growth of a dahlia from one cell, with the code of the README.

Run ``python examples/grow.py``; ``--quick`` only tests the installation, in less than a minute.
"""

import argparse

import torch

from delira_nca.data_loading import DataManager, repeat, sources
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import GradientNormalization, LRSchedulerCallback, PoolUpdate, ProgressBar
from delira_nca.visualization import save_film, to_rgb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="run a few iterations on a small grid")
quick = parser.parse_args().quick

torch.manual_seed(0)
size, grid, steps, epochs, iterations = (12, 24, (12, 20), 3, 20) if quick else (24, 56, (40, 56), 32, 50)
target = sources.place(sources.dahlia(size), grid)
seed = make_seed(16, (grid, grid))
data = DataManager(repeat({"data": seed, "label": target}, 4 * iterations), batch_size=4)
network = BasicNCAModel(**presets.growing(training_timesteps=steps, inference_timesteps=steps[1]))
schedule = LRSchedulerCallback(torch.optim.lr_scheduler.MultiStepLR, {"milestones": [16, 26], "gamma": 0.3})
callbacks = [GradientNormalization(), PoolUpdate(SamplePool(seed, capacity=256), noise=0.03), schedule, ProgressBar()]
trainer = PyTorchNetworkTrainer(
    network, "runs/flower", {"mse": mse}, torch.optim.Adam, {"lr": 3e-3}, callbacks=callbacks
)
network = trainer.train(epochs, data)
film = network.record(seed[None], steps=2 * steps[1])
save_film([to_rgb(frame.image_channels_np[0]) for frame in film], "runs/flower/growth.gif")
print("runs/flower/growth.gif")
