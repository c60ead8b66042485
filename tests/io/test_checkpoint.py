"""Checkpoints: plain, whole, and never executed."""

import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint, save_checkpoint

STATE = {
    "epoch": 3,
    "weights": torch.arange(2000.0),
    "nested": {"list": [1, 2.5, None, True, "text"], "tuple": (1, torch.ones(2, dtype=torch.bool)), 7: b"bytes"},
}

LIMITED = """
import resource, sys, torch
from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint, save_checkpoint
path = sys.argv[1]
save_checkpoint({"weights": torch.zeros(100)}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    save_checkpoint({"weights": torch.ones(500_000)}, path)
except CheckpointError as error:
    assert path in str(error), error
else:
    raise SystemExit("saved")
assert load_checkpoint(path)["weights"].tolist() == [0.0] * 100
print("kept")
"""


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.pt"


def test_a_state_comes_back_as_it_was(path):
    save_checkpoint(STATE, path)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["weights"], STATE["weights"])
    assert loaded["nested"]["list"] == STATE["nested"]["list"]
    assert isinstance(loaded["nested"]["tuple"], tuple)
    assert loaded["nested"]["tuple"][1].dtype == torch.bool
    assert loaded["nested"][7] == b"bytes"
    assert os.listdir(path.parent) == ["state.pt"]


def test_torch_alone_loads_it_without_trusting_it(path):
    save_checkpoint(STATE, path)
    assert torch.load(path, weights_only=True)["epoch"] == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.complex128(1j), 1j),
    ],
)
def test_scalars_of_numpy_become_python_s(path, value, expected):
    save_checkpoint({"x": value, "nested": [value], value if value != 1j else "k": 1}, path)
    loaded = torch.load(path, weights_only=True)
    assert (loaded["x"], loaded["nested"]) == (expected, [expected])
    assert type(loaded["x"]) is type(expected)
    assert all(type(key) in (str, int, float, bool) for key in loaded)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool", "complex64"])
def test_arrays_become_tensors_of_their_type(path, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)[:, ::-1]
    save_checkpoint({"x": array}, path)
    loaded = load_checkpoint(path)["x"]
    assert loaded.numpy().dtype == array.dtype
    assert np.array_equal(loaded.numpy(), array)


def test_what_is_saved_has_no_graph_and_no_more_than_its_own_values(path):
    parameter = torch.nn.Parameter(torch.ones(1_000_000))
    save_checkpoint({"p": parameter, "part": parameter[:3] * 1, "view": torch.zeros(1_000_000)[:3]}, path)
    loaded = load_checkpoint(path)
    assert type(loaded["p"]) is torch.Tensor
    assert not loaded["p"].requires_grad
    assert not loaded["part"].requires_grad
    assert path.stat().st_size < 4_100_000


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"a": {"b": [1, object()]}}, "state['a']['b'][1] is a object"),
        ({"a": {1, 2}}, "state['a'] is a set"),
        ({"f": len}, "state['f'] is a builtin_function_or_method"),
        ({"d": torch.float32}, "state['d'] is a dtype"),
        ({"a": [{(1, 2): 3}]}, "state['a'][0] has the key (1, 2)"),
        ({"a": np.array(["x"])}, "state['a'] is an array of <U1"),
        ({"a": [np.array([object()])]}, "state['a'][0] is an array of object"),
        ({"a": np.datetime64("2020-01-01")}, "state['a'] is a date"),
        ({"a": np.longdouble(1)}, "state['a'] is a longdouble"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_refused_with_its_place_and_nothing_is_written(path, state, place):
    with pytest.raises(CheckpointError) as raised:
        save_checkpoint(state, path)
    assert place in str(raised.value)
    assert os.listdir(path.parent) == []


def test_a_save_that_fails_leaves_the_former_file_and_no_other(path, monkeypatch):
    save_checkpoint(STATE, path)

    def fail(value, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match="No space left on device") as raised:
        save_checkpoint({"epoch": 4}, path)
    assert str(path) in str(raised.value)
    assert load_checkpoint(path)["epoch"] == 3
    assert os.listdir(path.parent) == ["state.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
@pytest.mark.parametrize("limit", [0, 100_000])
def test_a_full_disk_leaves_the_former_file_and_no_other(path, limit):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "kept\n", done.stderr
    assert os.listdir(path.parent) == ["state.pt"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot write the checkpoint"):
        save_checkpoint(STATE, tmp_path / "file" / "state.pt")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999])
def test_a_truncated_file_is_told(path, kept):
    save_checkpoint(STATE, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"state\.pt is no readable checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_told(path, seed):
    path.write_bytes(np.random.default_rng(seed).bytes(5000))
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load_checkpoint(path)


def test_a_file_that_is_missing_and_a_folder_are_told(tmp_path):
    for place in (tmp_path / "no.pt", tmp_path):
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            load_checkpoint(place)


@pytest.mark.parametrize("form", ["pickle", "legacy", "zip", "inside"])
def test_a_bomb_is_refused_and_does_not_go_off(path, tmp_path, form):
    mark = tmp_path / "mark"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    elif form == "inside":
        torch.save({"epoch": 1, "callbacks": [Bomb(mark)]}, path)
    else:
        torch.save(Bomb(mark), path, _use_new_zipfile_serialization=form == "zip")
        assert zipfile.is_zipfile(path) is (form == "zip")
    mark.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load_checkpoint(path)
    assert not mark.exists()


def test_the_bomb_of_these_tests_goes_off_elsewhere(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark"))).close()
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [torch.ones(2), [1, 2], "text"])
def test_a_file_of_something_else_is_told(path, content):
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="not the state of a run"):
        load_checkpoint(path)
