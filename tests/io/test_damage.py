"""Files that are damaged, or made to harm: each is told, and none is believed."""

import contextlib
import io
import os
import re
import struct
import zipfile

import numpy as np
import pytest
import torch

from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint, save_checkpoint, verify_checkpoint

STATE = {"epoch": 3, "weights": torch.arange(2000.0)}
HUGE = b"\x8a\x06" + (10**12).to_bytes(6, "little")
"""The number 10**12 in a pickle."""
NUMEL = b"M\xd0\x07"
"""The number 2000 in a pickle."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.pt"


@pytest.fixture
def sealed(path):
    save_checkpoint(STATE, path)
    return path.read_bytes()


@pytest.fixture
def unsealed():
    content = io.BytesIO()
    torch.save(STATE, content)
    return content.getvalue()


@pytest.fixture
def unreached(monkeypatch):
    """Torch must not see the file: it would believe it."""
    monkeypatch.setattr(torch, "load", None)


def rewritten(content, change=lambda name, data: (name, data), **kwargs):
    """An archive with other entries; ``change`` gives name and content of each."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w", **kwargs) as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return result.getvalue()


def with_pickle(content, change):
    return rewritten(content, lambda name, data: (name, change(data) if name.endswith("data.pkl") else data))


def refused(path, content, reason, *functions):
    path.write_bytes(content)
    for function in functions or (load_checkpoint,):
        with pytest.raises(CheckpointError, match=reason) as raised:
            function(path)
        assert str(raised.value).startswith(f"{path} is no readable checkpoint: ")


@pytest.mark.parametrize("kept", np.linspace(64, 9000, 20).astype(int).tolist())
def test_a_file_that_is_cut_short_says_how_much_is_left(path, sealed, unreached, kept):
    assert len(sealed) > 9000
    refused(
        path, sealed[:kept], f"it is cut short at {kept} of {len(sealed)} bytes", load_checkpoint, verify_checkpoint
    )


@pytest.mark.parametrize("missing", range(1, 40, 3))
def test_a_file_that_lacks_a_few_bytes_says_so_too(path, sealed, unreached, missing):
    refused(path, sealed[:-missing], f"it is cut short at {len(sealed) - missing} of {len(sealed)} bytes")


@pytest.mark.parametrize("kept", [1, 3, 4, 20, 63])
def test_a_file_with_less_than_its_head_is_cut_short(path, sealed, unreached, kept):
    refused(path, sealed[:kept], f"it is cut short at {kept} bytes", load_checkpoint, verify_checkpoint)


def test_an_empty_file_says_so(path, unreached):
    refused(path, b"", "it is empty$", load_checkpoint, verify_checkpoint)


def test_bytes_in_the_middle_that_are_missing_and_bytes_that_are_too_many_are_told(path, sealed, unreached):
    refused(path, sealed[:500] + sealed[600:], f"it is cut short at {len(sealed) - 100} of {len(sealed)} bytes")
    refused(path, sealed + b"x", f"{len(sealed) + 1} bytes are there where {len(sealed)} were written")
    refused(path, sealed[:46] + sealed[64:], "it is cut short or changed")


@pytest.mark.parametrize("part", np.linspace(0, 1, 20).tolist())
@pytest.mark.parametrize("bit", [0, 7])
def test_a_bit_that_flips_is_found(path, sealed, unreached, part, bit):
    content = bytearray(sealed)
    content[round(part * (len(content) - 1))] ^= 1 << bit
    refused(path, bytes(content), "it|its checksum", load_checkpoint, verify_checkpoint)


def test_any_bit_of_a_small_file_that_flips_is_found(path, unreached):
    save_checkpoint({"epoch": 1}, path)
    sealed = path.read_bytes()
    for place in range(len(sealed)):
        content = bytearray(sealed)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="no readable checkpoint"):
            verify_checkpoint(path)


def test_a_byte_of_the_weights_that_changes_is_told_as_a_checksum(path, sealed, unreached):
    place = sealed.index(struct.pack("<f", 1234.0))
    refused(path, sealed[:place] + b"\xff" + sealed[place + 1 :], "its checksum differs")


@pytest.mark.parametrize("kept", [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999])
def test_a_file_without_a_checksum_that_is_cut_short_is_told(path, unsealed, kept):
    size = int(len(unsealed) * kept)
    refused(path, unsealed[:size], f"it is cut short at {size} bytes", load_checkpoint, verify_checkpoint)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_told(path, seed):
    content = np.random.default_rng(seed).bytes(5000)
    refused(path, content, "it is no archive of torch: it begins with b", load_checkpoint, verify_checkpoint)


@pytest.mark.parametrize("seed", range(60))
def test_changed_bytes_of_a_file_without_a_checksum_never_show_an_error_of_torch(path, unsealed, seed):
    generator = np.random.default_rng(seed)
    content = bytearray(unsealed)
    for place in generator.integers(0, 1000 if seed % 2 else len(content), 5):
        content[place] = generator.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        assert isinstance(load_checkpoint(path), dict)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(NUMEL, HUGE), "a tensor declares 4000000000000 bytes, the file holds 8000 for it"),
        (lambda data: data.replace(NUMEL, HUGE, 1), "a tensor declares 4000000000000 bytes, the file holds 8000"),
        (
            lambda data: data.replace(NUMEL, b"\xff").replace(b"\xff", NUMEL, 1).replace(b"\xff", HUGE),
            r"a tensor of shape \(1000000000000,\) declares 4000000000000 bytes, the file holds 8000",
        ),
        (lambda data: data.replace(b"K\x00" + NUMEL, b"K\x01" + NUMEL), r"shape \(2000,\) declares 8004 bytes"),
        (lambda data: data.replace(b"FloatStorage", b"DoubleStorage"), "a tensor declares 16000 bytes"),
        (lambda data: data.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x007"), "it has no entry data/7"),
        (lambda data: data.replace(NUMEL, b"J\xff\xff\xff\xff", 1), "a reference 'storage' that torch never writes"),
    ],
    ids=["both", "storage", "shape", "offset", "type", "missing", "negative"],
)
def test_a_tensor_that_declares_more_than_the_file_holds_is_refused(path, unsealed, unreached, change, reason):
    refused(path, with_pickle(unsealed, lambda data: changed(data, change)), reason)


