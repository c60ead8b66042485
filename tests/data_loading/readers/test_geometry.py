"""Files of one case that lie over each other in space, or do not."""

import json

import nibabel
import numpy as np
import pytest

from delira_nca.data_loading import DecathlonDataset, NNUNetDataset, PairedFolderDataset
from delira_nca.data_loading.readers.geometry import fit
from delira_nca.errors import ConfigError

SHAPE = (8, 6, 4)
AFFINE = np.array([[-0.5, 0, 0, 90], [0, -0.75, 0, 120], [0, 0, 3, -50], [0, 0, 0, 1.0]])
IMAGE = np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.float32)
MASK = (IMAGE > 50).astype(np.uint8)
OBLIQUE = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def turned(array, affine, flips=(), order=(0, 1, 2)):
    """The same volume, stored with other axes."""
    for axis in flips:
        array, step = np.flip(array, axis), np.eye(4)
        step[axis, axis], step[axis, 3] = -1, array.shape[axis] - 1
        affine = affine @ step
    return array.transpose(order), affine[:, [*order, 3]]


def paired(root, mask, affine):
    save(root / "images" / "ann.nii.gz", IMAGE)
    save(root / "masks" / "ann.nii.gz", mask, affine)
    return lambda **options: PairedFolderDataset(root / "images", root / "masks", **options)


def nnunet(root, mask, affine):
    save(root / "imagesTr" / "ann_0000.nii.gz", IMAGE)
    save(root / "labelsTr" / "ann.nii.gz", mask, affine)
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}}
    (root / "dataset.json").write_text(json.dumps(described))
    return lambda **options: NNUNetDataset(root, **options)


def decathlon(root, mask, affine):
    save(root / "i" / "ann.nii.gz", IMAGE)
    save(root / "l" / "ann.nii.gz", mask, affine)
    entry = {"image": "i/ann.nii.gz", "label": "l/ann.nii.gz"}
    described = {"modality": {"0": "CT"}, "labels": {"0": "no", "1": "x"}, "training": [entry]}
    (root / "dataset.json").write_text(json.dumps(described))
    return lambda **options: DecathlonDataset(root, **options)


def moved(**changes):
    affine = AFFINE.copy()
    for (row, column), value in changes.get("at", {}).items():
        affine[row, column] += value
    return affine


ELSEWHERE = {
    "origin": moved(at={(0, 3): 300}),
    "a fifth of a voxel": moved(at={(0, 3): 0.1}),
    "spacing": moved(at={(2, 2): 0.5}),
    "oblique": np.vstack([np.hstack([OBLIQUE @ AFFINE[:3, :3], AFFINE[:3, 3:]]), [0, 0, 0, 1]]),
    "flip without its origin": AFFINE @ np.diag([-1, 1, 1, 1.0]),
    "identity": np.eye(4),
}


@pytest.mark.parametrize("layout", [paired, nnunet, decathlon])
@pytest.mark.parametrize("affine", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_mask_that_lies_elsewhere_is_refused_with_case_file_and_both_geometries(tmp_path, layout, affine):
    make = layout(tmp_path, MASK, affine)
    message = r"sample 0 \('ann'\): '.*ann.nii.gz' does not lie over '.*nii.gz': axes to .*, spacing .* mm, origin "
    for read in (lambda: make()[0], lambda: make().check(), lambda: make(resize=(4, 4, 4))[0]):
        with pytest.raises(ConfigError, match=message + r".*, but axes to LPS, spacing 0.5 x 0.75 x 3 mm"):
            read()
    assert np.array_equal(make(check_geometry=False)[0]["label"][0], MASK)


@pytest.mark.parametrize("layout", [paired, nnunet, decathlon])
@pytest.mark.parametrize(
    ("flips", "order"), [((0,), (0, 1, 2)), ((1, 2), (0, 1, 2)), ((), (2, 1, 0)), ((0, 2), (1, 2, 0))]
)
def test_a_mask_with_other_axes_is_turned_to_its_image(tmp_path, layout, flips, order):
    dataset = layout(tmp_path, *turned(MASK, AFFINE, flips, order))()
    dataset.check()
    assert np.array_equal(dataset[0]["data"][0], IMAGE)
    assert np.array_equal(dataset[0]["label"][0], MASK)


def test_rounded_headers_are_the_same_geometry_and_what_has_no_place_in_space_fits_everything(tmp_path):
    affine = AFFINE * (1 + 5e-5)
    affine[3] = 0, 0, 0, 1
    make = paired(tmp_path, MASK, affine)
    assert np.array_equal(make()[0]["label"][0], MASK)
    (tmp_path / "masks" / "ann.nii.gz").unlink()
    np.save(tmp_path / "masks" / "ann.npy", MASK)
    assert np.array_equal(make()[0]["label"][0], MASK)


def test_channels_of_a_case_are_turned_to_the_first_or_refused(tmp_path):
    save(tmp_path / "imagesTr" / "ann_0000.nii.gz", IMAGE)
    save(tmp_path / "imagesTr" / "ann_0001.nii.gz", *turned(2 * IMAGE, AFFINE, (0,), (1, 0, 2)))
    save(tmp_path / "labelsTr" / "ann.nii.gz", MASK)
    described = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "x": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    assert np.array_equal(NNUNetDataset(tmp_path)[0]["data"], np.stack([IMAGE, 2 * IMAGE]))
    save(tmp_path / "imagesTr" / "ann_0001.nii.gz", IMAGE, ELSEWHERE["origin"])
    with pytest.raises(ConfigError, match=r"ann_0001.nii.gz' does not lie over '.*ann_0000.nii.gz'"):
        NNUNetDataset(tmp_path)[0]


def test_a_header_that_is_not_finite_is_refused_and_a_fourth_axis_stays_the_last(tmp_path):
    save(tmp_path / "a.nii", IMAGE)
    affine = AFFINE.copy()
    affine[0, 3] = np.nan
    save(tmp_path / "b.nii", IMAGE, affine)
    with pytest.raises(ConfigError, match="b.nii' does not lie over"):
        fit(IMAGE, tmp_path / "b.nii", tmp_path / "a.nii")
    stored, affine = turned(MASK, AFFINE, (0,), (1, 0, 2))
    save(tmp_path / "b.nii", stored, affine)
    both = fit(np.stack([stored, 2 * stored], axis=-1), tmp_path / "b.nii", tmp_path / "a.nii")
    assert np.array_equal(both, np.stack([MASK, 2 * MASK], axis=-1))


@pytest.mark.parametrize(("flips", "order"), [((0,), (0, 1, 2)), ((0, 1), (2, 0, 1))])
def test_an_oblique_volume_is_turned_by_its_nearest_axes(tmp_path, flips, order):
    save(tmp_path / "a.nii", IMAGE, ELSEWHERE["oblique"])
    stored, affine = turned(MASK, ELSEWHERE["oblique"], flips, order)
    save(tmp_path / "b.nii", stored, affine)
    assert np.array_equal(fit(stored, tmp_path / "b.nii", tmp_path / "a.nii"), MASK)
