import json
import pickle
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading import (
    CachedDataset,
    DataManager,
    DecathlonDataset,
    MedMNISTDataset,
    NNUNetDataset,
    PairedFolderDataset,
)
from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError, ShapeError, UnknownNameError

PHOTO = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
MASK = np.eye(4, 6, dtype=np.uint8) * 2


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0])), path)
    elif path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, array)
    else:
        options = {"quality": 95} if path.suffix == ".jpg" else {}
        Image.fromarray(array).save(path, **options)


@pytest.fixture
def folders(tmp_path):
    for name in ("b", "a", "c"):
        save(tmp_path / "images" / f"{name}.png", PHOTO + ord(name))
        save(tmp_path / "masks" / f"{name}.png", MASK)
    return tmp_path / "images", tmp_path / "masks"


def test_pictures_are_channels_first_in_0_to_1_with_integer_masks_and_names(folders):
    dataset = PairedFolderDataset(*folders)
    assert dataset.names == ("a", "b", "c")
    sample = dataset[1]
    assert sample["data"].dtype == np.float32
    assert np.array_equal(sample["data"], ((PHOTO + ord("b")) / np.float32(255)).transpose(2, 0, 1))
    assert sample["label"].dtype == np.int64
    assert np.array_equal(sample["label"], MASK[None])
    assert dataset.is_deterministic
    with DataManager(dataset, 2, 2) as manager:
        batches = list(manager.get_batchgen())
    assert [batch["name"].tolist() for batch in batches] == [["a", "b"], ["c"]]
    assert batches[0]["name"].dtype.kind == "U"
    assert batches[0]["data"].shape == (2, 3, 4, 6)


def test_names_are_known_without_reading_and_info_tells_the_files(folders):
    dataset = PairedFolderDataset(*folders)
    for path in folders[0].iterdir():
        path.write_bytes(b"no picture")
    assert dataset.get_subset([2, 0]).column("name").tolist() == ["c", "a"]
    assert dataset.info(-1) == {"name": "c", "images": (folders[0] / "c.png",), "label": folders[1] / "c.png"}
    with pytest.raises(MissingFileError, match=r"sample 0 \('a'\): '.*a.png' cannot be read as .png"):
        dataset[0]


@pytest.mark.parametrize("ending", ["npy", "npz", "nii", "nii.gz"])
def test_arrays_keep_their_values_and_get_a_channel(tmp_path, ending):
    volume = np.random.default_rng(0).normal(0, 100, (3, 4, 5)).astype(np.float32)
    save(tmp_path / "images" / f"p.1.{ending}", volume)
    save(tmp_path / "masks" / f"p.1.{ending}", (volume > 0).astype(np.int16))
    dataset = PairedFolderDataset(tmp_path / "images", tmp_path / "masks")
    assert dataset.names == ("p.1",)
    assert np.array_equal(dataset[0]["data"], volume[None])
    assert np.array_equal(dataset[0]["label"], (volume > 0)[None])


def test_channels_are_an_axis_of_arrays_and_the_fourth_of_nifti_which_has_a_place_in_space(tmp_path):
    image = np.arange(24.0).reshape(2, 3, 4)
    save(tmp_path / "masks" / "p.npy", np.ones((1, 3, 4)))
    for axis in (0, -1):
        save(tmp_path / "images" / "p.npy", np.moveaxis(image, 0, axis))
        sample = PairedFolderDataset(tmp_path / "images", tmp_path / "masks", channel_axis=axis)[0]
        assert np.array_equal(sample["data"], image), axis
        assert sample["label"].shape == (1, 3, 4)
    image = np.arange(48.0).reshape(2, 3, 4, 2)
    save(tmp_path / "p.nii.gz", image)
    dataset = PairedFolderDataset(tmp_path)
    assert np.array_equal(dataset[0]["data"], image.transpose(3, 0, 1, 2))
    assert "label" not in dataset[0]
    assert dataset.info(0)["spacing"] == (2, 3, 4)
    assert np.array_equal(dataset.info(0)["affine"], np.diag([2, 3, 4, 1]))


