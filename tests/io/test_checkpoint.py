"""Checkpoints: plain, whole, and never executed."""

import os
import shutil
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple

import numpy as np
import pytest
import safetensors.torch
import torch

from delira_nca.errors import CheckpointError
from delira_nca.io import checkpoint as module
from delira_nca.io import checkpoint_bytes, load_checkpoint, require_disk_space, save_checkpoint, verify_checkpoint

STATE = {
    "epoch": 3,
    "weights": torch.arange(2000.0),
    "nested": {"list": [1, 2.5, None, True, "text"], "tuple": (1, torch.ones(2, dtype=torch.bool)), 7: b"bytes"},
}


def test_a_state_comes_back_as_it_was_and_safetensors_alone_reads_its_tensors(path):
    save_checkpoint(STATE, path)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["weights"], STATE["weights"])
    assert loaded["nested"]["list"] == STATE["nested"]["list"]
    assert isinstance(loaded["nested"]["tuple"], tuple)
    assert loaded["nested"]["tuple"][1].dtype == torch.bool
    assert loaded["nested"][7] == b"bytes"
    assert os.listdir(path.parent) == ["state.safetensors"]
    tensors = safetensors.torch.load_file(path)
    assert sorted(tensors) == ["nested.tuple.1", "weights"]
    assert torch.equal(tensors["weights"], STATE["weights"])


def test_places_of_the_same_name_are_told_apart(path):
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "__metadata__": torch.ones(2)}
    save_checkpoint(state, path)
    loaded = load_checkpoint(path)
    assert (loaded["a.b"], loaded["a"]["b"], len(loaded["__metadata__"])) == (0, 1, 2)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),
        torch.ones(0, 3),
        torch.arange(12.0).reshape(3, 4).t(),
        torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
        torch.ones(3).expand(4, 3),
        torch.tensor([1 + 2j]).conj(),
        torch.tensor([1.5], dtype=torch.bfloat16),
        torch.tensor([1.5]).to(torch.float8_e4m3fn),
        torch.tensor([65535], dtype=torch.uint16),
        torch.eye(3).to_sparse(),
    ],
    ids=lambda t: f"{t.dtype}-{t.layout}-{tuple(t.shape)}",
)
def test_every_kind_of_tensor_comes_back(path, tensor):
    save_checkpoint({"x": tensor}, path)
    loaded = load_checkpoint(path)["x"]
    assert (loaded.dtype, loaded.shape, loaded.layout) == (tensor.dtype, tensor.shape, tensor.layout)
    assert torch.equal(loaded.to_dense().to(torch.complex128), tensor.to_dense().to(torch.complex128))


def test_a_structure_that_no_header_can_hold_is_refused(path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_TEXT", 1000)
    with pytest.raises(CheckpointError, match="put long lists into arrays"):
        save_checkpoint({"scores": list(range(1000))}, path)


def test_scalars_of_numpy_become_python_s(path):
    values = [np.float32(0.5), np.int64(7), np.bool_(True), np.str_("text"), np.complex128(1j)]
    for value, expected in zip(values, [0.5, 7, True, "text", 1j], strict=True):
        save_checkpoint({"x": value, "nested": [value], value if value != 1j else "k": 1}, path)
        loaded = load_checkpoint(path)
        assert (loaded["x"], loaded["nested"]) == (expected, [expected])
        assert type(loaded["x"]) is type(expected)
        assert all(type(key) in (str, int, float, bool) for key in loaded)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool", "complex64", ">f4"])
def test_arrays_keep_their_type_and_values(path, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)[:, ::-1]
    save_checkpoint({"x": array}, path)
    loaded = load_checkpoint(path)["x"]
    assert type(loaded) is np.ndarray
    assert loaded.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(loaded, array)
    loaded[0, 0] = 1  # it can be changed


def test_sets_keep_their_type_and_equal_sets_give_equal_files(path):
    values = [{"b", "a", 3}, frozenset({2, 1}), set()]
    save_checkpoint({"x": values}, path)
    first = path.read_bytes()
    assert load_checkpoint(path)["x"] == values
    assert [type(value) for value in load_checkpoint(path)["x"]] == [set, frozenset, set]
    save_checkpoint({"x": [{3, "a", "b"}, frozenset({1, 2}), set()]}, path)
    assert path.read_bytes() == first


def test_what_is_saved_has_no_graph_and_no_more_than_its_own_values(path):
    parameter = torch.nn.Parameter(torch.ones(1_000_000))
    save_checkpoint({"p": parameter, "part": parameter[:3] * 1, "view": torch.zeros(1_000_000)[:3]}, path)
    loaded = load_checkpoint(path)
    assert type(loaded["p"]) is torch.Tensor
    assert not loaded["p"].requires_grad
    assert not loaded["part"].requires_grad
    assert path.stat().st_size < 4_100_000


class Own(torch.Tensor):
    """A tensor with a type that no file may name."""


class Words(dict):
    """A dict of the user's own."""


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"a": {"b": [1, object()]}}, "state['a']['b'][1] is a object"),
        ({"a": range(2)}, "state['a'] is a range"),
        ({"f": len}, "state['f'] is a builtin_function_or_method"),
        ({"d": torch.float32}, "state['d'] is a dtype"),
        ({"a": [{(1, 2): 3}]}, "state['a'][0] has the key (1, 2)"),
        ({"a": np.array(["x"])}, "state['a'] is an array of <U1"),
        ({"a": [np.array([object()])]}, "state['a'][0] is an array of object"),
        ({"a": np.datetime64("2020-01-01")}, "state['a'] is a date"),
        ({"a": np.longdouble(1)}, "state['a'] is a longdouble"),
        ({"x": np.ma.masked_array([1.0, 2.0], [True, False])}, "state['x'] is a MaskedArray, whose type would be lost"),
        ({"x": torch.ones(2).as_subclass(Own)}, "state['x'] is a Own, whose type would be lost"),
        ({"x": torch.ones(2, device="meta")}, "state['x'] is a tensor on the meta device, which has no values"),
        ({"x": Words(a=1)}, "state['x'] is a Words, whose type would be lost"),
        ({"x": Point(1, 2)}, "state['x'] is a Point, whose type would be lost"),
        ({"x": deque([1, 2])}, "state['x'] is a deque, whose type would be lost"),
        ({"x": defaultdict(lambda: 1)}, "state['x'] is a defaultdict of <function"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_checkpoint_cannot_hold_is_refused_with_its_place_and_nothing_is_written(path, state, place):
    with pytest.raises(CheckpointError) as raised:
        save_checkpoint(state, path)
    assert place in str(raised.value)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_former_file_and_no_other(path, monkeypatch, at):
    save_checkpoint(STATE, path)

    def fail(*args, **kwargs):
        assert any(name.endswith(".tmp") for name in os.listdir(path.parent))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((module, "_drop_from_cache") if at == "write" else (os, at)), fail)
    with pytest.raises(CheckpointError, match="No space left on device") as raised:
        save_checkpoint({"epoch": 4}, path)
    assert str(path) in str(raised.value)
    monkeypatch.undo()
    assert load_checkpoint(path)["epoch"] == 3
    assert os.listdir(path.parent) == ["state.safetensors"]


