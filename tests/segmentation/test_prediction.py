"""Masks of a folder of images: format, grid and name are those of the image."""

import csv

import nibabel
import numpy as np
import pytest
from PIL import Image

from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.segmentation import Segmenter, case_scores, predict_folder


def test_pictures_get_masks_of_their_size_and_a_table(trained_pictures, tmp_path):
    result, folder = trained_pictures
    cases = predict_folder(result.folder, folder / "images", tmp_path / "out", probabilities=True, doubt=True)
    assert [case.name for case in cases] == [f"case{n}" for n in range(4)]
    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").read_text().splitlines()))
    for case, row in zip(cases, rows, strict=True):
        mask, image = np.array(Image.open(case.mask)), np.array(Image.open(folder / "images" / f"{case.name}.png"))
        assert mask.shape == image.shape
        assert mask.dtype == np.uint8
        assert case.sizes == {1: (mask == 1).sum()}
        assert (row["case"], float(row["size_1"])) == (case.name, case.sizes[1])
        assert float(row["doubt"]) == pytest.approx(case.doubt, rel=1e-4)
        reference = np.array(Image.open(folder / "masks" / f"{case.name}.png"))
        assert case_scores(mask, reference, values=[1])[1]["dice"] > 0.5
        found = np.load(tmp_path / "out" / f"{case.name}_probabilities.npz")["probabilities"]
        assert found.shape == (2, *mask.shape)
        assert np.allclose(found.sum(0), 1, atol=1e-6)
        assert np.array_equal(found.argmax(0), mask)
        assert np.array(Image.open(tmp_path / "out" / f"{case.name}_doubt.png")).shape == mask.shape


def test_the_same_image_gives_the_same_mask_whoever_predicts_it(trained_pictures, tmp_path):
    result, folder = trained_pictures
    [alone] = predict_folder(result.folder, folder / "images" / "case2.png", tmp_path / "alone")
    cases = predict_folder(result.folder, folder / "images", tmp_path / "all")
    assert alone.mask.read_bytes() == cases[2].mask.read_bytes()
    image = np.array(Image.open(folder / "images" / "case2.png"), np.float32)[None] / 255
    found = Segmenter.open(result.folder)(image)
    assert np.array_equal(found.mask, np.array(Image.open(alone.mask)))
    assert found.doubt == alone.doubt


def test_volumes_keep_their_geometry_and_header(trained_volumes, tmp_path):
    result, folder = trained_volumes
    cases = predict_folder(result.folder, folder / "imagesTs", tmp_path / "out")
    assert sorted(case.name for case in cases) == ["anisotropic", "flipped", "oblique", "plain"]
    for case in cases:
        mask, image = nibabel.load(case.mask), nibabel.load(folder / "imagesTs" / f"{case.name}_0000.nii.gz")
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine)
        assert mask.header.get_zooms() == image.header.get_zooms()
        assert mask.header["qform_code"] == image.header["qform_code"]
        assert mask.get_data_dtype() == np.uint8
        values = np.unique(mask.dataobj)
        assert set(values) <= {0, 1, 2}
        voxel = float(np.prod(image.header.get_zooms()))
        assert case.sizes[1] == pytest.approx(voxel * (np.asarray(mask.dataobj) == 1).sum())


def test_images_that_do_not_fit_are_named_while_the_others_are_predicted(trained_pictures, tmp_path):
    result, folder = trained_pictures
    (tmp_path / "new").mkdir()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "new" / "colour.png")
    (tmp_path / "new" / "damaged.png").write_bytes((folder / "images" / "case0.png").read_bytes()[:50])
    (tmp_path / "new" / "good.png").write_bytes((folder / "images" / "case0.png").read_bytes())
    (tmp_path / "new" / "notes.txt").write_text("not an image")
    cases = {case.name: case for case in predict_folder(result.folder, tmp_path / "new", tmp_path / "out")}
    assert set(cases) == {"colour", "damaged", "good"}
    assert "has 3 channels, the model was trained with 1" in cases["colour"].error
    assert cases["damaged"].mask is None
    assert "damaged.png" in cases["damaged"].error
    assert cases["good"].error is None
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "out" / "cases.csv").read_text().splitlines())}
    assert "3 channels" in rows["colour"]["error"]
    assert rows["good"]["error"] == ""


def test_arrays_and_sixteen_bit_masks(trained_pictures, tmp_path):
    result, _ = trained_pictures
    (tmp_path / "new").mkdir()
    np.save(tmp_path / "new" / "array.npy", np.random.default_rng(0).uniform(size=(24, 31)))
    [case] = predict_folder(result.folder, tmp_path / "new", tmp_path / "out", doubt=True)
    assert np.load(case.mask).shape == (24, 31)
    assert np.load(tmp_path / "out" / "array_doubt.npy").dtype == np.float32


def test_wrong_folders_are_refused(trained_pictures, tmp_path):
    result, folder = trained_pictures
    with pytest.raises(ConfigError, match="give them another folder"):
        predict_folder(result.folder, folder / "images", folder / "images")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="there are no images"):
        predict_folder(result.folder, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(MissingFileError, match="neither a folder nor a file"):
        predict_folder(result.folder, tmp_path / "nothing", tmp_path / "out")


def test_an_alarm_is_a_doubt_above_the_threshold_of_the_run(trained_pictures, tmp_path, monkeypatch):
    from delira_nca.segmentation import prediction

    result, folder = trained_pictures
    for threshold, expected in ((0.0, True), (1e9, False), (None, False)):
        monkeypatch.setattr(prediction, "alarm_of", lambda run, value=threshold: value)
        cases = predict_folder(result.folder, folder / "images", tmp_path / str(threshold))
        assert all(case.alarm is expected for case in cases)
