"""Drawings are targets that an automaton can grow: premultiplied, connected, alike at every size."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from delira_nca.data_loading.sources import DRAWINGS, dahlia, drawing, load_image, load_target
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