def test_kinds_of_pictures(tmp_path):
    grey16 = np.array([[0, 65535], [13107, 1]], np.uint16)
    save(tmp_path / "a_grey16.png", grey16)
    save(tmp_path / "b_grey.png", MASK)
    Image.fromarray(PHOTO).convert("RGBA").save(tmp_path / "c_rgba.png")
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None)
    palette.putpalette([0, 0, 0, 255, 0, 51])
    palette.save(tmp_path / "d_palette.png")
    a, b, c, d = (sample["data"] for sample in PairedFolderDataset(tmp_path))
    assert np.array_equal(a, (grey16 / np.float32(65535))[None])
    assert b.shape == (1, 4, 6)
    assert np.allclose(b.max(), 2 / 255)
    assert c.shape == (4, 4, 6)
    assert (c[3] == 1).all()
    assert np.allclose(d, np.array([[[0, 1]], [[0, 0]], [[0, 0.2]]]))


def test_palette_of_a_mask_is_its_classes(tmp_path):
    save(tmp_path / "images" / "a.png", PHOTO)
    palette = Image.fromarray(MASK)
    palette.putpalette([0, 0, 0, 9, 9, 9, 255, 0, 0])
    (tmp_path / "masks").mkdir()
    palette.save(tmp_path / "masks" / "a.png")
    assert np.array_equal(PairedFolderDataset(tmp_path / "images", tmp_path / "masks")[0]["label"], MASK[None])


def test_jpeg_masks_are_binarised_and_others_where_it_is_asked(tmp_path):
    wanted = np.zeros((16, 16), np.uint8)
    wanted[:8] = 1
    for name, kind in (("a", "jpg"), ("b", "png")):
        save(tmp_path / "images" / f"{name}.png", np.zeros((16, 16), np.uint8))
        save(tmp_path / "masks" / f"{name}.{kind}", wanted * 255)
    grey_as_rgb = np.repeat(wanted[..., None] * 255, 3, axis=2)
    save(tmp_path / "images" / "c.png", np.zeros((16, 16), np.uint8))
    save(tmp_path / "masks" / "c.jpg", grey_as_rgb)
    plain = PairedFolderDataset(tmp_path / "images", tmp_path / "masks")
    assert [int(sample["label"].max()) for sample in plain] == [1, 255, 1]
    for sample in PairedFolderDataset(tmp_path / "images", tmp_path / "masks", binarise=127):
        assert np.array_equal(sample["label"][0], wanted)


def test_masks_in_colours_of_another_size_or_without_whole_numbers_are_refused(folders):
    save(folders[1] / "b.png", np.repeat(MASK[..., None], 3, axis=2))
    dataset = PairedFolderDataset(*folders)
    assert np.array_equal(dataset[1]["label"], MASK[None])
    save(folders[1] / "b.png", PHOTO)
    with pytest.raises(ConfigError, match="b.png' is a mask in colours"):
        dataset[1]
    save(folders[1] / "b.png", np.zeros((5, 6), np.uint8))
    for resize in (None, 4):
        dataset = PairedFolderDataset(*folders, resize=resize)
        with pytest.raises(ShapeError, match=r"sample 1 \('b'\).*images.b.png' is 4 x 6, '.*masks.b.png' is 5 x 6"):
            dataset.take([0, 1])
    (folders[1] / "a.png").unlink()
    save(folders[1] / "a.npy", np.full((4, 6), 0.5))
    with pytest.raises(ConfigError, match="a.npy' is not a mask of classes: the value 0.5"):
        PairedFolderDataset(*folders)[0]


def test_images_are_averaged_and_masks_never_mixed(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:7, 3:] = 9
    save(tmp_path / "images" / "a.png", mask * 20)
    save(tmp_path / "masks" / "a.png", mask)
    for size in ((4, 4), (3, 5), (16, 11)):
        sample = PairedFolderDataset(tmp_path / "images", tmp_path / "masks", resize=size)[0]
        assert sample["data"].shape == sample["label"].shape == (1, *size)
        assert sample["data"].dtype == np.float32
        assert set(np.unique(sample["label"])) == {0, 9}
    blocks = (mask * 20 / 255).reshape(4, 2, 4, 2).mean((1, 3))
    assert np.allclose(PairedFolderDataset(tmp_path / "images", resize=4)[0]["data"][0], blocks)


def test_resize_in_three_dimensions_and_with_the_wrong_number_of_axes(tmp_path):
    save(tmp_path / "a.npy", np.full((4, 4, 4), 7.0))
    assert np.allclose(PairedFolderDataset(tmp_path, resize=(2, 3, 6))[0]["data"], np.full((1, 2, 3, 6), 7))
    with pytest.raises(ShapeError, match=r"cannot resize 3 axes \(4, 4, 4\) to \(2, 2\)"):
        PairedFolderDataset(tmp_path, resize=2)[0]
    for wrong in (0, (2, 1.5, 2), True):
        with pytest.raises(ConfigError, match="resize"):
            PairedFolderDataset(tmp_path, resize=wrong)


