"""What the sources give is what was seen when their files were opened and checked."""

import os

import numpy as np
import pytest

from delira_nca.data_loading import sources
from delira_nca.data_loading.dataset import DictDataset

PACKAGES = os.environ.get("DELIRA_NCA_PACKAGES")
"""Folder with the package files of the sources that nothing installs."""


def opened(name, **options):
    """Arrays of a source that is installed here, or whose package file is in the folder of package files."""
    package = sources.describe(name).package
    roots = [root for root in dict.fromkeys((None, PACKAGES)) if sources.is_here(name, root)]
    if not roots:
        pytest.skip(
            f"{name!r} needs {package}: run '{package.fetch}', and set DELIRA_NCA_PACKAGES to the folder that then "
            f"holds {package.archive}"
        )
    return sources.open(name, roots[0], **options)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    digits = opened("digits")
    assert (digits["data"].dtype, digits["label"].dtype) == (np.uint8, np.int64)
    assert np.bincount(digits["label"]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits["data"].sum() == 561718
    expected = load_digits()
    assert np.array_equal(digits["data"][:, 0], expected.images)
    assert np.array_equal(digits["label"], expected.target)
    dataset = DictDataset(digits)
    assert len(dataset) == 1797
    assert dataset[3]["data"].shape == (1, 8, 8)
    assert int(dataset[3]["label"]) == 3


@pytest.mark.parametrize(
    ("name", "total", "corner"),
    [
        ("grass", 30991639, [113, 114, 99, 116]),
        ("gravel", 33173013, [171, 159, 128, 104]),
        ("brick", 29217353, [99, 98, 99, 99]),
    ],
)
def test_textures(name, total, corner):
    texture = opened(name)["data"]
    assert (texture.shape, texture.dtype) == ((1, 512, 512), np.uint8)
    assert texture.sum(dtype=np.int64) == total
    assert texture[0, 0, :4].tolist() == corner


def test_dahlia_and_emoji_are_the_targets_of_that_name():
    assert np.array_equal(opened("dahlia", size=24)["data"], sources.dahlia(24))
    assert opened("dahlia")["data"].shape == (4, 48, 48)
    assert opened("emoji")["data"].shape == (4, 40, 40)
    drawn = opened("emoji", character="\N{BUTTERFLY}", size=24)["data"]
    assert drawn.dtype == np.float32
    assert 0.1 < drawn[3].mean() < 0.9
    if sources.is_here("emoji"):
        assert np.array_equal(drawn, sources.emoji("\N{BUTTERFLY}", 24))


def test_nuclei_are_125_and_51_which_are_said_to_be_computed():
    nuclei = opened("nuclei_2d")
    data, label = nuclei["data"], nuclei["label"]
    assert (data.dtype, label.dtype) == (np.int32, np.int32)
    assert (data.sum(), data.max()) == (8331268, 235)
    numbers = np.unique(label)
    assert (len(numbers) - 1, numbers[-1]) == (125, 183)
    assert (label > 0).sum() == 52226
    assert data[label > 0].mean() > 2.5 * data[label == 0].mean()
    nuclei = opened("nuclei_3d")
    data, label = nuclei["data"], nuclei["label"]
    assert data.shape == label.shape == (1, 31, 61, 57)
    assert (data.sum(), data.min(), data.max()) == (21342435, 104, 375)
    numbers = np.unique(label)
    assert (len(numbers) - 1, numbers[-1]) == (51, 162)
    assert "synthetic" in sources.describe("nuclei_3d").note


@pytest.mark.parametrize(
    ("name", "total", "counts"),
    [
        ("mnist", 1567298545, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("mnist_test", 264923200, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_mnist(name, total, counts):
    mnist = opened(name)
    assert mnist["data"].shape == (sum(counts), 1, 28, 28)
    assert mnist["data"].sum(dtype=np.int64) == total
    assert np.bincount(mnist["label"]).tolist() == counts


def test_mni152_is_exactly_symmetric_and_brightest_in_white_matter():
    pytest.importorskip("nibabel")
    brain = opened("mni152")
    t1, (grey, white) = brain["data"][0], brain["label"]
    assert (t1.shape, t1.dtype, grey.dtype) == ((197, 233, 189), np.uint8, np.uint8)
    sums = [volume.sum(dtype=np.int64) for volume in (t1, grey, white)]
    assert sums == [333468829, 257090788, 170935158]
    for volume in (t1, grey, white):
        assert np.array_equal(volume, volume[::-1])
    assert "mirror" in sources.describe("mni152").note
    assert (grey.astype(int) + white).max() == 255
    assert t1[grey > 127].mean() == pytest.approx(166.4, abs=0.1)
    assert t1[white > 127].mean() == pytest.approx(214.0, abs=0.1)


def test_ch2_has_116_regions_inside_the_head():
    pytest.importorskip("nibabel")
    brain = opened("ch2")
    data, label = brain["data"], brain["label"]
    assert data.shape == label.shape == (1, 181, 217, 181)
    assert data.sum(dtype=np.int64) == 317151210
    counts = np.bincount(label.ravel())
    assert len(counts) == 117
    assert counts.min() > 0
    assert counts[[37, 38, 71, 72, 73, 74, 77, 78]].tolist() == [7469, 7606, 7682, 7941, 7942, 8510, 8700, 8399]
    assert brain["brain"].sum() == 1737193
    for left in (1, 37, 77):  # an odd number lies left of the even one that follows it
        x = [np.nonzero(label[0] == number)[0].mean() for number in (left, left + 1)]
        assert x[0] < 90 < x[1]
    assert not np.array_equal(data, data[:, ::-1])


def test_font_of_another_version_is_taken(tmp_path):
    if not sources.is_here("emoji"):
        pytest.skip("no colour-emoji font here (Debian: fonts-noto-color-emoji)")
    font = sources.check("emoji").files[0]
    other = tmp_path / "another name.ttf"
    other.write_bytes(font.content + b"\x00" * 4)
    found = sources.check("emoji", other)
    assert found.files[0].sha256 != font.sha256
    assert np.array_equal(found.arrays["data"], sources.open("emoji")["data"])
