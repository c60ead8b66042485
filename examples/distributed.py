"""Distributed training of one growing automaton over several processes, on one machine or on several.

Run ``python examples/distributed.py``: the script starts itself with torchrun in two processes on this machine. Under
torchrun, the script is one of the processes. :func:`main` does not depend on this: a single process reaches the same
weights up to rounding. ``--quick`` takes less than a minute.
"""

import argparse
import os
import subprocess
import sys

import torch

from delira_nca.data_loading import DataManager, repeat, sources
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import GradientNormalization, PoolUpdate, ProgressBar
from delira_nca.training.distributed import gather, is_main


def main(quick: bool) -> None:
    size, grid, steps, epochs, iterations = (12, 24, (12, 20), 3, 8) if quick else (24, 56, (40, 56), 32, 50)
    torch.manual_seed(0)
    target = sources.place(sources.dahlia(size), grid)
    seed = make_seed(16, (grid, grid))
    data = DataManager(repeat({"data": seed, "label": target}, 8 * iterations), batch_size=8)  # global batch
    pool = SamplePool(seed, capacity=256)
    trainer = PyTorchNetworkTrainer(
        BasicNCAModel(**presets.growing(training_timesteps=steps, inference_timesteps=steps[1])),
        "runs/distributed",
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 3e-3},
        callbacks=[GradientNormalization(), PoolUpdate(pool), ProgressBar()],
    )
    network = trainer.train(epochs, data)
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    everywhere = gather((len(pool.states), weights.tolist()))
    if is_main():
        held, all_weights = zip(*everywhere, strict=True)
        print(f"states of the pool in each process: {', '.join(map(str, held))}")
        print(f"weights are the same everywhere: {all(one == all_weights[0] for one in all_weights)}")
        print(f"runs/distributed/checkpoint_epoch_{epochs}.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run a few iterations on a small grid")
    parser.add_argument("--processes", type=int, default=2, help="number of processes on this machine")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        main(arguments.quick)
    else:
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={arguments.processes}"]
        sys.exit(subprocess.run([sys.executable, "-m", *torchrun, *sys.argv]).returncode)
