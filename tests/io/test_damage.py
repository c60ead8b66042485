"""Files that are damaged, or made to harm: each is refused by name."""

import base64
import hashlib
import json
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest
import torch

from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint, save_checkpoint, verify_checkpoint

STATE = {"epoch": 3, "weights": torch.arange(2000.0)}


@pytest.fixture
def saved(path):
    save_checkpoint(STATE, path)
    return path.read_bytes()


def test_a_file_that_is_cut_short_is_refused_and_says_how_much_is_left(refused, saved):
    header = 8 + int.from_bytes(saved[:8], "little")
    for kept in [*range(1, len(saved), 397), *(len(saved) - n for n in range(1, 40))]:
        whole_header = f"cut short at {kept} of {len(saved)} bytes"
        refused(saved[:kept], whole_header if kept >= header else f"cut short at {kept} |it is neither")
    refused(b"", "it is empty$")


def test_bytes_that_are_missing_added_changed_or_random_are_found(refused, saved):
    refused(saved[:900] + saved[1000:], f"it is cut short at {len(saved) - 100} of {len(saved)} bytes")
    refused(saved + b"x", "its checksum differs")
    place = saved.index(struct.pack("<f", 1234.0))
    refused(saved[:place] + b"\xff" + saved[place + 1 :], "its checksum differs")
    for seed in range(10):
        content = np.random.default_rng(seed).bytes(5000)
        refused(content, "neither a checkpoint nor a file of torch.save: it begins with b")


def test_any_bit_that_flips_is_found(path, refused):
    save_checkpoint({"epoch": 1, "weights": torch.ones(3)}, path)
    saved = path.read_bytes()
    for place in range(len(saved)):
        content = bytearray(saved)
        content[place] ^= 1 << place % 8
        refused(bytes(content), "it is|its (header|checksum)", verify_checkpoint)


# Files with a right checksum and a wrong header -----------------------------------------------------------------------


def forged(header, data=b"", state_text=None):
    """A file with a right checksum, of a header and the bytes of its tensors."""
    state = state_text or json.dumps(header.pop("state", {})) + "}"
    text = json.dumps({"format": 2, "sha256": "0" * 64})[:-1] + ', "state": ' + state
    described = json.dumps({"__metadata__": {"delira_nca": text}, **header}, separators=(",", ":")).encode()
    content = len(described).to_bytes(8, "little") + described + data
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def tensor(dtype="F32", shape=(2,), end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, end]}


def test_a_file_made_by_hand_is_read_if_it_holds_a_dict(path):
    path.write_bytes(forged({"state": {"x": ["tensor", "x"]}, "x": tensor()}, struct.pack("<2f", 1, 2)))
    assert load_checkpoint(path)["x"].tolist() == [1, 2]
    path.write_bytes(forged({"state": ["list", []]}))
    with pytest.raises(CheckpointError, match="holds a list, not the state of a run"):
        load_checkpoint(path)


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
def test_a_forged_header_is_refused(refused, header):
    refused(forged(header, bytes(8)), "it|its header does not describe a state", load_checkpoint)


def test_a_header_that_nests_deeply_is_refused(refused):
    refused(forged({}, state_text="[" * 100_000), "its header", load_checkpoint)


def test_a_declared_size_of_terabytes_takes_no_memory(refused):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = tensor(shape=(10**12,), end=4 * 10**12)
    refused(forged({"x": huge}, bytes(8)), "cut short|header", load_checkpoint)
    content = (10**15).to_bytes(8, "little") + base64.b64encode(bytes(300))
    refused(content, "neither a checkpoint")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


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
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)
    assert not mark.exists()


def test_the_bomb_of_these_tests_goes_off_elsewhere(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark"))).close()
    assert (tmp_path / "mark").exists()