def changed(data, change):
    assert change(data) != data
    return change(data)


def test_a_shape_that_repeats_its_numbers_without_end_is_refused(path, unreached):
    torch.save({"x": torch.ones(1).expand(10**12)}, path)
    with pytest.raises(
        CheckpointError, match=r"shape \(1000000000000,\) declares 4000000000000 bytes, the file holds 4"
    ):
        load_checkpoint(path)


def calls(function, argument):
    """A pickle of a dict with what a function gives."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00x" + b"c" + function.replace(".", "\n", 1).encode() + b"\n" + argument + b"\x85Rs."
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (calls("builtins.bytearray", HUGE), "it holds a builtins.bytearray"),
        (calls("torch.Tensor", HUGE), "it holds a torch.Tensor"),
        (calls("torch.FloatStorage", HUGE), "it calls torch.FloatStorage"),
        (calls("torch.float32", HUGE), "it calls torch.float32"),
        (calls("os.system", b"X\x04\x00\x00\x00true"), "it holds a os.system: a checkpoint holds tensors and plain"),
        (calls("torch.hub", b"K\x01"), "it holds a torch.hub"),
        (b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b".", "its pickle is damaged: KeyError"),
        (b"\x80\x02}}b.", "it sets attributes"),
        (b"\x80\x02}X\x01\x00\x00\x00xQs.", "its pickle is damaged"),
        (b"\x80\x02}", "its pickle is damaged: EOFError"),
        (b"", "its pickle is damaged: EOFError"),
    ],
)
def test_a_pickle_that_calls_or_allocates_is_refused(path, unsealed, unreached, content, reason):
    refused(path, with_pickle(unsealed, lambda data: content), reason)


def test_a_pickle_that_nests_deeply_is_refused(path, unsealed):
    depth = 200_000
    refused(
        path, with_pickle(unsealed, lambda data: b"\x80\x02" + b"(" * depth + b"." * depth), "its pickle is damaged"
    )


def test_a_file_that_is_much_larger_when_unpacked_is_refused(path, unsealed, unreached):
    content = rewritten(
        unsealed,
        lambda name, data: (name, bytes(50_000_000) if name.endswith("data.pkl") else data),
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(content) < 100_000
    refused(path, content, r"data.pkl' holds 50000000 bytes in \d+: it is compressed, which torch never does")


def test_entries_that_lie_over_one_another_are_refused(path, unsealed, unreached):
    with zipfile.ZipFile(io.BytesIO(unsealed)) as archive:
        infos = archive.infolist()
        big = next(info for info in infos if info.filename.endswith("data/0"))
    directory, count = b"", 50
    for number in range(count):
        name = f"archive/data/{number}".encode()
        directory += struct.pack(
            "<4s6H3L5H2L",
            b"PK\1\2",
            20,
            20,
            0,
            0,
            0,
            0,
            big.CRC,
            8000,
            8000,
            len(name),
            0,
            0,
            0,
            0,
            0,
            big.header_offset,
        )
        directory += name
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(unsealed), 0)
    refused(path, unsealed + directory + end, r"its entries declare 400000 bytes, the file holds \d+")


@pytest.mark.parametrize(
    "name",
    ["archive/../../x", "/etc/passwd", "archive\\data/0", "archive/data//0", "../x", "archive/./x", "x", "archive/a b"],
)
def test_an_entry_with_an_odd_path_is_refused(path, unsealed, unreached, name):
    content = rewritten(unsealed, lambda n, data: (name if n.endswith("/version") else n, data))
    refused(path, content, re.escape(f"its entry {name!r} has a name that torch never writes"))


@pytest.mark.parametrize("name", ["archive/DATA.pkl", "other/x"])
def test_entries_that_a_reader_could_mistake_are_refused(path, unsealed, unreached, name):
    content = rewritten(unsealed, lambda n, data: (name if n.endswith("/version") else n, data))
    refused(path, content, "its archive has entries of the same name, none, or in several folders")


def test_an_archive_of_something_else_is_told(path, unsealed, unreached):
    refused(path, rewritten(unsealed, lambda n, data: (n.replace(".pkl", ".txt"), data)), "it has no data.pkl")
    content = io.BytesIO()
    zipfile.ZipFile(content, "w").close()
    refused(path, content.getvalue(), "it is no archive of torch")


@pytest.mark.parametrize("place", [-22 - 12, -22 - 20 - 56 + 40, -22 - 20 - 56 + 48])
def test_an_archive_whose_directory_could_be_looked_for_in_two_places_is_refused(path, unsealed, unreached, place):
    content = bytearray(unsealed)
    content[place] ^= 1
    refused(path, bytes(content), "its archive is damaged: its (parts do not point|directory does not lie)")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be read")
def test_a_file_that_may_not_be_read_is_told(path, sealed):
    path.chmod(0)
    with pytest.raises(CheckpointError, match="Permission denied"):
        load_checkpoint(path)