@pytest.mark.parametrize("place", [0, 70, 5000, -200, -1])
def test_a_disk_that_gives_back_other_bytes_is_found_before_the_former_file_is_replaced(path, monkeypatch, place):
    save_checkpoint(STATE, path)
    fsync = os.fsync

    def spoil(descriptor):
        size = os.fstat(descriptor).st_size
        os.pwrite(descriptor, b"\xff", place % size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*state\.safetensors: read back, it"):
        save_checkpoint({**STATE, "epoch": 4}, path)
    monkeypatch.undo()
    assert load_checkpoint(path)["epoch"] == 3
    assert os.listdir(path.parent) == ["state.safetensors"]


def test_nothing_is_written_without_space_in_the_nearest_folder_and_unknown_space_passes(path, monkeypatch, tmp_path):
    save_checkpoint(STATE, path)
    needed = checkpoint_bytes({"weights": torch.ones(500_000)})
    free = needed - 1
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=free))
    monkeypatch.setattr(module, "replaced", None)
    with pytest.raises(CheckpointError, match=rf"has {free} bytes free, {needed} are needed") as raised:
        save_checkpoint({"weights": torch.ones(500_000)}, path)
    assert str(path.parent) in str(raised.value)
    require_disk_space(path.parent, free)
    monkeypatch.undo()
    assert load_checkpoint(path)["epoch"] == 3
    with pytest.raises(CheckpointError, match=f"{10**18} are needed"):
        require_disk_space(tmp_path / "not" / "yet", 10**18)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(0, 0, 0))
    require_disk_space(tmp_path, 10**18)

    def fail(place):
        raise OSError("not known")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    require_disk_space(tmp_path, 10**18)


@pytest.mark.parametrize("state", [{}, STATE, {"x": torch.zeros(70_001, dtype=torch.uint8), "text": "é" * 999}])
def test_the_size_is_known_exactly_beforehand_and_the_same_state_is_the_same_bytes(path, state):
    save_checkpoint(state, path)
    assert checkpoint_bytes(state) == path.stat().st_size
    save_checkpoint(state, path.with_name("other.pt"))
    assert path.with_name("other.pt").read_bytes() == path.read_bytes()


def test_places_that_cannot_be_written_or_hold_no_file_are_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot write the checkpoint"):
        save_checkpoint(STATE, tmp_path / "file" / "state.safetensors")
    for place in (tmp_path / "no.pt", tmp_path):
        for read in (load_checkpoint, verify_checkpoint):
            with pytest.raises(CheckpointError, match="there is no checkpoint"):
                read(place)


# Types ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Counter({2: 1, 4: 3}),
        OrderedDict([("b", 1), ("a", [Counter(x=1)])]),
        defaultdict(int, {"a": 1}),
        defaultdict(list, {"a": [torch.ones(2)]}),
        defaultdict(None, {1: 2}),
        torch.Size((2, 3)),
        (1, [OrderedDict(a=Counter("ab"))]),
    ],
    ids=str,
)
def test_a_type_of_the_standard_library_comes_back(path, value):
    save_checkpoint({"value": {"deep": [value]}}, path)
    back = load_checkpoint(path)["value"]["deep"][0]
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert getattr(back, "default_factory", 0) is getattr(value, "default_factory", 0)


@pytest.mark.parametrize(
    "value", [["tensor", "x"], {"tensor": "x"}, ["list", [1]], [], {"": {}}, {1: "a", "1": "b", 0.5: "c"}], ids=str
)
def test_a_list_or_dict_that_looks_like_the_description_of_a_value_comes_back(path, value):
    save_checkpoint({"value": value}, path)
    assert load_checkpoint(path)["value"] == value
