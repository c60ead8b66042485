"""Cross-validation with three folds of a tiny automaton that segments nuclei, killed midway, resumed and tested.

A picture of 512 x 512 pixels is cut into patches; adjacent patches are in the same fold. The channels of the automaton
are the fixed image, hidden channels and the output mask.

Run ``python examples/experiment.py --root PATH`` with the package file of the picture, or its folder (``delira-nca data
list`` names it). ``--data synthetic`` uses computed discs, as does ``--quick`` without ``--root``. ``--quick`` takes
less than a minute.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from delira_nca.data_loading import DictDataset, sources
from delira_nca.errors import DeliraNCAError
from delira_nca.experiment.experiment import Experiment
from delira_nca.experiment.folds import KFoldResult
from delira_nca.experiment.parameters import Parameters
from delira_nca.losses import dice_bce, dice_score
from delira_nca.models import BasicNCAModel
from delira_nca.training.callbacks import GradientNormalization
from delira_nca.visualization import save_picture

PLACE, PATCH = 128, 64
METRICS = {"dice": dice_score}


def cut(pictures: np.ndarray, size: int) -> np.ndarray:
    """Cut (N, 1, H, W) pictures into (N * n, 1, size, size) squares."""
    height, width = pictures.shape[2] // size, pictures.shape[3] // size
    squares = pictures[:, :, : height * size, : width * size].reshape(-1, 1, height, size, width, size)
    return squares.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 1, size, size)


def patches(data: str, root: str | None) -> DictDataset:
    """Patches with their masks and the number of the place of each."""
    if data == "synthetic":
        found = sources.open("discs", num_samples=16, shape=(PLACE, PLACE), noise=0.2)
        pictures, masks = found["data"], found["label"]
    else:
        found = sources.open("nuclei_2d", root)
        pictures, masks = found["data"][None].astype(np.float32), (found["label"] > 0).astype(np.uint8)[None]
    low, high = np.percentile(pictures, (1, 99.8))
    pictures, masks = cut(np.clip((pictures - low) / (high - low), 0, 1), PLACE), cut(masks, PLACE)
    images, labels = cut(pictures, PATCH), cut(masks, PATCH)
    return DictDataset({"data": images, "label": labels, "place": np.arange(len(images)) // (len(images) // 16)})


def augment(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rotate a batch randomly by a multiple of 90 degrees and mirror it randomly."""
    turns, mirrored = np.random.randint(4), np.random.randint(2)
    turned = {name: np.rot90(batch[name], turns, (2, 3)) for name in ("data", "label")}
    return {name: np.ascontiguousarray(array[..., :: 1 - 2 * mirrored]) for name, array in turned.items()}


def experiment(options: argparse.Namespace) -> Experiment:
    """Create the experiment from the options."""
    num_epochs = 3 if options.quick else 30
    config = Parameters(
        fixed_params={
            "model": {
                "num_image_channels": 1,
                "num_hidden_channels": 8 if options.quick else 19,
                "num_output_channels": 1,
                "hidden_size": 32 if options.quick else 64,
                "training_timesteps": (6, 9) if options.quick else (18, 25),
                "inference_timesteps": 8 if options.quick else 24,
            },
            "training": {
                "criterions": {"dice_bce": dice_bce},
                "metrics": METRICS,
                "lr_scheduler_cls": "CosineAnnealingLR",
                "lr_scheduler_params": {"T_max": num_epochs},
                "callbacks": [GradientNormalization],
                "num_epochs": num_epochs,
                "batch_size": 8,
            },
        },
        variable_params={"training": {"optimizer_params": {"lr": 1e-2 if options.quick else 5e-3}}},
    )
    return Experiment(config, BasicNCAModel, options.data, options.out, "dice", "highest")


def cross_validate(options: argparse.Namespace, resume: str) -> KFoldResult:
    """Train and test three folds."""
    return experiment(options).kfold(
        patches(options.data, options.root),
        METRICS,
        num_splits=3,
        split_type="grouped",
        group_key="place",
        val_split=3,
        train_kwargs={"transforms": augment},
        resume=resume,
    )


def train_and_be_killed(options: argparse.Namespace) -> None:
    """Start the cross-validation in another process, and kill it during the second fold."""
    folds = Path(options.out) / options.data
    before = set(folds.glob("kfold*"))
    process = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--only-train"])
    while process.poll() is None:
        new = set(folds.glob("kfold*")) - before
        if any(list(folder.glob("fold_1/checkpoints/checkpoint_epoch_2.safetensors")) for folder in new):
            process.kill()  # SIGKILL: the process cannot save anything
            break
        time.sleep(0.01)
    if process.wait() == 0:
        raise SystemExit("the training was done before it could be killed")
    print(f"killed in the second fold (status {process.returncode})")


def dice_of_threshold(data: DictDataset) -> float:
    """Dice score of the best global brightness threshold, chosen with the masks."""
    images, masks = data.arrays["data"], data.arrays["label"] > 0

    def dice(inside: np.ndarray) -> float:
        common, total = (inside & masks).sum((1, 2, 3)), inside.sum((1, 2, 3)) + masks.sum((1, 2, 3))
        return float(np.where(total > 0, 2 * common / np.maximum(total, 1), 1.0).mean())

    return max(dice(images > threshold) for threshold in np.linspace(0.02, 0.8, 40))


def draw(data: DictDataset, result: KFoldResult, path: Path, columns: int = 8) -> None:
    """Draw rows of patches of the first fold, their predictions and their masks."""
    fold = result.folds[0]
    shown = data.take(fold.indices[:columns])
    mask = np.asarray(fold.predictions)[:columns] > 0
    parts = np.stack([shown["data"][:, 0], mask[:, 0], shown["label"][:, 0]])
    rows = [np.concatenate(row, axis=1) for row in np.pad(parts, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.5)]
    grey = (255 * np.concatenate(rows)).astype(np.uint8)
    save_picture(np.repeat(grey[..., None], 3, axis=2), path, scale=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use a smaller automaton and fewer epochs")
    parser.add_argument(
        "--data",
        choices=("nuclei", "synthetic"),
        help="nuclei (default), or computed discs (default with --quick)",
    )
    parser.add_argument("--root", help="package file of the nuclei, or its folder")
    parser.add_argument("--out", default="runs", help="folder of the experiment")
    parser.add_argument("--only-train", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data is None:
        options.data = "synthetic" if options.quick and options.root is None else "nuclei"
        if options.data == "synthetic":
            print("--quick takes computed discs; --data nuclei takes the nuclei")
    try:
        data = patches(options.data, options.root)
    except DeliraNCAError as error:
        parser.error(f"{error}. Here it is --root PATH; --data synthetic needs no file")
    if options.only_train:
        cross_validate(options, "never")
        return
    train_and_be_killed(options)
    result = cross_validate(options, "auto")
    print(result)
    fold = result.folds[0]
    again = Experiment.load(fold.folder)
    _, scores = again.test(fold.folder, data.get_subset(fold.indices), METRICS)
    print(f"fold 0, tested again from its files: {scores['dice']:.4f}")
    print(f"the best threshold on brightness: {dice_of_threshold(data):.4f}")
    picture = result.folder / "predictions.png"
    draw(data, result, picture)
    print(picture)


if __name__ == "__main__":
    main()
