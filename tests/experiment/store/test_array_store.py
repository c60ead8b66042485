"""Arrays of a run by name."""

import sys
import zipfile

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError
from delira_nca.experiment.store import ArrayStore


@pytest.fixture
def arrays(tmp_path):
    pytest.importorskip("zarr")
    return ArrayStore(tmp_path / "arrays")


@pytest.mark.parametrize(
    "array",
    [
        np.array([[np.nan, -np.inf], [-0.0, 5e-324]]),
        np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        np.array(3.0, np.float32),
        np.zeros((0, 4), bool),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_an_array_is_read_to_the_last_bit(arrays, array):
    arrays.save("state", array)
    read = arrays.load("state")
    assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_a_tensor_is_an_array_and_attributes_stay_with_it(arrays):
    arrays.save("preview", torch.eye(2, requires_grad=True), attributes={"epoch": 3, "steps": [48, 64]})
    assert arrays.load("preview").tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert arrays.attributes("preview") == {"epoch": 3, "steps": [48, 64]}
    assert arrays.names() == ("preview",)


def test_an_array_is_replaced_only_where_that_is_wanted(arrays):
    arrays.save("state", np.zeros(2))
    with pytest.raises(ConfigError, match="there is an array 'state' already"):
        arrays.save("state", np.ones(2))
    arrays.save("state", np.ones(3), overwrite=True)
    assert arrays.load("state").tolist() == [1.0, 1.0, 1.0]
    arrays.delete("state")
    assert arrays.names() == ()


def test_an_unknown_array_is_told_with_the_nearest_one(arrays):
    arrays.save("preview", np.zeros(2))
    for call in (arrays.load, arrays.attributes, arrays.delete):
        with pytest.raises(MissingFileError, match="no array 'previw' in .*. Known: 'preview'. Did you mean 'preview'"):
            call("previw")


@pytest.mark.parametrize("name", ["", "../outside", "a/b", ".hidden", 3])
def test_an_array_is_named_by_a_word(arrays, name):
    with pytest.raises(ConfigError, match="named by a word"):
        arrays.save(name, np.zeros(2))


def test_objects_are_no_array(arrays):
    with pytest.raises(ConfigError, match="array 'a' is one of numbers, not of object"):
        arrays.save("a", np.array([None]))
    assert arrays.names() == ()


def test_attributes_are_plain(arrays):
    with pytest.raises(ConfigError, match="attributes of array 'a' are no plain values"):
        arrays.save("a", np.zeros(2), attributes={"x": object()})
    assert not arrays.folder.exists()


def test_a_zip_file_of_something_else_is_told(arrays):
    arrays.folder.mkdir()
    with zipfile.ZipFile(arrays.folder / "state.zarr.zip", "w") as file:
        file.writestr("text", "no array")
    with pytest.raises(ConfigError, match="state.zarr.zip cannot be read: "):
        arrays.load("state")


def test_a_damaged_file_is_told(arrays):
    arrays.save("state", np.zeros(2))
    path = arrays.folder / "state.zarr.zip"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConfigError, match="state.zarr.zip cannot be read: it is no zip file"):
        arrays.load("state")


def test_without_zarr_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'delira_nca\[stats\]'"):
        ArrayStore(tmp_path).save("state", np.zeros(2))
    assert list(tmp_path.iterdir()) == []
