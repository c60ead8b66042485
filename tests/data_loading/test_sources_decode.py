"""Contents of files come out as the values that were put in."""

import gzip
import importlib
import io
import struct

import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading.sources import decode
from delira_nca.errors import ConfigError, MissingDependencyError


def idx_of(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def nifti_of(array, slope=None):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0]))
    if slope is not None:
        image.header.set_slope_inter(slope, 1.0)
    return image.to_bytes()


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4), (0, 5)])
def test_idx_file_gives_its_array(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    read = decode.read_idx(idx_of(array))
    assert read.dtype == np.uint8
    assert np.array_equal(read, array)
    assert read.flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file of unsigned bytes; it begins with nothing"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "begins with 00 00 0d 01"),
        (b"\x1f\x8b\x08\x00", "begins with 1f 8b 08 00"),
        (b"\x00\x00\x08\x02\x00\x00", "not an idx file"),
        (idx_of(np.zeros((2, 3), np.uint8))[:-1], r"idx file of shape \(2, 3\) with 5 values"),
        (idx_of(np.zeros((2, 3), np.uint8)) + b"\x00", r"idx file of shape \(2, 3\) with 7 values"),
    ],
)
def test_what_is_no_idx_file_is_refused(content, message):
    with pytest.raises(ConfigError, match=message):
        decode.read_idx(content)


def test_table_is_whole_numbers_and_a_picture_keeps_its_pixels():
    read = decode.read_table(gzip.compress(b"1,2,3\n4,5,16\n"))
    assert read.dtype == np.int64
    assert read.tolist() == [[1, 2, 3], [4, 5, 16]]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    for array in (pixels, pixels[..., 0]):
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "PNG")
        assert np.array_equal(decode.read_picture(stream.getvalue()), array)


@pytest.mark.parametrize(("dtype", "widened"), [(np.uint16, np.int32), (np.uint8, np.uint8), (np.float32, np.float32)])
def test_tiff_widens_sixteen_bits_only(dtype, widened):
    tifffile = pytest.importorskip("tifffile")
    array = np.random.default_rng(0).integers(0, 256, (3, 5, 4)).astype(dtype) * np.array(
        257 if dtype == np.uint16 else 1, dtype
    )
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack")
    read = decode.read_tiff(stream.getvalue())
    assert read.dtype == widened
    assert np.array_equal(read, array)


def test_nifti_keeps_axes_and_type_and_is_scaled_as_its_header_says():
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    content = nifti_of(array)
    for version in (content, gzip.compress(content)):
        read = decode.read_nifti(version)
        assert read.dtype == np.uint8
        assert read.flags.c_contiguous
        assert np.array_equal(read, array)
    content = nifti_of(np.arange(6, dtype=np.int16).reshape(1, 2, 3), slope=0.5)
    stored = np.frombuffer(content[352:], dtype=np.int16).reshape(1, 2, 3, order="F")
    assert np.array_equal(decode.read_nifti(content), stored * 0.5 + 1)


@pytest.mark.parametrize(
    ("read", "library", "command"),
    [(decode.read_tiff, "tifffile", "pip install tifffile"), (decode.read_nifti, "nibabel", r"delira_nca\[medical\]")],
)
def test_missing_library_is_named_with_the_command_that_brings_it(read, library, command, monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingDependencyError, match=f"{library} is needed.*{command}"):
        read(b"content")
