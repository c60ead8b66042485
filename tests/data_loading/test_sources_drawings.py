"""Drawings are targets that an automaton can grow: premultiplied, connected, alike at every size."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from delira_nca.data_loading import growing_dataset
from delira_nca.data_loading.sources import DRAWINGS, dahlia, drawing, load_image, load_target, place
from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError

DRAWN = [name for name in DRAWINGS if name != "dahlia"]


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("size", [8, 29, 40])
def test_drawing_fills_the_longer_side_and_is_premultiplied(name, size):
    target = drawing(name, size)
    assert target.shape == (4, size, size)
    assert target.dtype == np.float32
    assert target.min() >= 0
    assert target.max() <= 1
    assert (target[:3] <= target[3]).all()
    alpha = target[3]
    fills = [bool(line.any()) for line in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])]
    assert all(fills[:2]) or all(fills[2:])


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("size", [28, 36, 40])
def test_drawing_is_one_body_around_the_seed(name, size):
    alive = drawing(name, size)[3] > 0.1
    _, num_bodies = ndimage.label(alive, structure=np.ones((3, 3)))
    assert num_bodies == 1
    assert alive[size // 2, size // 2]  # where make_seed puts the living cell


@pytest.mark.parametrize("name", DRAWN)
def test_drawing_has_the_same_few_flat_colours_with_a_dark_outline_at_every_size(name):
    target = drawing(name, 192)
    for size in (24, 40):
        np.testing.assert_allclose(drawing(name, size).mean(axis=(1, 2)), target.mean(axis=(1, 2)), atol=0.02)
    inside = target[3] == 1
    _, counts = np.unique((target[:3, inside].T * 255).round().astype(int), axis=0, return_counts=True)
    flat = counts > 0.01 * inside.sum()
    assert 3 <= flat.sum() <= 6
    assert counts[flat].sum() > 0.8 * inside.sum()
    alive = target[3] > 0.5
    rim = alive & ~ndimage.binary_erosion(alive, iterations=2)
    assert np.quantile(target[:3, rim].max(axis=0), 0.9) < 0.3


@pytest.mark.parametrize("name", ["butterfly", "star", "turtle", "ladybird"])
def test_symmetric_drawing_is_its_mirror_image(name):
    target = drawing(name, 36)
    np.testing.assert_allclose(target, target[..., ::-1], atol=0.1)


def test_drawing_is_drawn_alike_each_time_and_an_unknown_one_suggests_the_nearest():
    assert np.array_equal(drawing("lizard", 36), drawing("lizard", 36))
    assert np.array_equal(drawing("dahlia", 24), dahlia(24))
    with pytest.raises(UnknownNameError, match=r"unknown drawing 'lizzard'\. Known: .*'turtle'.*Did you mean 'lizard'"):
        drawing("lizzard", 32)


@pytest.mark.parametrize("size", [7, 0, -32, 32.0, True, "32", None])
def test_size_of_a_drawing_is_an_integer_of_at_least_eight(size):
    with pytest.raises(ConfigError, match=f"size must be a whole number of at least 8, not {size!r}"):
        drawing("lizard", size)


# -- by name or from a file ------------------------------------------------------------------------------------------


def test_target_is_a_drawing_or_a_file_of_another_name(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    Image.new("RGBA", (20, 10), (255, 0, 0, 255)).save(path)
    for given in (path, str(path)):
        assert np.array_equal(load_target(given, 24), load_image(path, 24))
    fish = path.rename(path.with_name("fish"))
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(load_target("fish", 24), drawing("fish", 24))
    assert np.array_equal(load_target("./fish", 24), load_image(fish, 24))


def test_misspelt_target_lists_the_drawings_and_a_missing_picture_file_is_named(tmp_path):
    with pytest.raises(UnknownNameError) as error:
        load_target("hart", 24)
    assert str(error.value).startswith("'hart' is neither a drawing nor a file. Known: ")
    assert all(repr(name) in str(error.value) for name in DRAWINGS)
    assert str(error.value).endswith("Did you mean 'heart'?")
    with pytest.raises(MissingFileError, match=r"lizard\.png"):
        load_target(tmp_path / "lizard.png", 24)


def test_samples_are_the_seed_and_the_padded_picture():
    samples = growing_dataset("heart", 16, 4, num_channels=12, times=3)
    assert len(samples) == 3
    assert np.array_equal(samples[2]["label"], place(drawing("heart", 16), 24))
    assert samples[2]["data"].shape == (12, 24, 24)
    assert np.argwhere(samples[2]["data"]).tolist() == [[channel, 12, 12] for channel in range(3, 12)]
    assert np.array_equal(growing_dataset(size=16, padding=0)[0]["label"], dahlia(16))
    for padding in (-1, 1.5, True):
        with pytest.raises(ConfigError, match="padding must be a whole number of at least 0"):
            growing_dataset("heart", 16, padding)


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        ("hart", UnknownNameError, "'hart' is neither a drawing nor a file.*Did you mean 'heart'"),
        ("none.png", MissingFileError, r"none\.png"),
        ("\N{LIZARD}\N{LIZARD}", ConfigError, "is not one emoji"),
    ],
)
def test_picture_that_is_not_there_is_refused(picture, error, message):
    with pytest.raises(error, match=message):
        growing_dataset(picture, 16)


def test_numbers_of_numpy_and_paths_make_the_same_samples(tmp_path, monkeypatch):
    numbers = {"size": np.int64(8), "padding": np.int32(2), "num_channels": np.int64(12), "times": np.int64(2)}
    assert growing_dataset(**numbers)[0]["data"].shape == (12, 12, 12)
    Image.fromarray(np.full((4, 4, 4), 255, np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    for picture in (tmp_path / "a.png", "~/a.png"):
        assert growing_dataset(picture, 4, 0)[0]["label"].min() == 1
