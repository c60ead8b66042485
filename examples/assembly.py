"""A loss that knows what it needs: nuclei are segmented with terms for the mask, the weights and the states.

The loss is an expression of named predictions and targets. ``assemble_for_training`` determines which entries the data
must have, checks them against one batch, and computes the validation losses on whole validation sets, so that they do
not depend on the batch size.

Run ``python examples/assembly.py --root PATH`` with the package file of the picture, or its folder (``delira-nca data
list`` names it); without ``--root`` it uses computed discs. ``--quick`` takes a few seconds, the full example about two
minutes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from delira_nca.assembly import (
    PlotMaker,
    assemble_for_training,
    generate_database_info,
    l2_penalty,
    over_states,
    pred,
    target,
    term,
)
from delira_nca.data_loading import DataManager, DictDataset, sources
from delira_nca.losses import dice_score, soft_dice
from delira_nca.models import BasicNCAModel
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientNormalization, ProgressBar, RolloutLoss
from delira_nca.visualization import film_strip, save_picture

PATCH = 32


def patches(root: str | None) -> dict[str, np.ndarray]:
    """(S, 1, 32, 32) patches of one picture and of the mask of its nuclei."""
    if root is None:
        found = sources.open("discs", num_samples=1, shape=(256, 256), noise=0.2)
        image, mask = found["data"][0, 0], found["label"][0, 0]
    else:
        found = sources.open("nuclei_2d", root)
        image, mask = (np.asarray(found[name]).reshape(found[name].shape[-2:]) for name in ("data", "label"))
    low, high = np.percentile(image, (1, 99.8))
    image = np.clip((image - low) / (high - low), 0, 1)
    rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH

    def cut(picture: np.ndarray) -> np.ndarray:
        squares = picture[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH)
        return squares.transpose(0, 2, 1, 3).reshape(-1, 1, PATCH, PATCH).astype(np.float32)

    return {"data": cut(image), "nuclei": cut(mask > 0)}


def overflow(state: torch.Tensor) -> torch.Tensor:
    """Distance of the states from the range -2 to 2."""
    return (state - state.clamp(-2, 2)).abs().sum(1).mean()


def save_masks(path: Path, image: torch.Tensor, logits: torch.Tensor, nuclei: torch.Tensor) -> None:
    """Draw patches, their predicted masks and their masks."""
    rows = torch.cat([part[:8, 0] for part in (image, (logits > 0).float(), nuclei)])
    grey = (255 * rows.clamp(0, 1)).byte().unsqueeze(-1).expand(-1, -1, -1, 3)
    save_picture(film_strip(grey.numpy(), 8, rows=3), path, scale=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use a smaller automaton and fewer epochs")
    parser.add_argument("--root", help="package file of the nuclei, or its folder")
    parser.add_argument("--out", type=Path, default=Path("runs/assembly"), help="folder of the run")
    options = parser.parse_args()
    data = patches(options.root)
    length = len(data["data"])
    order = np.random.default_rng(0).permutation(length)
    train, valid = (
        {name: value[rows] for name, value in data.items()}
        for rows in (order[: 3 * length // 4], order[3 * length // 4 :])
    )
    with isolated_rng(0):
        network = BasicNCAModel(
            num_image_channels=1,
            num_hidden_channels=8 if options.quick else 14,
            num_output_channels=1,
            hidden_size=32 if options.quick else 64,
            training_timesteps=(8, 12) if options.quick else (20, 28),
            inference_timesteps=10 if options.quick else 24,
        )

    logits, nuclei = pred("output", network), target("nuclei")
    bce = term(F.binary_cross_entropy_with_logits, logits, nuclei, name="bce")
    dice = term(soft_dice, logits, nuclei, name="soft dice")
    states = over_states(RolloutLoss(overflow, name="overflow"))
    loss = bce + 0.5 * dice + 1e-5 * l2_penalty(network) + 0.1 * states
    area = term(torch.mean, term(torch.sigmoid, logits) - nuclei, name="area")
    losses = {
        "dice": term(dice_score, logits, nuclei),
        "area error": term(torch.abs, area),  # of the whole set: positive and negative errors cancel
    }
    plots = PlotMaker({"masks": (save_masks, pred("image"), logits, nuclei)}, options.out / "plots")
    modules, needed = assemble_for_training(loss, losses, plot_maker=plots)
    print(f"the loss {loss}")
    print(f"needs {generate_database_info(**needed, data=train)}")

    trainer = PyTorchNetworkTrainer(
        network,
        options.out / "checkpoints",
        modules.loss,
        torch.optim.Adam,
        {"lr": 5e-3},
        callbacks=[GradientNormalization(), ProgressBar()],
    )
    begin = time.perf_counter()
    with DataManager(DictDataset(train), 8) as batches, DataManager(DictDataset(valid), 8) as held_out:
        trainer.train(2 if options.quick else 40, batches, held_out, "dice", "highest")
    print(f"{len(trainer.history)} epochs in {time.perf_counter() - begin:.0f} s")
    modules.evaluator.network = trainer.best_network()
    for batch_size in (8, 3):
        found = modules.evaluator.evaluate(DataManager(DictDataset(valid), batch_size).get_batchgen(), when="best")
        shown = ", ".join(f"{name} {value:.6f}" for name, value in found.items())
        print(f"validation in batches of {batch_size}: {shown}")
    print(options.out / "plots" / "best_valid_masks.png")


if __name__ == "__main__":
    main()
