"""Segmentation of a folder of images: plan, training, report and masks of other images.

Run ``python examples/segment_folder.py IMAGES MASKS NEW_IMAGES``, or without folders for computed discs. ``--quick``
takes a few seconds.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from delira_nca.data_loading import sources
from delira_nca.segmentation import predict_folder, segment

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folders", nargs="*", help="folders of images, masks and new images")
parser.add_argument("--quick", action="store_true", help="train for a few seconds only")
options = parser.parse_args()


def write_discs(root: Path) -> list[Path]:
    """Write pictures of noisy discs and their masks, as files that a user might have."""
    found = sources.open("discs", num_samples=16, shape=(96, 128), noise=0.25)
    for number, (image, mask) in enumerate(zip(found["data"], found["label"], strict=True)):
        is_new = number >= 12
        for name, array in (
            ("new_images" if is_new else "images", image[0]),
            ("new_masks" if is_new else "masks", mask[0]),
        ):
            (root / name).mkdir(parents=True, exist_ok=True)
            values = 255 * np.clip(0.2 + 0.6 * array, 0, 1) if "images" in name else array
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"disc{number:02}.png")
    return [root / name for name in ("images", "masks", "new_images")]


images, masks, new_images = map(Path, options.folders) if options.folders else write_discs(Path("runs/discs-data"))
length = {"epochs": 3, "iterations": 15} if options.quick else {"minutes": 2.0}
result = segment(images, masks, "runs/discs", **length)
print(f"mean Dice of the held-out cases: {result.dice:.3f}")
for case in predict_folder(result.folder, new_images, "runs/discs-masks", doubt=True):
    print(f"{case.name}: {case.sizes[1]:.0f} cells, doubt {case.doubt:.3f}{', alarm' if case.alarm else ''}")
print("runs/discs/report.html")