def test_missing_partners_are_listed_by_name_and_folders_without_images_refused(folders):
    save(folders[0] / "d.png", PHOTO)
    (folders[1] / "b.png").unlink()
    save(folders[1] / "e.png", MASK)
    with pytest.raises(ConfigError, match="images without a mask: 'b', 'd'; masks without an image: 'e'"):
        PairedFolderDataset(*folders)
    with pytest.raises(ConfigError, match="there are no images"):
        PairedFolderDataset(folders[0].parent)
    with pytest.raises(MissingFileError, match="nowhere' is not a folder"):
        PairedFolderDataset(folders[0].parent / "nowhere")


def test_files_may_differ_in_their_endings_and_suffixes(tmp_path):
    save(tmp_path / "ann.jpg", PHOTO)
    save(tmp_path / "ann_mask.png", MASK)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".ann.png").write_text("")
    dataset = PairedFolderDataset(tmp_path, tmp_path, label_suffix="_mask")
    assert dataset.names == ("ann",)
    assert np.array_equal(dataset[0]["label"], MASK[None])
    with pytest.raises(ConfigError, match="need image_suffix or label_suffix"):
        PairedFolderDataset(tmp_path, tmp_path)
    save(tmp_path / "ann.png", PHOTO)
    with pytest.raises(ConfigError, match=r"two files are called 'ann': '.*ann.jpg' and '.*ann.png'"):
        PairedFolderDataset(tmp_path, tmp_path, label_suffix="_mask")


