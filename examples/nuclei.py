"""Nuclei: an automaton is trained on small patches of the left half of a picture and segments the right half.

An automaton does not depend on the size of its grid: trained on 64 x 64 cells, it runs on 512 x 256 cells.

Run ``python examples/nuclei.py --root PATH`` with the package file of the picture, or its folder (``delira-nca data
list`` names it). ``--data synthetic`` uses computed discs, as does ``--quick`` without ``--root``. ``--quick`` takes
about ten seconds, the full example three and a half minutes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.data_loading import DataManager, DictDataset, RandomSamplerWithReplacement, sources
from delira_nca.losses import dice_bce, dice_score
from delira_nca.models import BasicNCAModel
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientNormalization, ProgressBar, WeightAverage
from delira_nca.visualization import save_picture

PATCH = 64


def picture(data: str, root: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(1, H, W) picture in [0, 1] and the mask of its nuclei."""
    if data == "synthetic":
        found = sources.open("discs", num_samples=1, shape=(256, 256), noise=0.2)
        image, mask = found["data"][0], found["label"][0]
    else:
        found = sources.open("nuclei_2d", root)
        image, mask = found["data"].astype(np.float32), (found["label"] > 0).astype(np.uint8)
        image, mask = image.reshape(1, *image.shape[-2:]), mask.reshape(1, *mask.shape[-2:])
    low, high = np.percentile(image, (1, 99.8))
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32), mask.astype(np.float32)


def crop(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Crop a random patch from each sample, randomly rotated and mirrored."""
    image, mask = batch["data"], batch["label"]
    images, masks = [], []
    for sample in range(len(image)):
        row, column = (np.random.randint(length - PATCH + 1) for length in image.shape[2:])
        place = (sample, slice(None), slice(row, row + PATCH), slice(column, column + PATCH))
        turns, mirrored = np.random.randint(4), 1 - 2 * np.random.randint(2)
        images.append(np.rot90(image[place], turns, (1, 2))[..., ::mirrored])
        masks.append(np.rot90(mask[place], turns, (1, 2))[..., ::mirrored])
    return {"data": np.stack(images), "label": np.stack(masks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use a smaller automaton and fewer epochs")
    parser.add_argument(
        "--data",
        choices=("nuclei", "synthetic"),
        help="nuclei (default), or computed discs (default with --quick)",
    )
    parser.add_argument("--root", help="package file of the picture, or its folder")
    parser.add_argument("--out", type=Path, default=Path("runs/nuclei-halves"), help="folder of the run")
    options = parser.parse_args()
    if options.data is None:
        options.data = "synthetic" if options.quick and options.root is None else "nuclei"
        if options.data == "synthetic":
            print("--quick takes computed discs; --data nuclei takes the nuclei")
    image, mask = picture(options.data, options.root)
    middle = image.shape[2] // 2
    left = DictDataset({"data": image[None, ..., :middle], "label": mask[None, ..., :middle]})
    iterations, epochs = (10, 2) if options.quick else (50, 24)
    with isolated_rng(0):
        network = BasicNCAModel(
            num_image_channels=1,
            num_hidden_channels=8 if options.quick else 14,
            num_output_channels=1,
            hidden_size=32 if options.quick else 64,
            training_timesteps=(14, 19) if options.quick else (22, 29),
            inference_timesteps=16 if options.quick else 25,
        )
    batch = 8
    data = DataManager(
        left, batch, transforms=crop, sampler_cls=RandomSamplerWithReplacement, num_samples=batch * iterations
    )
    average = WeightAverage(0.98, validate=False)
    trainer = PyTorchNetworkTrainer(
        network,
        options.out,
        {"dice_bce": dice_bce},
        torch.optim.Adam,
        {"lr": 4e-3 if options.quick else 2e-3},
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
    prediction = network.predict(right)
    dice = float(dice_score(prediction.pred, label).mean())
    print(f"{network.num_trainable_parameters()} parameters, {epochs * iterations} iterations, {seconds:.0f} s")
    print(f"Dice of the right half, {right.shape[2]} x {right.shape[3]}: {dice:.4f}")
    found = (prediction.pred[0] > 0).float()
    shown = np.concatenate([right[0, 0].numpy(), found[0].numpy(), label[0, 0].numpy()], axis=1)
    options.out.mkdir(parents=True, exist_ok=True)
    save_picture(np.repeat((255 * shown).astype(np.uint8)[..., None], 3, 2), options.out / "right_half.png", scale=1)
    print(options.out / "right_half.png")


if __name__ == "__main__":
    main()
