"""Errors in a folder are reported before the training, with the names of the cases."""

import json
import logging

import nibabel
import numpy as np
import pytest
from PIL import Image

from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError
from delira_nca.segmentation import Fingerprint, open_cases, segment
from delira_nca.segmentation import training as module


def save(path, array):
    Image.fromarray(array).save(path)


def unequal(folder):
    save(folder / "masks/case1.png", np.ones((8, 8), np.uint8))


def colours(folder):
    save(folder / "images/case2.png", np.zeros((48, 48, 3), np.uint8))


def sixteen_bit_colour(folder):
    (folder / "images/case1.png").unlink()
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(folder / "images/case1.tif", np.zeros((44, 48, 3), np.uint16), photometric="rgb")


def empty(folder):
    for path in (folder / "masks").iterdir():
        save(path, np.zeros(np.array(Image.open(path)).shape, np.uint8))


def alone(folder):
    for path in [*folder.glob("*/case1.png"), *folder.glob("*/case2.png"), *folder.glob("*/case3.png")]:
        path.unlink()


def damaged(folder):
    for number in (1, 3):
        path = folder / f"images/case{number}.png"
        path.write_bytes(path.read_bytes()[:60])


def other_values(folder):
    path = folder / "masks/case3.png"
    save(path, 255 * np.array(Image.open(path)))


def lossy(folder):
    for path in (folder / "masks").iterdir():
        mask = 255 * np.array(Image.open(path))
        mask[0, :6], mask[mask == 255] = [1, 2, 3, 5, 7, 9], 252
        save(path, mask)


PICTURES = {
    "a mask is missing": (lambda f: (f / "masks/case2.png").unlink(), "case2"),
    "an image is missing": (lambda f: (f / "images/case2.png").unlink(), "case2"),
    "unequal sizes": (unequal, "1 of 4 cases cannot be used(?s:.*)case1(?s:.*)(8, 8|8 x 8)"),
    "mixed channels": (colours, "differ in their number of channels: 1 in 'case0', 'case1', 'case3'; 3 in 'case2'"),
    "16-bit colour beside grey": (sixteen_bit_colour, "differ in their number of channels(?s:.*)case1"),
    "empty masks": (empty, "all masks are empty"),
    "one case": (alone, "there is one case, 'case0': at least two"),
    "unreadable files": (damaged, "2 of 4 cases cannot be used(?s:.*)case1(?s:.*)case3"),
    "0 and 1 beside 0 and 255": (other_values, "foreground is 255 in the masks of 'case3', and 1 in those of 'case0'"),
    "masks of lossy compression": (lossy, "lossy compression(?s:.*)--binarise 127"),
    "no masks at all": (lambda f: [path.unlink() for path in (f / "masks").iterdir()], "mask"),
}


@pytest.mark.parametrize("case", PICTURES)
def test_wrong_pictures_are_told_by_name_and_nothing_is_written(case, pictures, tmp_path):
    spoil, message = PICTURES[case]
    spoil(pictures)
    with pytest.raises(DeliraNCAError, match=message):
        segment(pictures / "images", pictures / "masks", tmp_path / "run", epochs=1, iterations=1, progress=False)
    assert not (tmp_path / "run").exists()


def other_label(folder):
    path = folder / "labelsTr/flipped.nii.gz"
    image = nibabel.load(path)
    array = np.array(image.dataobj)
    array[0, 0, 0] = 7
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)


def other_geometry(folder):
    path = folder / "labelsTr/plain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.array(nibabel.load(path).dataobj), np.diag([2.0, 1, 1, 1])), path)


def described(folder, **labels):
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, "labels": labels}))


def no_numbers(folder):
    path = folder / "imagesTr/plain_0000.nii.gz"
    array = np.array(nibabel.load(path).dataobj)
    array[3] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


VOLUMES = {
    "a label that is not declared": (other_label, "flipped(?s:.*)7"),
    "other geometry": (other_geometry, "plain(?s:.*)does not lie over"),
    "NaN": (no_numbers, "plain(?s:.*)NaN or infinite"),
    "a mask is missing": (lambda f: (f / "labelsTr/oblique.nii.gz").unlink(), "oblique"),
    "a region": (
        lambda f: described(f, background=0, whole=[1, 2], small=2),
        "'whole' of the dataset.json is a region",
    ),
    "a label to ignore": (lambda f: described(f, background=0, large=1, ignore=2), "'ignore' (.*)is a label to ignore"),
    "no description": (lambda f: (f / "dataset.json").unlink(), "no dataset.json"),
}