@pytest.mark.parametrize("ending", ["png", "jpg", "npy", "npz", "nii", "nii.gz"])
def test_file_that_was_cut_off_is_named(tmp_path, ending):
    file = tmp_path / f"a.{ending}"
    save(file, np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(MissingFileError, match=rf"sample 0 \('a'\): '.*a.{ending}' cannot be read as .{ending}"):
        PairedFolderDataset(tmp_path)[0]


def test_cached_and_pickled_readers_give_the_same_samples_and_check_lists_all_that_is_wrong(folders):
    dataset = PairedFolderDataset(*folders)
    dataset.check()
    expected = dataset.take([2, 0])
    again, cached = pickle.loads(pickle.dumps(dataset)), CachedDataset(dataset)
    assert all(np.array_equal(again.take([2, 0])[key], expected[key]) for key in expected)
    save(folders[1] / "a.png", np.zeros((1, 1), np.uint8))
    (folders[0] / "c.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"(?s)2 of 3 samples cannot be used:\nsample 0 \('a'\).*\nsample 2 \('c'\)"):
        dataset.check()
    assert all(np.array_equal(cached.take([2, 0])[key], expected[key]) for key in expected)


def test_nifti_without_nibabel_says_what_to_install(tmp_path, monkeypatch):
    save(tmp_path / "a.nii", np.zeros((2, 2, 2)))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'delira_nca\[medical\]'"):
        PairedFolderDataset(tmp_path)


def write_nnunet(root, *, ending=".nii.gz", version=2, channels=2, cases=("p01", "p_02")):
    for number, case in enumerate(cases):
        for channel in range(channels):
            image = np.full((2, 3, 4), 10 * number + channel)
            save(root / "imagesTr" / f"{case}_{channel:04d}{ending}", image.astype(np.int16))
        save(root / "labelsTr" / f"{case}{ending}", np.full((2, 3, 4), number, np.uint8))
    names = {str(channel): f"MR{channel}" for channel in range(channels)}
    if version == 2:
        described = {"channel_names": names, "labels": {"background": 0, "lesion": 1}, "file_ending": ending}
    else:
        described = {"modality": names, "labels": {"0": "background", "1": "lesion"}}
    (root / "dataset.json").write_text(json.dumps({**described, "numTraining": len(cases)}))
    return root


@pytest.mark.parametrize("version", [1, 2])
def test_nnunet_layout(tmp_path, version):
    dataset = NNUNetDataset(write_nnunet(tmp_path, version=version))
    assert dataset.names == ("p01", "p_02")
    assert dataset.channel_names == ("MR0", "MR1")
    assert dataset.class_names == {"background": 0, "lesion": 1}
    batch = dataset.take([1, 0])
    assert batch["data"].shape == (2, 2, 2, 3, 4)
    assert batch["data"][:, :, 0, 0, 0].tolist() == [[10, 11], [0, 1]]
    assert batch["label"][:, 0, 0, 0, 0].tolist() == [1, 0]
    assert batch["name"].tolist() == ["p_02", "p01"]


def test_nnunet_test_cases_need_no_masks(tmp_path):
    root = write_nnunet(tmp_path)
    for channel in range(2):
        save(root / "imagesTs" / f"q_{channel:04d}.nii.gz", np.zeros((2, 2, 2), np.int16))
    dataset = NNUNetDataset(root, "test")
    assert dataset.names == ("q",)
    assert "label" not in dataset[0]
    with pytest.raises(UnknownNameError, match="unknown split 'tset'.*Did you mean 'test'"):
        NNUNetDataset(root, "tset")


def test_nnunet_colour_picture_is_one_file(tmp_path):
    root = write_nnunet(tmp_path, channels=3, cases=())
    save(root / "imagesTr" / "road_0000.png", PHOTO)
    save(root / "labelsTr" / "road.png", MASK // 2)
    described = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"no": 0, "road": 1}, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(described))
    assert NNUNetDataset(root)[0]["data"].shape == (3, 4, 6)
    save(root / "imagesTr" / "road_0000.png", PHOTO[..., 0])
    with pytest.raises(ShapeError, match="road_0000.png' has 1 channels, but there should be 3: 'R', 'G', 'B'"):
        NNUNetDataset(root)[0]


def test_nnunet_regions_and_strange_classes(tmp_path):
    root = write_nnunet(tmp_path, ending=".nii.gz", channels=1)
    described = json.loads((root / "dataset.json").read_text())
    described["labels"] = {"background": 0, "whole": [1, 2], "core": 2}
    (root / "dataset.json").write_text(json.dumps(described))
    NNUNetDataset(root).check()
    save(root / "labelsTr" / "p01.nii.gz", np.full((2, 3, 4), 255, np.uint8))
    with pytest.raises(ConfigError, match=r"p01.nii.gz' has the values 255, which are none of the classes 0, 1, 2"):
        NNUNetDataset(root)[0]


@pytest.mark.parametrize(
    ("gone", "error", "message"),
    [
        ("imagesTr/p_02_0001.nii.gz", ConfigError, "missing in .*: 'p_02_0001.nii.gz'; dataset.json names 2 channels"),
        ("labelsTr/p01.nii.gz", ConfigError, "cases without a mask in .*: 'p01'"),
        ("dataset.json", MissingFileError, "no file '.*dataset.json'"),
    ],
)
def test_nnunet_lists_what_is_missing(tmp_path, gone, error, message):
    root = write_nnunet(tmp_path)
    (root / gone).unlink()
    with pytest.raises(error, match=message):
        NNUNetDataset(root)


def test_nnunet_channels_of_different_size_are_refused(tmp_path):
    root = write_nnunet(tmp_path)
    save(root / "imagesTr" / "p01_0001.nii.gz", np.zeros((2, 3, 5), np.int16))
    with pytest.raises(ShapeError, match=r"p01_0001.nii.gz' is 2 x 3 x 5, '.*p01_0000.nii.gz' is 2 x 3 x 4"):
        NNUNetDataset(root)[0]


def write_decathlon(root):
    for number in range(2):
        save(root / "imagesTr" / f"la_{number}.nii.gz", np.full((2, 3, 4, 2), [number, 9], np.float32))
        save(root / "labelsTr" / f"la_{number}.nii.gz", np.full((2, 3, 4), number, np.uint8))
    save(root / "imagesTs" / "la_9.nii.gz", np.zeros((2, 2, 2, 2), np.float32))
    pairs = [
        {part: f"./{folder}/la_{n}.nii.gz" for part, folder in (("image", "imagesTr"), ("label", "labelsTr"))}
        for n in (1, 0)
    ]
    described = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "left atrium"},
        "training": pairs,
        "test": ["./imagesTs/la_9.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(described))
    return root, described


def test_decathlon_layout(tmp_path):
    root, _ = write_decathlon(tmp_path)
    dataset = DecathlonDataset(root)
    assert dataset.names == ("la_1", "la_0")
    assert (dataset.channel_names, dataset.class_names) == (("T2", "ADC"), {"background": 0, "left atrium": 1})
    assert dataset[0]["data"].shape == (2, 2, 3, 4)
    assert dataset[0]["data"][:, 0, 0, 0].tolist() == [1, 9]
    assert dataset[0]["label"].shape == (1, 2, 3, 4)
    assert (dataset[0]["label"] == 1).all()
    test = DecathlonDataset(root, "test", resize=(4, 4, 4))
    assert test[0]["data"].shape == (2, 4, 4, 4)
    assert test[0].keys() == {"data", "name"}


def test_decathlon_refuses_what_does_not_fit_its_description(tmp_path):
    root, described = write_decathlon(tmp_path)
    (root / "labelsTr" / "la_0.nii.gz").unlink()
    with pytest.raises(MissingFileError, match=r"lists files that are not in .*: 'labelsTr/la_0.nii.gz'"):
        DecathlonDataset(root)
    (root / "dataset.json").write_text(json.dumps({**described, "training": ["./imagesTr/la_0.nii.gz"]}))
    with pytest.raises(ConfigError, match="an entry must name image and label"):
        DecathlonDataset(root)
    (root / "dataset.json").write_text(json.dumps({**described, "training": {}}))
    with pytest.raises(ConfigError, match=r"must have training \(a list\)"):
        DecathlonDataset(root)
    (root / "dataset.json").write_text(json.dumps({**described, "modality": {"0": "MR"}}))
    with pytest.raises(ShapeError, match="la_9.nii.gz' has 2 channels, but there should be 1: 'MR'"):
        DecathlonDataset(root, "test")[0]


@pytest.mark.parametrize(
    ("shape", "expected"), [((5, 8, 8), (1, 8, 8)), ((5, 8, 8, 3), (3, 8, 8)), ((5, 8, 8, 8), (1, 8, 8, 8))]
)
def test_medmnist_file(tmp_path, shape, expected):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "m.npz", train_images=images, train_labels=np.array([[3], [1], [4], [1], [5]], np.uint8))
    dataset = MedMNISTDataset(tmp_path / "m.npz")
    sample, batch = dataset[3], dataset.take([4, 3])
    assert sample["data"].shape == expected
    assert sample["data"].dtype == np.float32
    assert np.array_equal(batch["data"][1], sample["data"])
    as_there = np.moveaxis(sample["data"], 0, -1) if expected[0] == 3 else sample["data"][0]
    assert np.allclose(as_there * 255, images[3])
    assert batch["label"].tolist() == [5, 1]
    assert batch["label"].dtype == np.int64
    assert dataset.column("label").tolist() == [3, 1, 4, 1, 5]


