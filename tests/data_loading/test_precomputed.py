import functools

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from delira_nca.data_loading import DataManager, precompute
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError

DATA = {"data": np.random.default_rng(0).random((3, 1, 6, 6)), "label": np.ones((3, 6, 6), bool)}


def distances(label):
    return distance_transform_edt(np.pad(label, 1))[1:-1, 1:-1]


def squares(data):
    squares.calls += 1
    return data**2


squares.calls = 0


def test_the_new_entry_is_what_the_function_returns_and_the_data_stay_as_they_are():
    data = precompute(distances, DATA, "depth", inputs=["label"])
    assert data["depth"].shape == (3, 6, 6)
    assert data["depth"].max() == 3.0
    assert set(DATA) == {"data", "label"}
    assert next(iter(DataManager(data, 3).get_batchgen()))["depth"].shape == (3, 6, 6)
    data = precompute(lambda a, b: torch.as_tensor(a[0] * b), DATA, "product", inputs=("data", "label"))
    assert np.array_equal(data["product"], DATA["data"][:, 0])

    def centre(data):
        data -= data.mean()
        return data

    before = DATA["data"].copy()
    precompute(centre, DATA, "centred")
    assert np.array_equal(DATA["data"], before)


def test_a_file_is_read_instead_of_computing_again(tmp_path):
    first = precompute(squares, DATA, "squares", file=tmp_path / "a.npz")
    calls = squares.calls
    second = precompute(squares, DATA, "squares", file=tmp_path / "a.npz")
    assert squares.calls == calls == 4  # the first sample twice
    assert np.array_equal(first["squares"], second["squares"])


@pytest.mark.parametrize("change", ["data", "type", "function", "version", "key"])
def test_a_stale_file_is_refused(change, tmp_path):
    path = tmp_path / "a.npz"
    precompute(squares, DATA, "squares", file=path)
    data = {**DATA, "data": DATA["data"] + (change == "data")}
    if change == "type":
        data["data"] = data["data"].astype(np.float32)
    function = np.sqrt if change == "function" else squares
    key, version = "other" if change == "key" else "squares", "2" if change == "version" else ""
    with pytest.raises(ConfigError, match=r"a\.npz is stale"):
        precompute(function, data, key, file=path, version=version)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.npz does not contain stored results"):
        precompute(squares, DATA, "squares", file=tmp_path / "a.npz")


@pytest.mark.parametrize("draw", [np.random.rand, torch.rand, np.random.default_rng().random])
def test_a_random_function_is_refused(draw):
    with pytest.raises(ConfigError, match="differ: it must be deterministic"):
        precompute(lambda data: data + np.asarray(draw(1)), DATA, "noise")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"key": "label"}, ConfigError, "the data have an entry 'label' already"),
        ({"inputs": ["lable"]}, UnknownNameError, "Did you mean 'label'"),
        ({"inputs": []}, ShapeError, "same number of samples"),
        ({"function": "sqrt"}, ConfigError, "function"),
        ({"function": lambda data: "text"}, ConfigError, "must return an array of numbers, not 'text'"),
        ({"function": lambda data: np.zeros(round(100 * data.sum()))}, ShapeError, "must have one shape"),
    ],
)
def test_invalid_arguments_are_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        precompute(**{"function": squares, "database": DATA, "key": "squares", **arguments})


class Power:
    def __init__(self, exponent):
        self.exponent = exponent

    def __call__(self, data):
        return data**self.exponent


def power(exponent, data):
    return data**exponent


@pytest.mark.parametrize(
    "make", [Power, lambda exponent: functools.partial(power, exponent)], ids=["object", "partial"]
)
def test_arguments_of_functions_count_as_another_function(tmp_path, make):
    precompute(make(2), DATA, "power", file=tmp_path / "a.npz")
    precompute(make(2), DATA, "power", file=tmp_path / "a.npz")
    with pytest.raises(ConfigError, match="is stale"):
        precompute(make(3), DATA, "power", file=tmp_path / "a.npz")
