"""What all readers of cases do: names of files, checks before a training, numbers of any kind."""

import json
import unicodedata

import nibabel
import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading import CaseDataset, DataManager, DecathlonDataset, NNUNetDataset, PairedFolderDataset
from delira_nca.data_loading.readers.cases import Case
from delira_nca.errors import ConfigError, ShapeError


@pytest.fixture
def arrays(tmp_path):
    """Three images with their masks, as arrays."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for number, name in enumerate("abc"):
            np.save(tmp_path / folder / f"{name}.npy", np.full((4, 5), number))
    return tmp_path


def paired(folder, **options):
    return PairedFolderDataset(folder / "images", folder / "masks", **options)


def test_shapes_that_fit_into_no_batch_are_found_with_a_file_of_each(arrays):
    np.save(arrays / "images" / "b.npy", np.ones((6, 5)))
    np.save(arrays / "masks" / "b.npy", np.ones((6, 5)))
    message = (
        r"shapes of 'data' differ: \(1, 4, 5\) in sample 0 \('a'\), '.*images.a.npy', '.*masks.a.npy'; "
        r"\(1, 6, 5\) in sample 1 \('b'\), '.*images.b.npy'.*\n.*shapes of 'label' differ"
    )
    with pytest.raises(ConfigError, match=message):
        paired(arrays).check()
    paired(arrays).check(same_shape=False)
    paired(arrays, resize=4).check()
    with pytest.raises(
        ShapeError, match=r"'data'.*\(1, 6, 5\) in sample 1 \('b'\), '.*b.npy'.*\(1, 4, 5\) in sample 0"
    ):
        next(iter(DataManager(paired(arrays), 3).get_batchgen()))


def test_numbers_of_channels_that_differ_are_found(tmp_path):
    grey = Image.fromarray(np.zeros((8, 8), np.uint8))
    for name, mode in (("a", "L"), ("b", "RGB"), ("c", "RGBA"), ("d", "1")):
        grey.convert(mode).save(tmp_path / f"{name}.png")
    with pytest.raises(ConfigError, match=r"\(1, 8, 8\) in .*a.png'; \(3, 8, 8\) in .*b.png'; \(4, 8, 8\) in .*c.png'"):
        PairedFolderDataset(tmp_path).check()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
def test_an_image_that_is_not_finite_is_found_with_its_file(arrays, wrong):
    image = np.ones((4, 5))
    image[1, 2:4] = wrong
    np.save(arrays / "images" / "c.npy", image)
    for options in ({}, {"resize": 3}):
        with pytest.raises(ConfigError, match=r"1 of 3 .*\nsample 2 \('c'\): 2 of 20 values are NaN .*images.c.npy'"):
            paired(arrays, **options).check()


def test_the_channel_that_is_not_finite_is_named_and_binarise_is_a_finite_number(arrays):
    np.save(arrays / "images" / "b.npy", np.full((4, 5), np.nan))
    files = [arrays / "images" / f"{name}.npy" for name in "abc"]
    with pytest.raises(ConfigError, match="20 of 20 values are NaN or infinite: '.*b.npy'"):
        CaseDataset([Case("one", tuple(files))]).check()
    for threshold in (True, np.nan, np.inf, "127"):
        with pytest.raises(ConfigError, match="binarise must be a finite number"):
            paired(arrays, binarise=threshold)


def test_numbers_of_numpy_are_numbers_and_masks_of_booleans_are_classes(arrays):
    dataset = paired(arrays, binarise=np.float32(0.5), resize=(np.int64(2), np.int32(5)))
    assert dataset[np.int64(2)]["data"].shape == (1, 2, 5)
    assert [int(sample["label"].max()) for sample in dataset] == [0, 1, 1]
    np.save(arrays / "d.npy", np.zeros((4, 5, 2)))
    assert PairedFolderDataset(arrays, channel_axis=np.int64(-1))[0]["data"].shape == (2, 4, 5)
    np.save(arrays / "masks" / "a.npy", np.eye(4, 5) > 0)
    assert paired(arrays)[0]["label"].dtype == np.int64
    assert paired(arrays)[0]["label"].sum() == 4


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))


def write(path, array=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4), np.uint8) if array is None else array, np.eye(4)), path)


@pytest.mark.parametrize(("image", "mask"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_composed_and_decomposed_accents_are_one_name(tmp_path, image, mask):
    write(tmp_path / "imagesTr" / f"{image}_0000.nii.gz")
    write(tmp_path / "labelsTr" / f"{mask}.nii.gz")
    labels = {"labels": {"0": "background", "1": "x"}, "modality": {"0": "CT"}}
    (tmp_path / "dataset.json").write_text(json.dumps(labels))
    assert NNUNetDataset(tmp_path)[0]["name"] == COMPOSED
    entry = {"image": f"imagesTr/{mask}_0000.nii.gz", "label": f"labelsTr/{image}.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({**labels, "training": [entry]}))
    assert DecathlonDataset(tmp_path)[0]["name"] == f"{COMPOSED}_0000"
    for folder, name in (("images", image), ("masks", mask)):
        write(tmp_path / folder / f"{name}.nii.gz")
    dataset = paired(tmp_path)
    assert dataset.names == (COMPOSED,)
    assert dataset[0]["label"].shape == (1, 2, 3, 4)


def test_two_files_of_one_name_are_refused(tmp_path):
    for name in (COMPOSED, DECOMPOSED):
        write(tmp_path / "images" / f"{name}.nii.gz")
        write(tmp_path / "imagesTr" / f"{name}_0000.nii.gz")
    with pytest.raises(ConfigError, match="two files are called"):
        PairedFolderDataset(tmp_path / "images")
    describe(tmp_path)
    with pytest.raises(ConfigError, match="two files are called"):
        NNUNetDataset(tmp_path)


def describe(folder, **more):
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}}
    (folder / "dataset.json").write_text(json.dumps({**described, **more}))


def test_numbers_of_cases_in_a_description_are_compared(tmp_path):
    write(tmp_path / "imagesTr" / "a_0000.nii.gz")
    write(tmp_path / "labelsTr" / "a.nii.gz")
    describe(tmp_path, numTraining=2)
    with pytest.raises(ConfigError, match="numTraining is 2, but there are 1 cases"):
        NNUNetDataset(tmp_path)
    entry = {"image": "imagesTr/a_0000.nii.gz", "label": "labelsTr/a.nii.gz"}
    describe(tmp_path, training=[entry, entry])
    with pytest.raises(ConfigError, match=r"lists images twice: 'imagesTr.a_0000.nii.gz'"):
        DecathlonDataset(tmp_path)
    describe(tmp_path, training=[{**entry, "label": "/nowhere/a.nii.gz"}])
    with pytest.raises(ConfigError, match=r"lists files that are not in .*nowhere/a.nii.gz'"):
        DecathlonDataset(tmp_path)


def test_paths_are_those_of_the_moment_when_the_dataset_was_made(arrays, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(arrays))
    monkeypatch.chdir(arrays)
    cases = [Case("a", (arrays.__class__("images/a.npy"),), arrays.__class__("~/masks/a.npy"))]
    datasets = [PairedFolderDataset("images", "~/masks"), PairedFolderDataset("~/images"), CaseDataset(cases)]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [dataset[0]["data"].shape for dataset in datasets] == [(1, 4, 5)] * 3
    assert datasets[0].info(0)["images"] == (arrays / "images" / "a.npy",)


@pytest.mark.parametrize("array", [np.zeros((0, 4)), np.float32(3), np.zeros((1, 2, 3, 4, 5)), np.eye(3) * 1j])
def test_an_array_that_is_no_image_is_named(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ShapeError, match="a.npy' holds no image"):
        PairedFolderDataset(tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagesTr/b.nii.gz", r"files of other names than CASE_0000.nii.gz in '.*imagesTr'; there are 'b.nii.gz'"),
        ("imagesTr/b_0000.nii", "there are 'b_0000.nii'"),
        ("imagesTr/b_0000.NII.GZ", "there are 'b_0000.NII.GZ'"),
        ("labelsTr/b.nii.gz", "masks without an image in '.*labelsTr': 'b.nii.gz'"),
    ],
)
def test_files_that_nnunet_would_leave_out_are_named(tmp_path, name, message):
    write(tmp_path / "imagesTr" / "a_0000.nii.gz")
    write(tmp_path / "labelsTr" / "a.nii.gz")
    describe(tmp_path)
    for junk in ("imagesTr/Thumbs.db", "imagesTr/._a_0000.nii.gz", "labelsTr/.DS_Store", "labelsTr/notes.txt"):
        (tmp_path / junk).write_bytes(b"junk")
    assert NNUNetDataset(tmp_path).names == ("a",)
    write(tmp_path / "other.nii.gz")
    (tmp_path / name).write_bytes((tmp_path / "other.nii.gz").read_bytes())
    with pytest.raises(ConfigError, match=message):
        NNUNetDataset(tmp_path)