def test_medmnist_with_several_labels_and_all_its_parts(tmp_path):
    parts = {}
    for number, split in enumerate(("train", "val", "test"), 1):
        parts[f"{split}_images"] = np.full((number, 4, 4), number * 51, np.uint8)
        parts[f"{split}_labels"] = np.full((number, 3), number)
    np.savez(tmp_path / "chest.npz", **parts)
    for number, split in enumerate(("train", "val", "test"), 1):
        dataset = MedMNISTDataset(tmp_path / "chest.npz", split)
        assert len(dataset) == number
        assert dataset[0]["label"].tolist() == [number] * 3
        assert np.allclose(dataset[0]["data"], number / 5)


def test_medmnist_refuses_other_files(tmp_path):
    file = tmp_path / "m.npz"
    with pytest.raises(MissingFileError, match="no file"):
        MedMNISTDataset(file)
    file.write_bytes(b"text")
    with pytest.raises(MissingFileError, match="cannot be read as .npz"):
        MedMNISTDataset(file)
    np.savez(file, train_images=np.zeros((2, 4, 4), np.uint8), train_labels=[1])
    with pytest.raises(ShapeError, match="for each of the 2 images"):
        MedMNISTDataset(file)
    cut = tmp_path / "cut.npz"
    cut.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(MissingFileError, match=r"cut.npz' cannot be read as .npz"):
        MedMNISTDataset(cut)
    with pytest.raises(UnknownNameError, match="no array 'val_images'"):
        MedMNISTDataset(file, "val")
    with pytest.raises(UnknownNameError, match="unknown split 'valid'.*Did you mean 'val'"):
        MedMNISTDataset(file, "valid")
