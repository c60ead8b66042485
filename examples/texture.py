"""Texture: an automaton generates a brick texture from an empty state, on a periodic grid.

The loss compares the responses of fixed random filters, sorted along random lines; it needs no pretrained network.
Run ``python examples/texture.py --root PATH`` with the package file of scikit-image, or its folder (``delira-nca data
list`` names it). ``--data waves`` uses a computed pattern, as does ``--quick`` without ``--root``.
``--quick`` takes a few seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.data_loading import DataManager, repeat, sources
from delira_nca.losses import SlicedTransport, overflow
from delira_nca.models import build_model
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import GradientNormalization, NaNGuard, PoolUpdate, ProgressBar, WeightAverage
from delira_nca.visualization import save_picture


def texture(data: str, root: str | None, size: int) -> np.ndarray:
    """(3, size, size) target in [0, 1]."""
    if data == "waves":
        y, x = np.mgrid[:size, :size] * 2 * np.pi / 16
        return np.stack([0.5 + 0.4 * np.sin(x), 0.5 + 0.4 * np.sin(x + y), 0.5 + 0.4 * np.cos(y)]).astype(np.float32)
    grey = np.squeeze(sources.open(data, root)["data"]).astype(np.float32)
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    shrunk = grey[:256, :256].reshape(128, 2, 128, 2).mean((1, 3))[:size, :size]
    return np.repeat(shrunk[None], 3, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use a small grid and few iterations")
    parser.add_argument(
        "--data",
        choices=("brick", "grass", "gravel", "waves"),
        help="brick (default), another texture, or a computed pattern of waves (default with --quick)",
    )
    parser.add_argument("--root", help="package file of the picture, or its folder")
    parser.add_argument("--out", type=Path, default=Path("runs/texture"), help="folder of the run")
    options = parser.parse_args()
    if options.data is None:
        options.data = "waves" if options.quick and options.root is None else "brick"
        if options.data == "waves":
            print("--quick takes a computed pattern of waves; --data brick takes the bricks")
    size, epochs, iterations, batch = (32, 2, 10, 2) if options.quick else (64, 30, 50, 4)
    target = torch.from_numpy(texture(options.data, options.root, size))
    transport, judge = SlicedTransport(seed=None), SlicedTransport(seed=0)
    with isolated_rng(0):
        network = build_model("texture", {"training_timesteps": (32, 64), "inference_timesteps": 64})
    pool = SamplePool(torch.zeros(network.num_channels, size, size), 64)
    average = WeightAverage(0.98, validate=False)
    trainer = PyTorchNetworkTrainer(
        network,
        options.out / "checkpoints",
        {
            "texture": lambda state, label: transport(state[:, :3] + 0.5, label),
            "overflow": lambda state: overflow(state) / state[0].numel() / len(state),
        },
        torch.optim.Adam,
        {"lr": 1e-3},
        None,
        torch.optim.lr_scheduler.MultiStepLR,
        {"milestones": [18, 26], "gamma": 0.3},
        metric_keys={"texture": ("state", "label"), "overflow": ("state",)},
        callbacks=[
            NaNGuard(),
            GradientNormalization(),
            PoolUpdate(pool, num_seeds=1, seed_every=8, reseed_dead=False, score=lambda x, batch: torch.zeros(len(x))),
            average,
            ProgressBar(),
        ],
    )
    sample = {"data": np.zeros((network.num_channels, size, size), np.float32), "label": target.numpy()}
    begin = time.perf_counter()
    with DataManager(repeat(sample, batch * iterations), batch) as data:
        trainer.train(epochs, data)
    seconds, network = time.perf_counter() - begin, average.network.eval()
    print(f"{network.num_trainable_parameters()} parameters, {epochs * iterations} iterations, {seconds:.0f} s")
    seed, shown, first = torch.zeros(1, network.num_channels, size, size), [target.numpy()], 0.0
    for steps in (0, 64, 640):
        state = network.predict(seed, steps).output_image if steps else seed
        picture = (state[:, :3] + 0.5).clamp(0, 1)
        loss = float(judge(picture, target[None]))
        first = first or loss
        print(f"{steps:4d} steps: texture loss {loss:.5f}, {loss / first:.3f} of that of the seed")
        shown.append(picture[0].numpy())
    options.out.mkdir(parents=True, exist_ok=True)
    rows = (255 * np.concatenate(shown, 2)).astype(np.uint8).transpose(1, 2, 0)
    save_picture(np.ascontiguousarray(rows), options.out / "texture.png", scale=4)
    print(options.out / "texture.png")


if __name__ == "__main__":
    main()
