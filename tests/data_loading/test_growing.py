"""The dataset of an automaton that grows one picture."""

import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading import growing_dataset
from delira_nca.data_loading.sources import dahlia, drawing, place
from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError


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
