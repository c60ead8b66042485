"""Segmentation of nuclei with the defaults of ``delira-nca segment``: ``python -m benchmarks.segment --root FOLDER``.

The left half of the picture, cut into tiles, is the folder of images. The right half is predicted, and compared with
its mask.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from delira_nca.data_loading import sources
from delira_nca.machine import cpu_name
from delira_nca.segmentation import case_scores, predict_folder, segment

TILE = 128


def write_halves(root: str | None, folder: Path) -> np.ndarray:
    """Write the tiles of the left half and the right half, and return the mask of the right half."""
    found = sources.open("nuclei_2d", root)
    image, mask = np.squeeze(found["data"]).astype(np.float32), np.squeeze(found["label"])
    low, high = float(image.min()), float(image.max())
    grey = np.round(255 * (image - low) / (high - low)).astype(np.uint8)
    for name in ("images", "masks", "new"):
        (folder / name).mkdir()
    middle = grey.shape[1] // 2
    places = [(row, column) for row in range(0, len(grey), TILE) for column in range(0, middle, TILE)]
    for number, (row, column) in enumerate(places):
        for name, array in (("images", grey), ("masks", mask.astype(np.uint16))):
            tile = array[row : row + TILE, column : column + TILE]
            Image.fromarray(tile).save(folder / name / f"tile{number}.png")
    Image.fromarray(grey[:, middle:]).save(folder / "new" / "right.png")
    return (mask[:, middle:] > 0).astype(np.int64)


def main() -> None:
    """Train, predict, and print the scores of the right half."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", help="package file of the picture, or its folder")
    parser.add_argument("--minutes", type=float, default=5.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = write_halves(given.root, folder)
        begin = time.perf_counter()
        result = segment(folder / "images", folder / "masks", folder / "run", minutes=given.minutes, progress=False)
        seconds = time.perf_counter() - begin
        [case] = predict_folder(result.folder, folder / "new", folder / "masks of new")
        found = case_scores(np.array(Image.open(case.mask)), reference, values=[1])[1]
    told = ", ".join(f"{score} {value:.3f}" for score, value in found.items())
    print(f"{seconds:.0f} s on {cpu_name()}; the right half: {told}")


if __name__ == "__main__":
    main()
