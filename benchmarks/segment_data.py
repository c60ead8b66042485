"""Folders of real cases for the benchmark of ``delira-nca segment``: nuclei, a brain, and the CT of a trunk.

Each comes from one image, of which one half is trained on and the other one is predicted. A fitted model has seen
neither the other half nor its mask, but both are of one preparation or person: a demonstration, not a benchmark of
accuracy.
"""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from delira_nca.data_loading import sources

__all__ = ["TASKS", "write_task"]

Array = npt.NDArray[np.generic]

_TILE = 128
_GREY_NUCLEI = range(71, 79)
"""Caudate, putamen, pallidum and thalamus in the atlas AAL, of both hemispheres."""
_ORGANS = {
    "liver": (5,),
    "spleen": (1,),
    "stomach": (6,),
    "aorta": (52,),
    "back muscles": (86, 87),
    "spine": (30, 31, 32),
}
"""Numbers of TotalSegmentator."""
_SLICES = 20
_CT = "tests/reference_files/example_{}.nii.gz"


def nuclei(root: Path, folder: Path) -> None:
    """Write tiles of the left half of a picture with 125 nuclei; the right half is new."""
    found = sources.open("nuclei_2d", str(root))
    image, mask = np.squeeze(found["data"]).astype(np.float32), np.squeeze(found["label"])
    low, high = float(image.min()), float(image.max())
    grey, numbers = np.round(255 * (image - low) / (high - low)).astype(np.uint8), mask.astype(np.uint16)
    middle = grey.shape[1] // 2
    places = [(row, column) for row in range(0, len(grey), _TILE) for column in range(0, middle, _TILE)]
    for number, (row, column) in enumerate(places):
        for name, array in (("images", grey), ("masks", numbers)):
            tile = array[row : row + _TILE, column : column + _TILE]
            Image.fromarray(tile).save(folder / name / f"tile{number}.png")
    Image.fromarray(grey[:, middle:]).save(folder / "new" / "right.png")
    Image.fromarray(numbers[:, middle:]).save(folder / "reference" / "right.png")


def brain(root: Path, folder: Path) -> None:
    """Write the deep grey nuclei of the left hemisphere in four fields of view; the mirrored right one is new."""
    found = sources.open("ch2", str(root))
    image = (found["data"] * found["brain"])[0, :, 76:164, 40:112].astype(np.float32)
    mask = np.isin(found["label"][0, :, 76:164, 40:112], _GREY_NUCLEI).astype(np.uint8)
    _write_views((folder / "images", folder / "masks"), image[50:90], mask[50:90], (1.0, 1.0, 1.0), (4, 8, 6))
    _save(folder / "new" / "right.nii.gz", image[::-1][50:90], (1.0, 1.0, 1.0))
    _save(folder / "reference" / "right.nii.gz", mask[::-1][50:90], (1.0, 1.0, 1.0))


def ct(root: Path, folder: Path) -> None:
    """Write six organs in the lower 60 mm of a trunk (voxels of 3 mm); the 30 mm above have other voxels.

    The masks are the output of another model, TotalSegmentator. The new volume has voxels of 2 x 2 x 4.5 mm.
    """
    image, organs = (_of_total_segmentator(root, name).astype(np.float32) for name in ("ct_sm", "seg"))
    mask = np.zeros(organs.shape, np.uint8)
    for value, numbers in enumerate(_ORGANS.values(), 1):
        mask[np.isin(organs, numbers)] = value
    raw = folder / "images"
    folders = (raw / "imagesTr", raw / "labelsTr")
    _write_views(folders, image[..., :_SLICES], mask[..., :_SLICES], (3.0, 3.0, 3.0), (8, 8, 2), "_0000")
    labels = {"background": 0, **{name: value for value, name in enumerate(_ORGANS, 1)}}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 4, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    sizes = (2.0, 2.0, 4.5)
    new, reference = image[..., _SLICES:], mask[..., _SLICES:]
    at = [
        np.minimum(((np.arange(int(n * 3 / size)) + 0.5) * size / 3).astype(int), n - 1)
        for n, size in zip(new.shape, sizes, strict=True)
    ]
    _save(folder / "new" / "above_0000.nii.gz", new[np.ix_(*at)], sizes)
    _save(folder / "reference" / "above.nii.gz", reference[np.ix_(*at)], sizes)


TASKS: dict[str, Callable[[Path, Path], None]] = {"nuclei": nuclei, "brain": brain, "ct": ct}


def write_task(task: str, root: Path, folder: Path) -> tuple[Path, Path | None]:
    """Write the images and masks of a task, and the folders ``new`` and ``reference`` with one image and its mask.

    Returns
    -------
    tuple
        Arguments ``images`` and ``masks`` of :func:`delira_nca.segmentation.segment`.
    """
    for name in ("images", "masks", "new", "reference"):
        (folder / name).mkdir()
    TASKS[task](root, folder)
    return folder / "images", folder / "masks" if any((folder / "masks").iterdir()) else None


def _write_views(
    folders: tuple[Path, Path],
    image: Array,
    mask: Array,
    spacing: Sequence[float],
    margin: Sequence[int],
    ending: str = "",
) -> None:
    """Write four fields of view of a volume, each of which lacks a margin at another corner."""
    for number in range(4):
        signs = (number & 1, number >> 1, (number & 1) ^ (number >> 1))
        region = tuple(
            slice(by, None) if sign else slice(None, n - by)
            for sign, by, n in zip(signs, margin, image.shape, strict=True)
        )
        _save(folders[0] / f"view{number}{ending}.nii.gz", image[region], spacing)
        _save(folders[1] / f"view{number}.nii.gz", mask[region], spacing)


def _save(path: Path, array: Array, spacing: Sequence[float]) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


def _of_total_segmentator(root: Path, name: str) -> Array:
    import nibabel

    archive = next(iter(sorted(root.glob("*otal*egmentator-2.9.0.tar.gz"))), None)
    if archive is None:
        command = "pip download --no-deps --no-binary :all: totalsegmentator==2.9.0"
        raise SystemExit(f"{root} has no totalsegmentator-2.9.0.tar.gz: {command}")
    with tarfile.open(archive) as opened:
        member = next(part for part in opened.getmembers() if part.name.endswith(_CT.format(name)))
        file = opened.extractfile(member)
        assert file is not None
        return np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(file.read())).get_fdata())
