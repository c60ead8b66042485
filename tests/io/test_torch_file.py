"""Files of torch.save, such as the checkpoints of version 0.1: sound ones are read, others are refused."""

import contextlib
import io
import struct
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint, verify_checkpoint

OLD = Path(__file__).parent / "files" / "version_0_1.pt"
STATE = {"epoch": 3, "weights": torch.arange(2000.0)}
HUGE = b"\x8a\x06" + (10**12).to_bytes(6, "little")
"""The number 10**12 in a pickle."""
NUMEL = b"M\xd0\x07"
"""The number 2000 in a pickle."""


@pytest.fixture
def saved():
    content = io.BytesIO()
    torch.save(STATE, content)
    return content.getvalue()


def rewritten(content, change=lambda name, data: (name, data), **kwargs):
    """An archive with other entries; ``change`` gives name and content of each."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w", **kwargs) as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return result.getvalue()


def with_pickle(content, change):
    return rewritten(content, lambda name, data: (name, change(data) if name.endswith("data.pkl") else data))


def test_a_checkpoint_of_version_0_1_is_read():
    verify_checkpoint(OLD)
    state = load_checkpoint(OLD)
    assert state["epoch"] == 3
    assert state["weights"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert state["bf"].dtype == torch.bfloat16
    assert torch.equal(state["sparse"].to_dense(), torch.eye(2))
    kinds = {"c": Counter("aab"), "d": defaultdict(list, a=[1]), "o": OrderedDict(a=(1, 2)), "b": b"xy", "z": 1 + 2j}
    assert all(type(state[key]) is type(value) and state[key] == value for key, value in kinds.items())
    assert state["u"].tolist() == [65535]
    assert np.isnan(state["x"])


def test_a_checkpoint_of_version_0_1_with_a_bit_that_flipped_is_refused(path):
    saved = OLD.read_bytes()
    for place in range(0, len(saved), 7):
        content = bytearray(saved)
        content[place] ^= 1
        path.write_bytes(content)
        try:
            load_checkpoint(path)
        except CheckpointError:
            continue
        assert place >= saved.rindex(b"PK\5\6")  # it has lost its seal, and is read like any other file of torch


def test_a_file_that_torch_alone_wrote_is_read(path):
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state = {"network": network.state_dict(), "weight": network[0].weight, "part": torch.arange(100)[3:7]}
    more = {"shape": torch.Size([1]), "type": torch.float32, "device": torch.device("cpu"), "none": torch.ones(0, 3)}
    torch.save({**state, **more, "view": torch.arange(6).reshape(2, 3).t()}, path)
    verify_checkpoint(path)
    loaded = load_checkpoint(path)
    assert isinstance(loaded["network"], OrderedDict)
    assert torch.equal(loaded["weight"], network[0].weight)
    assert loaded["part"].tolist() == [3, 4, 5, 6]
    assert loaded["view"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert (loaded["shape"], loaded["type"], loaded["none"].shape) == ((1,), torch.float32, (0, 3))


@pytest.mark.parametrize("content", [torch.ones(2), [1, 2], "text"], ids=["tensor", "list", "text"])
def test_a_file_of_something_else_is_refused(path, content):
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="not the state of a run"):
        load_checkpoint(path)


def test_a_file_that_is_cut_short_or_changed_never_shows_another_error(refused, saved, path):
    for kept in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999):
        refused(saved[: int(len(saved) * kept)], "it is cut short or damaged")
    for seed in range(60):
        generator = np.random.default_rng(seed)
        content = bytearray(saved)
        for place in generator.integers(4, 1000 if seed % 2 else len(content), 5):
            content[place] = generator.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(CheckpointError):
            assert isinstance(load_checkpoint(path), dict)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(NUMEL, HUGE), "a tensor declares 4000000000000 bytes, the file holds 8000 for it"),
        (
            lambda data: data.replace(NUMEL, b"\xff").replace(b"\xff", NUMEL, 1).replace(b"\xff", HUGE),
            r"a tensor of shape \(1000000000000,\) declares 4000000000000 bytes, the file holds 8000",
        ),
        (lambda data: data.replace(b"K\x00" + NUMEL, b"K\x01" + NUMEL), r"shape \(2000,\) declares 8004 bytes"),
        (lambda data: data.replace(b"FloatStorage", b"DoubleStorage"), "a tensor declares 16000 bytes"),
        (lambda data: data.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x007"), "it has no 'data/7'"),
        (lambda data: data.replace(NUMEL, b"J\xff\xff\xff\xff", 1), "a reference 'storage' that torch never writes"),
    ],
    ids=["storage", "shape", "offset", "type", "missing", "negative"],
)
def test_a_tensor_that_declares_more_than_the_file_holds_is_refused(refused, saved, change, reason):
    def changed(data):
        assert change(data) != data
        return change(data)

    refused(with_pickle(saved, changed), reason)


def test_a_shape_that_repeats_its_numbers_without_end_is_refused(path, refused):
    torch.save({"x": torch.ones(1).expand(10**12)}, path)
    refused(path.read_bytes(), r"shape \(1000000000000,\) declares 4000000000000 bytes, the file holds 4")


def calls(function, argument):
    """A pickle of a dict with what a function gives."""
    name = function.replace(".", "\n", 1).encode()
    return b"\x80\x02}X\x01\x00\x00\x00x" + b"c" + name + b"\n" + argument + b"\x85Rs."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (calls("builtins.bytearray", HUGE), "it holds a builtins.bytearray"),
        (calls("torch.Tensor", HUGE), "it holds a torch.Tensor"),
        (calls("torch.FloatStorage", HUGE), "'torch.dtype' object is not callable"),
        (calls("os.system", b"X\x04\x00\x00\x00true"), "it holds a os.system: a checkpoint holds tensors and plain"),
        (calls("torch.hub", b"K\x01"), "it holds a torch.hub"),
        (b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b".", "damaged: unknown opcode|has no"),
        (b"\x80\x02}}b.", "it sets attributes"),
        (b"\x80\x02}X\x01\x00\x00\x00xQs.", "damaged"),
        (b"\x80\x02}", "damaged: EOFError"),
        (b"\x80\x02" + b"(" * 200_000 + b"." * 200_000, "damaged"),
    ],
    ids=range(10),
)
def test_a_pickle_that_calls_allocates_or_is_broken_is_refused(refused, saved, content, reason):
    refused(with_pickle(saved, lambda data: content), reason)


def test_lists_of_lists_of_lists_take_no_more_memory_than_the_file(path, saved):
    level = b"(" + b"h\x00" * 10 + b"tq\x00"  # a tuple of ten times the one before it
    bomb = b"\x80\x02}X\x01\x00\x00\x00x](" + b"]q\x00" + level * 60 + b"es."
    path.write_bytes(with_pickle(saved, lambda data: bomb))
    assert len(load_checkpoint(path)["x"]) == 61


def test_archives_that_are_compressed_lie_about_their_size_or_hold_something_else_are_refused(refused, saved):
    content = rewritten(
        saved,
        lambda name, data: (name, bytes(50_000_000) if name.endswith("data.pkl") else data),
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(content) < 100_000
    refused(content, "an entry of its archive is compressed, which torch never does")
    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        big = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
    directory, count = b"", 50
    for number in range(count):
        name = f"archive/data/{number}".encode()
        sizes = (big.CRC, 8000, 8000, len(name), 0, 0, 0, 0, 0, big.header_offset)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, *sizes) + name
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(saved), 0)
    refused(saved + directory + end, r"its entries declare more bytes than the \d+ of the file")
    refused(rewritten(saved, lambda n, data: (n.replace(".pkl", ".txt"), data)), "it has no 'data.pkl'")
