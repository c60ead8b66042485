"""Files that are damaged, or made to harm: each is refused by name."""

import base64
import hashlib
import json
import resource
import struct

import numpy as np
import pytest
import torch

from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint, save_checkpoint, verify_checkpoint

STATE = {"epoch": 3, "weights": torch.arange(2000.0)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


@pytest.fixture
def saved(path):
    save_checkpoint(STATE, path)
    return path.read_bytes()


def refused(path, content, reason, *functions):
    path.write_bytes(content)
    for function in functions or (load_checkpoint, verify_checkpoint):
        with pytest.raises(CheckpointError, match=reason) as raised:
            function(path)
        assert str(raised.value).startswith(f"{path} is not a readable checkpoint: ")


def test_a_file_that_is_cut_short_is_refused_and_says_how_much_is_left(path, saved):
    header = 8 + int.from_bytes(saved[:8], "little")
    for kept in [*range(1, len(saved), 397), *(len(saved) - n for n in range(1, 40))]:
        reason = (
            f"cut short at {kept} of {len(saved)} bytes" if kept >= header else f"cut short at {kept} |it is neither"
        )
        refused(path, saved[:kept], reason)


def test_an_empty_file_says_so(path):
    refused(path, b"", "it is empty$")


def test_bytes_that_are_missing_in_the_middle_or_too_many_are_found(path, saved):
    refused(path, saved[:900] + saved[1000:], f"it is cut short at {len(saved) - 100} of {len(saved)} bytes")
    refused(path, saved + b"x", "its checksum differs")


def test_any_bit_that_flips_is_found(path):
    save_checkpoint({"epoch": 1, "weights": torch.ones(3)}, path)
    saved = path.read_bytes()
    for place in range(len(saved)):
        content = bytearray(saved)
        content[place] ^= 1 << place % 8
        refused(path, bytes(content), "it is|its (header|checksum)", verify_checkpoint)


def test_a_byte_of_the_weights_that_changes_is_reported_as_a_checksum(path, saved):
    place = saved.index(struct.pack("<f", 1234.0))
    refused(path, saved[:place] + b"\xff" + saved[place + 1 :], "its checksum differs")


def test_random_bytes_are_refused(path):
    for seed in range(10):
        content = np.random.default_rng(seed).bytes(5000)
        refused(path, content, r"neither a checkpoint nor a file of torch.save: it begins with b")


# Files with a right checksum and a wrong header -----------------------------------------------------------------------


def forged(header, data=b""):
    """A file with a right checksum, of a header and the bytes of its tensors."""
    text = json.dumps({"format": 2, "sha256": "0" * 64, "state": header.pop("state", {})})
    described = json.dumps({"__metadata__": {"delira_nca": text}, **header}, separators=(",", ":")).encode()
    content = len(described).to_bytes(8, "little") + described + data
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def tensor(dtype="F32", shape=(2,), end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, end]}


def test_a_file_made_by_hand_is_read(path):
    path.write_bytes(forged({"state": {"x": ["tensor", "x"]}, "x": tensor()}, struct.pack("<2f", 1, 2)))
    assert load_checkpoint(path)["x"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "header",
    [
        {"x": tensor(shape=(10**12,), end=4 * 10**12)},
        {"x": tensor(shape=(10**12,))},
        {"x": tensor(shape=(2**62, 2**62))},
        {"x": tensor(shape=(-1,))},
        {"x": tensor("F99")},
        {"x": {"dtype": "F32"}},
        {"x": tensor(), "y": tensor()},
        {"state": {"y": ["tensor", "missing"]}, "x": tensor()},
        {"state": {"y": ["sparse", ["tensor", "x"], ["tensor", "x"], [3], True]}, "x": tensor("I32")},
        {"state": {"y": ["complex tensor", 3]}, "x": tensor()},
        {"state": {"y": ["unknown", 3]}, "x": tensor()},
        {"state": {"y": ["defaultdict", "os.system", []]}, "x": tensor()},
        {"state": {"y": ["dict", [[["list", []], 1]]]}, "x": tensor()},
        {"state": {"y": ["bytes", "a"]}, "x": tensor()},
        {"state": {"y": ["Size", ["text"]]}, "x": tensor()},
    ],
    ids=str,
)
def test_a_forged_header_is_refused(path, header):
    refused(path, forged(header, bytes(8)), "it|its header does not describe a state", load_checkpoint)


def test_a_state_that_is_not_a_dict_is_refused(path):
    path.write_bytes(forged({"state": ["list", []]}))
    with pytest.raises(CheckpointError, match="holds a list, not the state of a run"):
        load_checkpoint(path)


def test_a_header_that_nests_deeply_is_refused(path):
    deep = "[" * 100_000
    text = json.dumps({"format": 2, "sha256": "0" * 64, "state": 0})[:-2] + deep
    described = json.dumps({"__metadata__": {"delira_nca": text}}, separators=(",", ":")).encode()
    content = len(described).to_bytes(8, "little") + described
    refused(
        path, content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1), "its header", load_checkpoint
    )


def test_a_declared_size_of_terabytes_takes_no_memory(path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = tensor(shape=(10**12,), end=4 * 10**12)
    refused(path, forged({"x": huge}, bytes(8)), "cut short|header", load_checkpoint)
    content = (10**15).to_bytes(8, "little") + base64.b64encode(bytes(300))
    refused(path, content, "neither a checkpoint")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
