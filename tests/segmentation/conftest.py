"""Small folders of images and masks."""

import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from delira_nca.segmentation import segment


def disc(shape, centre, radius):
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((grid - at) ** 2 for grid, at in zip(grids, centre, strict=True)) <= radius**2


def write_pictures(folder, number=4, shape=(40, 48), value=1):
    """Noisy bright discs as PNG files."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(number):
        size = (shape[0] + 4 * index, shape[1])
        mask = disc(size, (14 + 3 * index, 16 + 4 * index), 7)
        image = np.clip(60 + 120 * mask + rng.normal(0, 15, size), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"case{index}.png")
        Image.fromarray((value * mask).astype(np.uint8)).save(folder / "masks" / f"case{index}.png")
    return folder


AFFINES = {
    "plain": np.diag([1.0, 1.0, 1.0, 1.0]),
    "flipped": np.array([[-1.0, 0, 0, 40], [0, 1, 0, -3], [0, 0, 1, 5], [0, 0, 0, 1]]),
    "anisotropic": np.diag([0.8, 0.8, 2.4, 1.0]),
    "oblique": np.array([[0.96, -0.28, 0, 2], [0.28, 0.96, 0, 0], [0, 0, 1.2, 0], [0, 0, 0, 1.0]]),
}


def write_volumes(folder, affines=tuple(AFFINES), shape=(18, 20, 16), values=(1, 2)):
    """Volumes with two balls, with the layout of nnU-Net."""
    rng = np.random.default_rng(1)
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(affines):
        mask = np.zeros(shape, np.uint8)
        mask[disc(shape, (6, 7, 8), 4)] = values[0]
        mask[disc(shape, (12, 13, 7 + index), 3)] = values[1]
        image = (100 + 300.0 * (mask == values[0]) + 600.0 * (mask == values[1]) + rng.normal(0, 40, shape)).astype("f")
        for path, array in (
            (f"imagesTr/{name}_0000", image),
            (f"imagesTs/{name}_0000", image),
            (f"labelsTr/{name}", mask),
        ):
            nibabel.save(nibabel.Nifti1Image(array, AFFINES[name]), folder / f"{path}.nii.gz")
    labels = {"background": 0, "large": values[0], "small": values[1]}
    description = {
        "channel_names": {"0": "MR"},
        "labels": labels,
        "numTraining": len(affines),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.fixture
def make_volumes():
    """Function that writes volumes with given affine matrices into a folder."""
    return write_volumes


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def volumes(tmp_path):
    return write_volumes(tmp_path / "volumes")


@pytest.fixture(scope="session")
def trained_pictures(tmp_path_factory):
    """A short run on pictures, with the folder of its data."""
    folder = write_pictures(tmp_path_factory.mktemp("segmentation"))
    return segment(folder / "images", folder / "masks", folder / "run", epochs=3, iterations=20, progress=False), folder


@pytest.fixture(scope="session")
def trained_volumes(tmp_path_factory):
    """A short run on volumes, with the folder of its data."""
    folder = write_volumes(tmp_path_factory.mktemp("volumes"))
    return segment(folder, out=folder / "run", epochs=3, iterations=12, progress=False), folder