@pytest.mark.parametrize("case", VOLUMES)
def test_wrong_volumes_are_told_by_name(case, volumes, tmp_path):
    spoil, message = VOLUMES[case]
    spoil(volumes)
    with pytest.raises(DeliraNCAError, match=message):
        segment(volumes, out=tmp_path / "run", epochs=1, iterations=1, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_told_before_the_training(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_DISK", 2**70)
    with pytest.raises(DeliraNCAError, match="bytes free"):
        segment(pictures / "images", pictures / "masks", tmp_path / "run", epochs=1, iterations=1, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 0}, "minutes"),
        ({"valid": 1.0}, "valid"),
        ({"epochs": 0}, "epochs"),
        ({"groups": {"case0": "a"}}, "3 cases have no group, such as"),
        ({"groups": {**{f"case{n}": str(n) for n in range(4)}, "caes5": "a"}}, "which do not exist. (.*)'case"),
        ({"groups": {f"case{n}": "a" for n in range(4)}}, "all cases are of one group"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, pictures, tmp_path):
    with pytest.raises(ConfigError, match=message):
        segment(pictures / "images", pictures / "masks", tmp_path / "run", progress=False, **options)


def test_a_folder_with_a_run_is_not_overwritten(trained_pictures):
    result, folder = trained_pictures
    with pytest.raises(ConfigError, match="already holds a run"):
        segment(folder / "images", folder / "masks", result.folder, epochs=1, iterations=1, progress=False)


def test_layouts_are_recognised(volumes, pictures):
    assert open_cases(volumes).names == ("anisotropic", "flipped", "oblique", "plain")
    with pytest.raises(ConfigError, match=r"has a dataset.json, which names the masks"):
        open_cases(volumes, volumes / "labelsTr")
    entries = [
        {"image": f"./imagesTr/{name}_0000.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in ("plain", "oblique")
    ]
    description = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "a", "2": "b"}, "training": entries}
    (volumes / "dataset.json").write_text(json.dumps(description))
    assert len(open_cases(volumes)) == 2
    for path in (pictures / "masks").iterdir():
        path.rename(path.with_name(path.stem + "_mask.png"))
    assert len(open_cases(pictures / "images", pictures / "masks", mask_suffix="_mask")) == 4
    with pytest.raises(MissingFileError):
        open_cases(pictures / "imges", pictures / "masks")


def test_the_folder_of_the_data_is_not_that_of_the_run(pictures):
    for name in ("images", "masks"):
        with pytest.raises(ConfigError, match="is a folder of the data"):
            segment(pictures / "images", pictures / "masks", pictures / name, epochs=1, iterations=1, progress=False)


def test_names_of_classes_do_not_depend_on_their_order(volumes):
    described(volumes, background=0, tumour=2, liver=1)
    assert Fingerprint.of(open_cases(volumes)).class_names == {0: "background", 2: "tumour", 1: "liver"}


def test_the_fingerprint_measures_every_case(pictures, volumes, caplog):
    with caplog.at_level(logging.WARNING):
        found = Fingerprint.of(open_cases(pictures / "images", pictures / "masks"))
    assert [case.shape for case in found.cases] == [(40 + 4 * n, 48) for n in range(4)]
    assert found.values == [0, 1]
    assert not found.has_instances
    assert found.cases[0].num_objects == 1
    assert found.extent == 15
    inside = found.cases[0].voxels[1]
    assert found.cases[0].voxels == {0: 40 * 48 - inside, 1: inside}
    assert found.cases[0].intensities[0]["mean"] == pytest.approx(180 / 255, abs=0.02)
    three = Fingerprint.of(open_cases(volumes))
    assert three.channel_names == ("MR",)
    assert three.spacings[0].tolist() == pytest.approx([0.8, 0.8, 2.4])
    assert three.values == [0, 1, 2]
    assert three.class_names == {0: "background", 1: "large", 2: "small"}


def test_a_file_is_no_folder_of_images(tmp_path):
    np.savez(tmp_path / "medmnist.npz", train_images=np.zeros((2, 28, 28), np.uint8), train_labels=[[0], [1]])
    np.save(tmp_path / "image.npy", np.zeros((8, 8)))
    with pytest.raises(ConfigError, match="class for each image and no masks(?s:.*)init classification"):
        open_cases(tmp_path / "medmnist.npz")
    with pytest.raises(ConfigError, match="give the folder of the images"):
        open_cases(tmp_path / "image.npy")
