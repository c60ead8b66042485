"""Depth: an automaton estimates the depth of each pixel from a single picture.

The scenes are computed, so that their depth is known exactly. The test scenes differ from the training scenes. A cell
perceives only its neighbours, so that information about the distance of the wall must travel along the floor.
``python examples/depth.py`` takes about six minutes, ``--quick`` a few seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.data_loading.sources import scenes
from delira_nca.losses import abs_rel, rmse, within_ratio
from delira_nca.models.tasks import DepthNCAModel
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientNormalization, ProgressBar, WeightAverage
from delira_nca.visualization import film_strip, save_picture


def grey(maps: torch.Tensor) -> np.ndarray:
    """Convert (N, 1, H, W) depths in [0, 1] to (N, H, W, 3) pixels; near pixels are bright."""
    pixels = (255 * (1 - maps.clamp(0, 1))).byte().numpy()
    return np.repeat(pixels[:, 0, ..., None], 3, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use small pictures and few epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/depth"), help="folder of the run")
    options = parser.parse_args()
    size, number, epochs = (24, 48, 4) if options.quick else (48, 320, 50)
    train, test = (
        scenes(num_samples=count, shape=(size, size), seed=seed)
        for count, seed in ((number, 0), (max(8, number // 5), 1))
    )
    with isolated_rng(0):
        network = DepthNCAModel(
            num_image_channels=3,
            num_hidden_channels=20,
            hidden_size=32 if options.quick else 96,
            fire_rate=0.8,
            shift_free=False,
            use_temporal_encoding=True,
            training_timesteps=(size // 2, size // 2 + 8),
            inference_timesteps=size // 2 + 4,
        )
    average = WeightAverage(0.98, validate=False)
    trainer = PyTorchNetworkTrainer(
        network,
        options.out / "checkpoints",
        optimizer_params={"lr": 2e-3},
        lr_scheduler_cls=torch.optim.lr_scheduler.CosineAnnealingLR,
        lr_scheduler_params={"T_max": epochs, "eta_min": 1e-4},
        callbacks=[GradientNormalization(), average, ProgressBar()],
    )
    begin = time.perf_counter()
    with DataManager(train, 8, sampler_cls=RandomSampler, drop_last=True) as data:
        trainer.train(epochs, data)
    seconds, network = time.perf_counter() - begin, average.network.eval()
    print(f"{network.num_trainable_parameters()} parameters, {epochs} epochs of {number} scenes, {seconds:.0f} s")

    image, label = (torch.from_numpy(test[key]) for key in ("data", "label"))
    found = network.predict(image).pred
    mean_map = torch.from_numpy(train["label"]).mean(0, keepdim=True)
    rivals = {"automaton": found, "mean depth": mean_map.mean(), "mean depth of each cell": mean_map}
    print(f"{len(label)} scenes that it has never seen{'':>8}  abs-rel  RMSE in m  below 1.25")
    for name, depth in rivals.items():
        depth = depth.expand_as(label)
        error, share = float(abs_rel(depth, label)), float(within_ratio(depth, label))
        print(f"{name:>38}  {error:7.3f}  {10 * float(rmse(depth, label)):9.3f}  {share:10.3f}")
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = np.ascontiguousarray((255 * image[:8]).byte().numpy().transpose(0, 2, 3, 1))
    rows = np.concatenate([pictures, grey(found[:8]), grey(label[:8])])
    save_picture(film_strip(rows, 8, rows=3), options.out / "depth.png", scale=2)
    print(options.out / "depth.png")


if __name__ == "__main__":
    main()
