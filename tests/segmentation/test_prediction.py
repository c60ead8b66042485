"""Masks of a folder of images: format, grid and name are those of the image."""

import csv

import nibabel
import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading.readers import Case, read_array, read_label
from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.segmentation import Segmenter, case_scores, predict_folder
from delira_nca.segmentation.prediction import _write


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


def names_of(cases):
    return [case.name for case in cases]


def test_names_are_not_shortened_and_no_image_is_lost(trained_pictures, tmp_path):
    result, folder = trained_pictures
    source = (folder / "images" / "case0.png").read_bytes()
    new = tmp_path / "new"
    new.mkdir()
    for name in ("a_0001.png", "a_0002.png", "scan_2021.png"):
        (new / name).write_bytes(source)
    assert names_of(predict_folder(result.folder, new, tmp_path / "one")) == ["a_0001", "a_0002", "scan_2021"]
    Image.open(new / "a_0001.png").save(new / "a_0001.tif")
    cases = {case.name: case for case in predict_folder(result.folder, new, tmp_path / "two")}
    assert "several images of one name: a_0001.png, a_0001.tif" in cases["a_0001"].error
    assert cases["a_0002"].error is None


def test_files_of_several_channels_are_those_of_their_numbers(trained_volumes, tmp_path):
    result, folder = trained_volumes
    new = tmp_path / "new"
    new.mkdir()
    source = (folder / "imagesTs" / "plain_0000.nii.gz").read_bytes()
    for name in ("b_0001", "c_0000"):
        (new / f"{name}.nii.gz").write_bytes(source)
    cases = {case.name: case for case in predict_folder(result.folder, new, tmp_path / "out")}
    assert "end with _0000, _0001, ..., one for each channel, not b_0001.nii.gz" in cases["b"].error
    assert cases["c"].mask.name == "c.nii.gz"
    [alone] = predict_folder(result.folder, new / "c_0000.nii.gz", tmp_path / "alone")
    assert alone.name == "c"


def test_masks_are_not_written_over_other_files(trained_pictures, tmp_path):
    result, folder = trained_pictures
    before = {path: path.read_bytes() for path in (folder / "masks").iterdir()}
    with pytest.raises(ConfigError, match="contains files that are not of a prediction"):
        predict_folder(result.folder, folder / "images", folder / "masks")
    assert {path: path.read_bytes() for path in (folder / "masks").iterdir()} == before
    for _ in range(2):
        predict_folder(result.folder, folder / "images" / "case0.png", tmp_path / "out")


def test_a_volume_in_another_orientation_gets_the_same_mask(trained_volumes, tmp_path):
    result, folder = trained_volumes
    new = tmp_path / "new"
    new.mkdir()
    image = nibabel.load(folder / "imagesTs" / "plain_0000.nii.gz")
    nibabel.save(image, new / "ras_0000.nii.gz")
    turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nibabel.save(turned, new / "turned_0000.nii.gz")
    assert turned.shape != image.shape
    first, second = predict_folder(result.folder, new, tmp_path / "out", doubt=True)
    masks = [nibabel.load(case.mask) for case in (first, second)]
    assert np.array_equal(masks[1].affine, turned.affine)
    assert masks[1].shape == turned.shape
    back = nibabel.as_closest_canonical(masks[1])
    assert np.array_equal(np.asarray(back.dataobj), np.asarray(masks[0].dataobj))
    assert first.sizes == pytest.approx(second.sizes)
    assert first.doubt == second.doubt
    map_ = nibabel.load(tmp_path / "out" / "turned_doubt.nii.gz")
    assert map_.shape == turned.shape


def test_a_volume_of_another_spacing_is_resampled(trained_volumes, tmp_path):
    result, folder = trained_volumes
    spacing = Segmenter.open(result.folder).preprocessing.spacing
    assert spacing is not None
    image = nibabel.load(folder / "imagesTs" / "plain_0000.nii.gz")
    fine = np.asarray(image.dataobj).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    (tmp_path / "new").mkdir()
    nibabel.save(nibabel.Nifti1Image(fine, np.diag([0.5, 0.5, 0.5, 1.0])), tmp_path / "new" / "fine_0000.nii.gz")
    np.save(tmp_path / "new" / "array_0000.npy", fine)
    cases = {case.name: case for case in predict_folder(result.folder, tmp_path / "new", tmp_path / "out")}
    assert nibabel.load(cases["fine"].mask).shape == fine.shape
    assert "no voxel size" in cases["array"].error
    [coarse] = predict_folder(result.folder, folder / "imagesTs" / "plain_0000.nii.gz", tmp_path / "coarse")
    for value, size in coarse.sizes.items():
        assert cases["fine"].sizes[value] == pytest.approx(size, rel=0.3, abs=20)


def test_the_mask_of_a_stack_of_pages_is_such_a_stack(tmp_path):
    pages = [Image.fromarray(np.full((5, 7), number, np.uint8)) for number in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    case = Case("stack", (tmp_path / "stack.tif",))
    (tmp_path / "out").mkdir()
    mask = np.random.default_rng(0).integers(0, 4, (3, 5, 7))
    path = _write(mask, case, tmp_path / "out", "stack")
    assert path.name == "stack.tif"
    np.testing.assert_array_equal(read_label(path), mask)
    doubt = np.random.default_rng(0).random((3, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(read_array(_write(doubt, case, tmp_path / "out", "stack_doubt")), doubt)
