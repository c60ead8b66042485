"""The dataset of an automaton that generates one texture."""

import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading import sources, texture_dataset
from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError


@pytest.fixture
def file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wall.png")
    return tmp_path / "wall.png", pixels


def test_samples_are_a_state_of_zeros_and_the_upper_left_corner_of_the_picture(file):
    path, pixels = file
    samples = texture_dataset(path, 16, num_channels=9, times=3)
    assert len(samples) == 3
    assert samples[2]["data"].shape == (9, 16, 16)
    assert not samples[2]["data"].any()
    label = samples[2]["label"]
    assert label.dtype == np.float32
    assert np.allclose(label[:, 1, 2], pixels[2:4, 4:6].reshape(4, 3).mean(0) / 255, atol=1e-6)
    assert np.array_equal(texture_dataset(path, 40, 1)[0]["label"], pixels[:, :40].transpose(2, 0, 1) / np.float32(255))


@pytest.mark.skipif(not sources.is_here("brick"), reason="scikit-image is not installed")
def test_a_texture_of_scikit_image_fills_the_interval_from_zero_to_one():
    label = texture_dataset(size=512, shrink=1)[0]["label"]
    assert (label.min(), label.max()) == (0, 1)
    assert np.array_equal(label[0], label[2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("brik",), UnknownNameError, "'brik' is neither a texture nor a file.*Did you mean 'brick'"),
        (("none.png",), MissingFileError, r"none\.png.*No such file"),
        ((__file__,), MissingFileError, "it is not a picture that Pillow can read"),
        ((None, 21), ConfigError, r"20 x 30 pixels after the reduction by shrink=2, fewer than size=21"),
        ((None, 0), ConfigError, "size must be a whole number of at least 1"),
        ((None, 8, 0), ConfigError, "shrink must be a whole number of at least 1"),
    ],
)
def test_what_is_no_texture_is_refused(arguments, error, message, file):
    picture, *numbers = arguments
    with pytest.raises(error, match=message):
        texture_dataset(file[0] if picture is None else picture, *numbers)
