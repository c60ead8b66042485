"""Nuclei in 3D: an automaton is trained on small boxes of one half of a volume and segments the other half.

The model differs from the two-dimensional one only in ``dims=3``. The boxes do not overlap the test half. The test half
is predicted at once, and again in tiles with a margin as wide as the reach of the steps; both predictions are equal.

Run ``python examples/nuclei_3d.py --root PATH`` with the package file of the volume, or its folder (``delira-nca data
list`` names it). ``--data synthetic`` uses computed blobs, as does ``--quick`` without ``--root``. ``--quick`` takes
about ten seconds, the full example two and a half minutes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.data_loading import DataManager, DictDataset, RandomSamplerWithReplacement, sources
from delira_nca.losses import dice_bce, dice_score
from delira_nca.models import BasicNCAModel, tiled_predict
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientNormalization, ProgressBar, WeightAverage
from delira_nca.visualization import film_strip, save_picture

BOX = (16, 20, 20)


def volume(data: str, root: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(1, D, H, W) volume in [0, 1] and the mask of its nuclei."""
    if data == "synthetic":
        found = sources.open("blobs", num_samples=1, shape=(24, 32, 48), noise=0.2)
        image, mask = found["data"][0], found["label"][0]
    else:
        found = sources.open("nuclei_3d", root)
        image, mask = found["data"].astype(np.float32), (found["label"] > 0).astype(np.uint8)
    low, high = np.percentile(image, (1, 99.8))
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32), mask.astype(np.float32)


def crop(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Crop a random box from each sample, randomly mirrored along each axis and rotated within the slices."""
    image, mask = batch["data"], batch["label"]
    images, masks = [], []
    for sample in range(len(image)):
        first = [np.random.randint(length - cells + 1) for length, cells in zip(image.shape[2:], BOX, strict=True)]
        place = (sample, slice(None), *(slice(at, at + cells) for at, cells in zip(first, BOX, strict=True)))
        mirrored = (..., *(slice(None, None, 1 - 2 * np.random.randint(2)) for _ in BOX))
        turns = np.random.randint(4)
        images.append(np.rot90(image[place], turns, (2, 3))[mirrored])
        masks.append(np.rot90(mask[place], turns, (2, 3))[mirrored])
    return {"data": np.stack(images), "label": np.stack(masks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use a smaller automaton and fewer epochs")
    parser.add_argument(
        "--data",
        choices=("nuclei", "synthetic"),
        help="nuclei (default), or computed blobs (default with --quick)",
    )
    parser.add_argument("--root", help="package file of the volume, or its folder")
    parser.add_argument("--out", type=Path, default=Path("runs/nuclei-3d"), help="folder of the run")
    options = parser.parse_args()
    if options.data is None:
        options.data = "synthetic" if options.quick and options.root is None else "nuclei"
        if options.data == "synthetic":
            print("--quick takes computed blobs; --data nuclei takes the nuclei")
    image, mask = volume(options.data, options.root)
    middle = image.shape[3] // 2
    left = DictDataset({"data": image[None, ..., :middle], "label": mask[None, ..., :middle]})
    iterations, epochs = (10, 2) if options.quick else (80, 24)
    with isolated_rng(0):
        network = BasicNCAModel(
            dims=3,
            num_image_channels=1,
            num_hidden_channels=6 if options.quick else 14,
            num_output_channels=1,
            hidden_size=24 if options.quick else 64,
            training_timesteps=(8, 11) if options.quick else (16, 21),
            inference_timesteps=9 if options.quick else 18,
        )
    batch = 2 if options.quick else 4
    data = DataManager(
        left, batch, transforms=crop, sampler_cls=RandomSamplerWithReplacement, num_samples=batch * iterations
    )
    average = WeightAverage(0.9 if options.quick else 0.98, validate=False)
    trainer = PyTorchNetworkTrainer(
        network,
        options.out,
        {"dice_bce": dice_bce},
        torch.optim.Adam,
        {"lr": 6e-3 if options.quick else 2e-3},
        {"dice": dice_score},
        torch.optim.lr_scheduler.CosineAnnealingLR,
        {"T_max": epochs, "eta_min": 1e-4},
        callbacks=[GradientNormalization(), average, ProgressBar()],
    )
    begin = time.perf_counter()
    with data:
        trainer.train(epochs, data)
    seconds = time.perf_counter() - begin
    network = average.network.eval()
    right, label = (torch.from_numpy(array[None, ..., middle:].copy()) for array in (image, mask))
    prediction = network.predict(right).pred
    shape = " x ".join(map(str, right.shape[2:]))
    print(f"{network.num_trainable_parameters()} parameters, {epochs * iterations} iterations, {seconds:.0f} s")
    print(f"Dice of the right half, {shape}: {float(dice_score(prediction, label)):.4f}")
    tiled = tiled_predict(network, right, tile=16)
    print(f"largest difference to a prediction in tiles of 16 x 16 x 16: {float((tiled - prediction).abs().max()):.0e}")
    depths = np.linspace(0.2, 0.8, 4) * right.shape[2]
    slices = torch.cat([part[0, 0, depths.astype(int)] for part in (right, (prediction > 0).float(), label)])
    strip = film_strip((255 * slices).to(torch.uint8)[..., None].expand(*slices.shape, 3), 4, rows=3, gap=2)
    options.out.mkdir(parents=True, exist_ok=True)
    save_picture(strip, options.out / "slices.png", scale=3)
    print(options.out / "slices.png")


if __name__ == "__main__":
    main()
